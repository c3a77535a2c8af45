#!/usr/bin/env bash
# Installs a build to a scratch prefix, moves the tree elsewhere, and uses it as strangers would: a CMake project, a
# pkg-config compile, the program, the manual, the completions, the Python module. Also: the library shows
# only its own symbols.
#
#   tests/install/install_test.sh BUILD SOURCE
set -euo pipefail
build=$(realpath "$1")
source=$(realpath "$2")

unset JSQ_LIBRARY  # the module is to find the library that it was installed with
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix="$scratch/moved here"

fail() {
  echo "install_test.sh: $*" >&2
  exit 1
}
step() { echo "== $*"; }

step "install"
cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/install.log" || { cat "$scratch/install.log"; exit 1; }
mv "$scratch/prefix" "$prefix"
libdir=$(dirname "$(find "$prefix" -name 'libjsq.so')")
for file in bin/jsq include/jsq/jsq.h include/jsq/frame.hpp share/doc/jsq/SPEC.md \
  share/bash-completion/completions/jsq share/zsh/site-functions/_jsq share/fish/vendor_completions.d/jsq.fish; do
  [ -s "$prefix/$file" ] || fail "$file was not installed"
done
[ "$(readlink "$libdir/libjsq.so")" = libjsq.so.0 ] || fail "libjsq.so does not lead to libjsq.so.0"
for header in "$source"/lib/include/jsq/*; do
  cmp "$header" "$prefix/include/jsq/$(basename "$header")"
done
for schema in "$source"/tools/schema/*; do
  cmp "$schema" "$prefix/share/jsq/schema/$(basename "$schema")"
done

step "symbols"
nm -D --defined-only "$libdir/libjsq.so" | awk '{ print $3 }' | sed 's/@.*//' >"$scratch/symbols"
foreign=$(grep -vE '^(jsq_|_ZNK?3jsq|_ZT[ISV]N3jsq)' "$scratch/symbols" || true)
[ -z "$foreign" ] || fail "libjsq.so shows symbols that are not its own:"$'\n'"$foreign"
grep -oE '\bjsq_[a-z_]+\(' "$source/lib/include/jsq/jsq.h" | tr -d '(' | sort -u >"$scratch/declared"
grep '^jsq_' "$scratch/symbols" | sort -u | diff "$scratch/declared" - || fail "the C symbols are not those of jsq.h"

step "a CMake project"
cmake -S "$source/tests/install" -B "$scratch/consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  "-DCMAKE_PREFIX_PATH=$prefix" "-DJSQ_SAMPLES=$source/samples" >"$scratch/configure.log" ||
  { cat "$scratch/configure.log"; exit 1; }
cmake --build "$scratch/consumer" --verbose >"$scratch/build.log" || { cat "$scratch/build.log"; exit 1; }
"$scratch/consumer/minimal_cpp"
"$scratch/consumer/minimal_c"
"$scratch/consumer/training_step"
if cmake -S "$source/tests/install" -B "$scratch/newer" -G Ninja -DJSQ_SAMPLES="$source/samples" \
  "-Djsq_DIR=$libdir/cmake/jsq" -DJSQ_WANTED=0.2 >"$scratch/newer.log" 2>&1; then
  fail "find_package(jsq 0.2) accepted this 0.1"
fi

step "pkg-config"
export PKG_CONFIG_PATH="$libdir/pkgconfig"
[ "$(pkg-config --modversion jsq)" = "$(sed -n 's/^project(jsq VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")" ] ||
  fail "pkg-config and CMakeLists.txt disagree on the version"
pkg-config --cflags --libs jsq >"$scratch/flags"  # a response file: the prefix has a space, which pkg-config escapes
c++ -std=c++20 "$source/samples/minimal.cpp" -o "$scratch/minimal_cpp" "@$scratch/flags"
cc -std=c99 "$source/samples/minimal_c.c" -o "$scratch/minimal_c" "@$scratch/flags" -lm
LD_LIBRARY_PATH="$libdir" "$scratch/minimal_cpp"
LD_LIBRARY_PATH="$libdir" "$scratch/minimal_c"

step "the program"
"$prefix/bin/jsq" --version
"$prefix/bin/jsq" -q compress "$source/samples/resnet20_mid.npy" -o "$scratch/mid.jsq"

step "the Python module"
modules=$(dirname "$(dirname "$(find "$prefix" -path '*/dist-packages/jsq/__init__.py')")")
PYTHONPATH="$modules" JSQ_BIN="$prefix/bin/jsq" JSQ_SOURCE="$source" /usr/bin/python3 -B "$source/tests/python/test_jsq.py" 2>&1 | tail -n 4
PYTHONPATH="$modules" /usr/bin/python3 -B "$source/samples/read_with_python.py" "$scratch/mid.jsq"
PYTHONPATH="$modules" /usr/bin/python3 -B -c 'import jsq, sys; from jsq import _library
print("jsq", jsq.version(), "from", _library.library_path()); sys.exit(sys.argv[1] not in _library.library_path())' "$prefix"

step "the HDF5 filter"
h5="$libdir/jsq/hdf5"
[ -s "$h5/libh5jsq.so" ] || fail "libh5jsq.so was not installed"
/usr/bin/python3 -B -c 'import h5py, numpy, sys
h5py.File(sys.argv[1], "w")["grad"] = numpy.load(sys.argv[2])' "$scratch/flat.h5" "$source/samples/resnet20_mid.npy"
HDF5_PLUGIN_PATH="$h5" h5repack -l CHUNK=269722 -f UD=405,0,1,100 "$scratch/flat.h5" "$scratch/small.h5"
HDF5_PLUGIN_PATH="$h5" h5repack -f NONE "$scratch/small.h5" "$scratch/back.h5"
[ "$(stat -c %s "$scratch/small.h5")" -lt 20000 ] || fail "h5repack did not compress"
"$prefix/bin/jsq" -q compress -m fp32 "$scratch/back.h5" -o "$scratch/back.jsq"

step "without the module that holds HDF5, which is the only part that needs it"
if readelf -d "$prefix/bin/jsq" "$libdir/libjsq.so" | grep -E 'NEEDED.*(hdf5|hwy)'; then fail "programs start with HDF5 or Highway"; fi
mv "$libdir/jsq/jsq_hdf5.so" "$scratch/"
"$prefix/bin/jsq" -q compress "$source/samples/resnet20_mid.npy" -o "$scratch/flat.jsq"
status=0
"$prefix/bin/jsq" -q compress -m fp32 "$scratch/back.h5" -o "$scratch/none.jsq" 2>"$scratch/reason" || status=$?
[ "$status" = 10 ] || fail "exit status $status, expected 10, for an HDF5 dump without the module"
grep -q 'jsq_hdf5.so' "$scratch/reason" || fail "the reason does not name the module: $(cat "$scratch/reason")"
"$prefix/bin/jsq" doctor --json >"$scratch/doctor.json"
[ "$(jq -c '[.checks[] | select(.name == "HDF5") | .usable]' "$scratch/doctor.json")" = '[false]' ] || fail "doctor does not miss HDF5"
mv "$scratch/jsq_hdf5.so" "$libdir/jsq/"

step "the manual"
pages=0
for page in "$prefix"/share/man/man[157]/*; do
  mandoc -T lint -W error "$page" || fail "mandoc finds errors in $(basename "$page")"
  rendered=$(mandoc -T ascii "$page" | col -b)
  [[ $rendered == *NAME* ]] || fail "$(basename "$page") renders without its NAME section"
  pages=$((pages + 1))
done
[ -s "$prefix/share/man/man1/jsq.1" ] || fail "there is no jsq.1"
echo "$pages pages"
bash -n "$prefix/share/bash-completion/completions/jsq"

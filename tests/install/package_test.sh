#!/usr/bin/env bash
# Makes the Debian package of a build and installs, uses and removes it in a root of its own: this machine's files below a
# layer that is thrown away. Needs root and overlay file systems; says so and exits with 77 where it has not.
#
#   tests/install/package_test.sh BUILD SOURCE
set -euo pipefail

fail() {
  echo "package_test.sh: $*" >&2
  exit 1
}
step() { echo "== $*"; }

# Inside the layered root: PACKAGE SOURCE are paths there.
inside() {
  local package=$1 source=$2
  cd /tmp
  step "install"
  dpkg --install "$package" >/dev/null
  dpkg --listfiles jsq >/tmp/files
  step "use"
  jsq --version
  cp "$source/samples/resnet20_mid.npy" .
  jsq -q compress resnet20_mid.npy
  jsq -q test resnet20_mid.npy.jsq --against resnet20_mid.npy
  /usr/bin/python3 -B -c 'import jsq, numpy
frame = jsq.compress(numpy.load("resnet20_mid.npy"), dump="resnet20_mid.npy")
assert frame == open("resnet20_mid.npy.jsq", "rb").read(), "the module and the program disagree"
print("python:", jsq.version(), len(frame), "bytes")'
  pkg-config --cflags --libs jsq >flags
  cc -std=c99 "$source/samples/training_step.c" -o training_step @flags -lm
  ./training_step | tail -n 1
  [ -s /usr/share/man/man1/jsq.1 ] || fail "there is no manual"
  [ -s /usr/share/bash-completion/completions/jsq ] || fail "there is no completion"
  step "remove"
  dpkg --remove jsq >/dev/null
  while read -r path; do
    [ -d "$path" ] || [ ! -e "$path" ] || fail "$path is left behind"
  done </tmp/files
}

if [ "${1-}" = --inside ]; then
  inside "$2" "$3"
  exit 0
fi

build=$(realpath "$1")
source=$(realpath "$2")
for tool in dpkg-shlibdeps cpack; do
  command -v "$tool" >/dev/null || { echo "package_test.sh: skipped: $tool is missing (Debian: dpkg-dev, cmake)"; exit 77; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

step "package"
(cd "$scratch" && cpack --config "$build/CPackConfig.cmake" -B "$scratch/out" >"$scratch/cpack.log" 2>&1) ||
  { cat "$scratch/cpack.log"; exit 1; }
package=$(find "$scratch/out" -maxdepth 1 -name 'jsq_*.deb')
dpkg-deb --info "$package" | grep -E '^ (Package|Version|Architecture|Depends|Recommends):'
dpkg-deb --contents "$package" >"$scratch/contents"
for path in ./usr/bin/jsq ./usr/include/jsq/jsq.h jsq/__init__.py /libjsq.so.0 ./usr/share/man/man1/jsq.1; do
  grep -qF "$path" "$scratch/contents" || fail "$path is not in the package"
done

mkdir "$scratch/layer" "$scratch/root"
# shellcheck disable=SC2016 # expanded by the shell that runs it
layered='set -e
mount -t tmpfs none "$1/layer"
mkdir "$1/layer/upper" "$1/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/layer/upper,workdir=$1/layer/work" "$1/root"
mount -t proc none "$1/root/proc"'
if [ "$(id -u)" -ne 0 ] || ! unshare --mount bash -c "$layered" - "$scratch" 2>"$scratch/mount.log"; then
  cat "$scratch/mount.log" 2>/dev/null || true
  echo "package_test.sh: skipped from here: no layered root, which needs root and overlay file systems"
  exit 77
fi
# shellcheck disable=SC2016 # as above
unshare --mount bash -c "$layered"'
mkdir -p "$1/root/tmp/source"
cp -r "$2/samples" "$1/root/tmp/source"
cp "$3" "$1/root/tmp/package.deb"
cp "$4" "$1/root/tmp/package_test.sh"
chroot "$1/root" bash /tmp/package_test.sh --inside /tmp/package.deb /tmp/source' - "$scratch" "$source" "$package" "$(realpath "$0")"

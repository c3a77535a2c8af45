#!/usr/bin/env bash
# Builds the program with another compiler and without optimisation, and compares their frames and decoded values with those
# of a build: every method, several sizes, real gradients, one and three threads. Takes some ten minutes, so it is a long test.
#
#   tests/compilers/same_bytes.sh BUILD SOURCE
#
# Exit status: 0 all the same, 1 not, 77 clang is missing (then only the build without optimisation is compared).
set -euo pipefail
build=$(realpath "$1")
source=$(realpath "$2")
scratch=${JSQ_COMPILERS_DIR-$(mktemp -d)}  # kept where it is named, so that a second run builds only what changed
mkdir -p "$scratch"
[ -n "${JSQ_COMPILERS_DIR-}" ] || trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "same_bytes.sh: $*" >&2
  exit 1
}

# make NAME CXX FLAGS: builds the program in $scratch/NAME.
make_program() {
  local launcher=()
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  cmake -S "$source" -B "$scratch/$1" -G Ninja -DCMAKE_BUILD_TYPE=None "-DCMAKE_CXX_COMPILER=$2" "-DCMAKE_CXX_FLAGS=$3" \
    -DJSQ_CUDA=OFF -DJSQ_MPI=OFF -DJSQ_BUILD_TESTS=OFF "${launcher[@]}" >"$scratch/$1.log" 2>&1 || { cat "$scratch/$1.log"; fail "$1: cannot configure"; }
  cmake --build "$scratch/$1" --target jsq_program >"$scratch/$1.log" 2>&1 || { tail -n 40 "$scratch/$1.log"; fail "$1: does not build"; }
}

# frames PROGRAM FOLDER: what it makes of the samples.
frames() {
  local jsq=$1 folder=$2 method threads=1
  mkdir -p "$folder"
  for method in $("$jsq" methods --json | jq -r '.methods[].name') jointsq:quant=mid jointsq:alloc=literal rdoq:preset=fast rdoq:preset=best qsgd:coder=elias-dense; do
    for input in resnet20_mid.npy vit2_early.h5; do
      threads=$((threads == 3 ? 1 : 3))
      "$jsq" -q --threads $threads --seed 5 compress -f -m "$method" "$source/samples/$input" -o "$folder/$method.$input.jsq" || fail "$jsq: $method"
      "$jsq" -q --threads $threads decompress -f --to npz "$folder/$method.$input.jsq" -o "$folder/$method.$input.npz"
    done
  done
  for size in -r\ 8 -r\ 1000 -t\ nmse=0.01; do
    for method in jointsq rdoq topk; do
      # shellcheck disable=SC2086 # an option and its value
      "$jsq" -q compress -f -m $method $size "$source/samples/resnet20_mid.npy" -o "$folder/$method${size//[^a-z0-9]/_}.jsq"
    done
  done
  (cd "$folder" && sha256sum -- * | sort -k 2)
}

frames "$build/tools/jsq" "$scratch/frames" >"$scratch/expected"
echo "$(wc -l <"$scratch/expected") files"
compared=0
compare() {
  frames "$scratch/$1/tools/jsq" "$scratch/frames.$1" >"$scratch/found"
  diff "$scratch/expected" "$scratch/found" >"$scratch/difference" || { cat "$scratch/difference"; fail "$1 makes other bytes"; }
  echo "$1: the same bytes"
  compared=$((compared + 1))
}
make_program unoptimised c++ -O0
compare unoptimised
clang=$(command -v clang++-14 || command -v clang++ || true)
if [ -z "$clang" ]; then
  echo "same_bytes.sh: clang is not installed: not compared"
  exit 77
fi
make_program clang "$clang" -O3
compare clang

#!/usr/bin/env bash
# From a fresh checkout to a compressed gradient: installs what is missing, builds jsq into build/, and tours the
# program on two real dumps of samples/, in a temporary folder that is removed at the end.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$root/tools/setup.sh" build
cmake -S "$root" -B "$root/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DJSQ_BUILD_TESTS=OFF
cmake --build "$root/build"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp "$root/samples/resnet20_mid.npy" "$root/samples/vit2_early.h5" "$scratch"
cd "$scratch"

show() {
  printf '\n$ jsq %s\n' "$*"
  "$root/build/tools/jsq" "$@"
}

show --version
show compress --output-dir . resnet20_mid.npy vit2_early.h5
show list resnet20_mid.npy.jsq
show test resnet20_mid.npy.jsq vit2_early.h5.jsq
show analyze --noise resnet20_mid.npy
show list -v --explain-size resnet20_mid.npy.jsq
show compare resnet20_mid.npy -t ratio=8 -t ratio=32 -t ratio=1000
show replay resnet20_mid.npy resnet20_mid.npy resnet20_mid.npy -m topk -m jointsq -t ratio=100 --ef none --ef plain
show aggregate resnet20_mid.npy resnet20_mid.npy -m gqsgd-std -m topk
show simulate resnet20_mid.npy --gradient-bytes 100MB --net 1Gbit,50us
show decompress vit2_early.h5.jsq -o restored.h5
printf '\nDone. The program is %s\n' "$root/build/tools/jsq"

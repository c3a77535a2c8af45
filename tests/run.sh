#!/usr/bin/env bash
# Builds jsq in build/ (Release) and runs every test. The last lines are ctest's own summary. A second run installs
# nothing and rebuilds only what changed.
#
#   tests/run.sh [--long] [--sanitizers | --quick] [CTEST-OPTION...]
#     --long          also the tests labelled long, of which some build the tree again (coverage, other compilers), and
#                     --sanitizers
#     --sanitizers    before that all tests of a build with the address and undefined-behaviour sanitizers in build-asan/,
#                     instead of those of decoders, parsers and the pipeline; tests/CMakeLists.txt names these, and the few
#                     that cannot run there
#     --quick         no build with sanitizers at all: neither that nor the one of tests/threads/run.sh
#     CTEST-OPTION    as for ctest, for instance -L unit
#
# Environment: JSQ_SHARED, a folder with real gradient dumps (gradients/*.npy, *.h5); the project's ../shared when there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

selection=(-LE long)
sanitizers=decoders
while [ $# -gt 0 ]; do
  case $1 in
    --long)
      selection=()
      sanitizers=all
      ;;
    --sanitizers) sanitizers=all ;;
    --quick) sanitizers=none ;;
    *) break ;;
  esac
  shift
done
if [ -z "${JSQ_SHARED-}" ] && [ -d ../shared ]; then
  JSQ_SHARED=$(cd ../shared && pwd)
fi
export JSQ_SHARED=${JSQ_SHARED-}

bash tools/setup.sh build
bash tools/setup.sh test || echo "run.sh: going on; a test that misses its tool skips or says so" >&2

configure=(-G Ninja -DJSQ_WERROR=ON "-DJSQ_SHARED_DIR=$JSQ_SHARED")
if command -v ccache >/dev/null; then
  configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
failed=0
if [ "$sanitizers" != none ]; then
  part=()
  built=(--target decoder_tests)
  if [ "$sanitizers" = all ]; then built=(); else part=(-L decoder); fi
  cmake -S . -B build-asan "${configure[@]}" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1" -DJSQ_SANITIZE=address,undefined,float-cast-overflow -DJSQ_CUDA=OFF
  cmake --build build-asan "${built[@]}"
  # No exit status of jsq, so that a refusal that a test expects is not mistaken for a finding.
  ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:exitcode=99 LSAN_OPTIONS=exitcode=99 \
    ctest --test-dir build-asan -j "${JSQ_TEST_JOBS:-2}" --output-on-failure -LE long "${part[@]}" "$@" || failed=1
  bash tests/threads/run.sh || failed=1
fi

# The CUDA backend is tested on an emulator of the CUDA runtime library, where nvcc and the emulator's sources are there.
emulator=
if [ -f "$JSQ_SHARED/gpuemu/Makefile" ] && { command -v nvcc || [ -x /usr/local/cuda/bin/nvcc ]; } >/dev/null; then
  emulator=$PWD/build/gpuemu
  mkdir -p build
  make -s -C "$JSQ_SHARED/gpuemu" BUILD="$emulator" "$emulator/libcudart.so.13" >/dev/null ||
    { echo "run.sh: the emulator cannot be built; tests of the CUDA backend are skipped" >&2; emulator=; }
fi
configure+=("-DJSQ_GPUEMU=$emulator")
cmake -S . -B build "${configure[@]}" -DCMAKE_BUILD_TYPE=Release -DJSQ_BUILD_TESTS=ON

cmake --build build
ctest --test-dir build -j "${JSQ_TEST_JOBS:-2}" --output-on-failure "${selection[@]}" "$@" || failed=1
exit $failed

#!/usr/bin/env bash
# Looks for data races: builds the library with the thread sanitizer in build-threads/, on the oneTBB of this folder, and runs the tests that
# code, decode, read and add with several threads. A long test.
#
#   tests/threads/run.sh
#
# Exit status: 0 no race, 1 a race or a failed test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
targets=(lib.compress lib.core.pool lib.core.schedule lib.methods.registry_determinism lib.collectives.aggregate capi.capi formats.npy formats.hdf5)
configure=()
if command -v ccache >/dev/null; then configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake -S . -B build-threads -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1" \
  "-DCMAKE_CXX_FLAGS=-I$PWD/tests/threads -Wno-tsan" -DJSQ_SANITIZE=thread -DJSQ_CUDA=OFF -DJSQ_MPI=OFF "${configure[@]}" >/dev/null
cmake --build build-threads --target "${targets[@]}" >build-threads/build.log || { tail -n 40 build-threads/build.log; exit 1; }
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
pattern=$(printf '|%s' "${targets[@]//./\\.}")
ctest --test-dir build-threads -R "^(${pattern:1})$" -j "${JSQ_TEST_JOBS:-2}" --output-on-failure

#!/usr/bin/env bash
# Looks for data races: builds the library with the thread sanitizer in build-threads/, on the oneTBB of this folder, and
# runs the tests that code, decode, read and add with several threads. tests/run.sh calls it.
#
#   tests/threads/run.sh
#
# Exit status: 0 no race, 1 a race or a failed test (printed).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# What runs: a program, and where it has tests that are long and tell nothing more about threads, which of them.
declare -A chosen=(
  [lib.core.schedule]='*' [lib.core.pool]='*' [lib.collectives.aggregate]='*' [capi.capi]='*'
  [lib.compress]='-*RoundTripsTenThousand*:*EveryCombination*:*MeetsErrorTargets*:*SpecialData*'
  [lib.methods.registry_determinism]='*DecodesToTheSame*:*WritesTheSame*'
  [formats.frame_reader]='*' [formats.npy]='*' [formats.hdf5]='*Source*:*GoodHdf5*:*Session*'
)

configure=()
if command -v ccache >/dev/null; then configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake -S . -B build-threads -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1" \
  "-DCMAKE_CXX_FLAGS=-I$PWD/tests/threads -Wno-tsan" -DJSQ_SANITIZE=thread -DJSQ_CUDA=OFF -DJSQ_MPI=OFF "${configure[@]}" >/dev/null
cmake --build build-threads --target "${!chosen[@]}" >build-threads/build.log || { tail -n 40 build-threads/build.log; exit 1; }
ctest --test-dir build-threads -R '^fixtures\.(npy|hdf5)$' --output-on-failure >build-threads/fixtures.log || { cat build-threads/fixtures.log; exit 1; }

export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 JSQ_FIXTURES=$PWD/build-threads/tests/fixtures
failed=0
for program in "${!chosen[@]}"; do
  log=build-threads/$program.log
  if "build-threads/tests/bin/$program" --gtest_brief=1 --gtest_filter="${chosen[$program]}" >"$log" 2>&1; then
    echo "$program: $(sed -n 's/^\[==========\] \([0-9]* tests\).*/\1/p' "$log"), no race"
  else
    failed=1
    echo "$program: a race or a failed test"
    tail -n 80 "$log"
  fi
done
exit $failed

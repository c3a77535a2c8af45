#!/usr/bin/env bash
# How many lines of the decoders and parsers their own tests run: builds the library with gcov's counters in build-coverage/, runs the unit
# tests of what decodes or parses, the golden frames and the fuzz corpora, and prints a table by file (tests/coverage.py). A long test.
#
#   tests/coverage.sh [--lines]     --lines also names the lines that nothing ran
#
# Exit status: 0 at least 95 % of the lines, 1 fewer, 77 gcov is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
least=95
programs='golden\.golden|formats\.[a-z0-9_]+|fuzz\.[a-z_]+|capi\.[a-z_]+|lib\.(core|packers|transforms|collectives)\.[a-z_]+|lib\.compress|lib\.methods\.(registry|registry_damage|registry_options|registry_round_trip|rdoq_damage|rdoq_parameters)|tools\.condition'

command -v gcov >/dev/null || { echo "coverage.sh: skipped: gcov is not installed"; exit 77; }
configure=()
if command -v ccache >/dev/null; then configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake -S . -B build-coverage -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 --coverage" -DJSQ_CUDA=OFF -DJSQ_MPI=OFF "${configure[@]}" >/dev/null
mapfile -t targets < <(ninja -C build-coverage -t targets all | sed -nE "s/^($programs): phony.*/\1/p" | sort -u)
cmake --build build-coverage --target make_seeds "${targets[@]}" >build-coverage/build.log || { tail -n 40 build-coverage/build.log; exit 1; }
find build-coverage -name '*.gcda' -delete
ctest --test-dir build-coverage -j "${JSQ_TEST_JOBS:-2}" -LE long -R "^($programs)$" --output-on-failure >build-coverage/ctest.log || { tail -n 60 build-coverage/ctest.log; exit 1; }
PATH=/usr/bin:$PATH python3 tests/coverage.py build-coverage . --least "$least" "$@"

#!/usr/bin/env bash
# Fuzzes every target, or those named, with libFuzzer (clang), address and undefined-behaviour sanitizers.
#
#   tests/fuzz/campaign.sh SECONDS [TARGET...]
#
# SECONDS of processor time for each target, so that it is as much on a busy machine. Builds in build-fuzz/. Corpora grow
# in build-fuzz/corpus/TARGET from the seeds; findings are kept in build-fuzz/findings/TARGET and printed. Exit 1 when
# there is one. A finding that is fixed goes to tests/fuzz/corpus/TARGET under a name that says what it was; every test
# run replays it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ $# -lt 1 ]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
seconds=$1
shift

clang=$(command -v clang++-14 || command -v clang++)
configure=()
if command -v ccache >/dev/null; then configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
CC=${clang/++/} CXX=$clang cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1" -DJSQ_SANITIZE=address,undefined,float-cast-overflow -DJSQ_FUZZ=ON \
  -DJSQ_CUDA=OFF -DJSQ_MPI=OFF -DJSQ_WERROR=ON "${configure[@]}" >/dev/null
cmake --build build-fuzz --target fuzz_targets
cd build-fuzz
tests/fuzz/make_seeds seeds ../tests/golden/frames ../tests/golden/synthetic ../tests/golden/corrupt 2>/dev/null
PATH=/usr/bin:$PATH python3 ../tests/formats/make_npy_fixtures.py fixtures >/dev/null

if [ $# -eq 0 ]; then
  mapfile -t targets < <(cd tests/bin && printf '%s\n' fuzz.* | sed 's/^fuzz\.//')
else
  targets=("$@")
fi
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

# processor_seconds PID: what it has used so far; nothing once it is gone.
processor_seconds() {
  local fields
  read -r -a fields 2>/dev/null <"/proc/$1/stat" && echo $(((fields[13] + fields[14]) / $(getconf CLK_TCK)))
}

failed=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "findings/$target"
  corpora=("corpus/$target")
  for folder in "seeds/$target" "fixtures/$target" fixtures/bad "../tests/fuzz/corpus/$target"; do
    case $target:$folder in npy:fixtures/bad | npz:fixtures/bad) ;; *:fixtures/bad) continue ;; esac
    if [ -d "$folder" ]; then corpora+=("$folder"); fi
  done
  "tests/bin/fuzz.$target" -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=512 -artifact_prefix="findings/$target/" \
    -print_final_stats=1 "${corpora[@]}" >"findings/$target.log" 2>&1 &
  fuzzer=$!
  used=0
  while now=$(processor_seconds "$fuzzer"); do
    used=$now
    if [ "$used" -ge "$seconds" ]; then kill -USR1 "$fuzzer" 2>/dev/null || true; fi  # it ends after the input at hand
    sleep 1
  done
  if wait "$fuzzer"; then
    echo "$target: $used s, $(sed -n 's/^stat::number_of_executed_units: *//p' "findings/$target.log") inputs, nothing found"
  else
    failed=1
    echo "$target: $used s, $(grep -E 'SUMMARY|ERROR' "findings/$target.log" | tail -1); see build-fuzz/findings/$target.log"
  fi
done
exit $failed

# jsq compare under mpirun: the ranks share the cells, and the first prints what one process alone would print.
bats_require_minimum_version 1.5.0
load helper.bash

mpi() {
  local ranks=$1
  shift
  # Tests often run as root in a container with few cores.
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe --mca btl_vader_single_copy_mechanism none -np "$ranks" "$JSQ_BIN" "$@"
}

needs_mpi() {
  command -v mpirun >/dev/null || skip "mpirun is not installed"
  [ -e "$(dirname "$JSQ_BIN")/jsq_ranks.so" ] || skip "jsq was built without Open MPI"
}

# What does not depend on the machine's mood.
without_speeds() { jq -c 'del(.rows[].encode_mb_per_s, .rows[].decode_mb_per_s)'; }

@test "2 and 3 ranks print the numbers of one process, in its order" {
  needs_mpi
  arguments=(--json --threads 1 compare "$samples/resnet20_mid.npy" "$samples/vit2_early.h5" -m all -t ratio=8 -t ratio=32 --per-tensor)
  jsq "${arguments[@]}" | without_speeds >one.json
  [ "$(jq '.rows | length' one.json)" -gt 100 ]
  for ranks in 2 3; do
    mpi $ranks "${arguments[@]}" >many.json
    without_speeds <many.json | cmp - one.json
  done
}

@test "under mpirun text, conditions and errors are said once, with the same exit status" {
  needs_mpi
  expect "$EXIT_ASSERTION" mpi 2 --threads 1 compare "$samples/resnet20_mid.npy" -m jointsq -m topk -t ratio=8 -t ratio=32 --fail-if 'topk.nmse < 0.3'
  [ "${#lines[@]}" -eq 7 ]
  [ "$(grep -c "holds: topk.nmse" <<<"$stderr")" -eq 1 ]
  dumps make nonfinite bad.npy
  expect "$EXIT_UNSUPPORTED" mpi 2 --threads 1 compare bad.npy -m fp32 -m topk
  [ "$(grep -c "^jsq: " <<<"$stderr")" -eq 1 ]
  expect "$EXIT_USAGE" mpi 2 --threads 1 compare "$samples/resnet20_mid.npy" -m joint
  [ "$(grep -c "did you mean" <<<"$stderr")" -eq 1 ]
  # What the command line alone is wrong about, too.
  expect "$EXIT_USAGE" mpi 3 compare "$samples/resnet20_mid.npy" --nosuch
  [ "$(grep -c "nosuch" <<<"$stderr")" -eq 1 ]
  expect "$EXIT_USAGE" mpi 3 --memory-limit much compare "$samples/resnet20_mid.npy"
  [ "$(grep -c "^jsq: " <<<"$stderr")" -eq 1 ]
  expect 0 mpi 3 compare --help
  [ "$(grep -c "^Usage" <<<"$output")" -eq 1 ]
}

@test "--resume under mpirun goes on with the cells of a run without it" {
  needs_mpi
  dump=$samples/resnet20_mid.npy
  jsq --json --threads 1 compare "$dump" -m jointsq -m topk -t ratio=8 --resume cells.jsonl >/dev/null
  mpi 2 --json --threads 1 compare "$dump" -m jointsq -m topk -m mcgq -t ratio=8 -t ratio=32 --resume cells.jsonl >many.json
  [ "$(jq '.rows | length' many.json)" -eq 6 ]
  jsq --json --threads 1 compare "$dump" -m jointsq -m topk -m mcgq -t ratio=8 -t ratio=32 --resume cells.jsonl >again.json
  cmp many.json again.json
}

@test "a killed rank ends the run with an error" {
  needs_mpi
  mpi 2 --threads 1 compare "$samples/resnet20_mid.npy" -m jointsq -m topk -t ratio=8 -t ratio=32 --repeat 1000 >rows 2>errors &
  run=$!
  # The rank is there once it says who it is.
  victim=
  while [ -z "$victim" ]; do
    kill -0 $run
    for process in /proc/[0-9]*; do
      environment=$(tr '\0' '\n' <"$process/environ" 2>/dev/null) || continue
      if grep -qxF "BATS_TEST_TMPDIR=$BATS_TEST_TMPDIR" <<<"$environment" && grep -qx OMPI_COMM_WORLD_RANK=1 <<<"$environment"; then
        victim=${process#/proc/}
      fi
    done
  done
  kill -KILL "$victim"
  status=0
  wait $run || status=$?
  [ "$status" -ne 0 ]
  grep -qiE "signal 9|killed" errors
}

@test "without its module a program under mpirun says what is missing" {
  command -v mpirun >/dev/null || skip "mpirun is not installed"
  mkdir alone
  cp "$JSQ_BIN" alone/jsq
  libraries=$(ldd "$JSQ_BIN" | sed -n 's/.*=> \(.*libjsq[^ ]*\).*/\1/p' | xargs -n 1 dirname)
  OMPI_COMM_WORLD_SIZE=2 LD_LIBRARY_PATH=$libraries expect "$EXIT_BACKEND" alone/jsq compare "$samples/resnet20_late_fc.weight.npy"
  contains "$stderr" libopenmpi-dev
}

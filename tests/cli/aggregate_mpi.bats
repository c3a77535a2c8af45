# jsq aggregate under mpirun: each process holds a worker, and the mean is that of one process, to the byte.
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

# workers.h5: $1 workers of one step, two tensors.
make_workers() {
  python -c "
import numpy as np, h5py
rng = np.random.default_rng(4)
with h5py.File('workers.h5', 'w') as f:
    for w in range($1):
        f[f'worker{w}/conv'] = (rng.standard_normal((40, 60)) ** 3).astype('<f4')
        f[f'worker{w}/fc'] = rng.standard_normal(600).astype('<f4')"
}

@test "2, 3, 4, 7 and 8 processes make the mean of one, to the byte, with every method" {
  needs_mpi
  methods=()
  for name in $(jsq methods --json | jq -r '.methods[].name'); do methods+=(-m "$name"); done
  for ranks in 2 3 4 7 8; do
    make_workers $ranks
    jsq aggregate --json --threads 1 workers.h5 "${methods[@]}" | jq -c 'del(.processes)' >one.json
    [ "$(jq '.methods | length' one.json)" -eq $((${#methods[@]} / 2)) ]
    mpi $ranks aggregate --json --threads 1 workers.h5 "${methods[@]}" >many.json
    [ "$(jq .processes many.json)" -eq $ranks ]
    holds "$(jq '[.methods[].exchange_seconds] | min' many.json) > 0"
    jq -c 'del(.processes) | .methods[].exchange_seconds = null' many.json | cmp - one.json
  done
}

@test "the written mean is the same file" {
  needs_mpi
  make_workers 7
  # Rounding additions, stochastic ones, sums in floats, whole numbers, and frames.
  for method in fp16 gqsgd-exp powersgd:rank=2 gqsgd-std jointsq; do
    jsq aggregate -q --threads 1 workers.h5 -m $method -f -o one.npz
    mpi 7 aggregate -q --threads 1 workers.h5 -m $method -f -o many.npz --repeat 3
    cmp one.npz many.npz
  done
  no_temporaries
}

@test "what is wrong is said once, with the exit status of one process" {
  needs_mpi
  make_workers 3
  expect "$EXIT_USAGE" mpi 2 aggregate workers.h5
  [ "$(grep -c "mpirun -n 3" <<<"$stderr")" -eq 1 ]
  expect "$EXIT_USAGE" mpi 3 aggregate workers.h5 -m gqsgd-std:bits=2
  [ "$(grep -c "give more bits" <<<"$stderr")" -eq 1 ]
  expect "$EXIT_TARGET" mpi 3 aggregate workers.h5 -m topk -t ratio=1e6
  [ "$(grep -c "^jsq: " <<<"$stderr")" -eq 1 ]
  expect "$EXIT_SOME" mpi 3 aggregate --json workers.h5 -m gqsgd-std:bits=2 -m fp32
  [ "$(jq '.methods | length' <<<"$output")" -eq 1 ]
  python -c "
import h5py, numpy as np
with h5py.File('workers.h5', 'a') as f: f['worker2/fc'][3] = np.nan"
  expect "$EXIT_UNSUPPORTED" mpi 3 aggregate workers.h5 -m fp32
  [ "$(grep -c "worker2: tensor 'fc': element 3" <<<"$stderr")" -eq 1 ]
  expect "$EXIT_MISSING" mpi 3 aggregate nowhere.h5
  [ "$(grep -c "^jsq: " <<<"$stderr")" -eq 1 ]
  echo precious >x.npz
  expect "$EXIT_REFUSED" mpi 3 aggregate workers.h5 -m fp32 -o x.npz
  [ "$(cat x.npz)" = precious ]
}

@test "a killed process ends the run with an error, and nothing is told of it" {
  needs_mpi
  make_workers 3
  # Long enough for the process to be found.
  # shellcheck disable=SC2046
  mpi 3 aggregate workers.h5 $(printf -- '-m fp16 %.0s' {1..200}) --repeat 100000 >rows 2>errors &
  run=$!
  victim=
  while [ -z "$victim" ]; do
    kill -0 $run
    for process in /proc/[0-9]*; do
      environment=$(tr '\0' '\n' <"$process/environ" 2>/dev/null) || continue
      if grep -qxF "BATS_TEST_TMPDIR=$BATS_TEST_TMPDIR" <<<"$environment" && grep -qx OMPI_COMM_WORLD_RANK=2 <<<"$environment"; then
        victim=${process#/proc/}
      fi
    done
  done
  kill -KILL "$victim"
  status=0
  wait $run || status=$?
  [ "$status" -ne 0 ]
  grep -qiE "signal 9|killed" errors
  [ ! -s rows ]
}

# jsq aggregate in one process: the mean of collectives, what it costs, and workers that do not fit together.
bats_require_minimum_version 1.5.0
load helper.bash

# workers.h5: 4 workers of one step, two tensors; w0.npy .. w3.npy: the first tensor of each; run.h5: 3 steps x 4 workers.
make_workers() {
  python -c "
import numpy as np, h5py
rng = np.random.default_rng(4)
g = (rng.standard_normal(3000) ** 3 + rng.standard_normal((3, 4, 3000))).astype('<f4')
with h5py.File('run.h5', 'w') as f: f['grads'] = g
with h5py.File('workers.h5', 'w') as f:
    for w in range(4):
        f[f'worker{w}/conv'] = g[0, w, :2400].reshape(40, 60)
        f[f'worker{w}/fc'] = g[0, w, 2400:]
for w in range(4): np.save(f'w{w}.npy', g[0, w])
np.save('mean.npy', (g[0].astype('f8').sum(0) / 4).astype('<f4'))"
}

@test "without loss the mean is the true mean, whatever the layout" {
  make_workers
  jsq aggregate -q w0.npy w1.npy w2.npy w3.npy -m fp32 --collective allgather -o a.npy
  cmp a.npy mean.npy
  jsq aggregate -q 'w?.npy' -m fp32 --collective allgather -o b.npy
  cmp b.npy mean.npy
  jsq aggregate -q run.h5 --step 0 -m fp32 --collective allgather -o c.npy
  cmp c.npy mean.npy
  jsq aggregate -q workers.h5 -m fp32 --collective allgather -o d.h5
  python -c "
import h5py, numpy as np
with h5py.File('d.h5') as f: m = np.concatenate([f['conv'][()].ravel(), f['fc'][()]])
assert np.array_equal(m, np.load('mean.npy'))"
  jsq aggregate -q w0.npy w1.npy -m fp32 -o e.npz
  holds "np.abs(np.load('e.npz')['mean'] - (np.load('w0.npy') + np.load('w1.npy')) / 2).max() < 1e-6"
}

@test "bytes are those of the messages: frames to the others, sums to all" {
  make_workers
  jsq aggregate --json workers.h5 -m topk:k=100 -m qsgd:bits=4 -m signsgd:scale=none -m fp16 -m powersgd:rank=2 >r.json
  [ "$(jq -c '[.methods[] | .collective]' r.json)" = '["allgather","allgather","allreduce","allreduce","allreduce"]' ]
  # 9 votes of 4 workers (-4..4) take 4 bits; halves 2 bytes; P and Q of 40 x 60 in rank 2, 600 dense, and the scale.
  [ "$(jq -c '[.methods[2:][] | .message_bytes]' r.json)" = "[1500,6000,$((4 * (2 * (40 + 60) + 600 + 1)))]" ]
  holds "$(jq -c '[.methods[2:][] | .workers[] | .received_bytes - .sent_bytes] | max' r.json) == 0"
  jq -e '.methods[:2][] | (.workers | map(.sent_bytes) | add) as $all | all(.workers[]; .received_bytes == $all - .sent_bytes)' r.json
  # A worker's frame is what compress makes of it, but for the names.
  [ "$(jq '.methods[0].workers | length' r.json)" -eq 4 ]
}

@test "errors of the mean are those that numpy finds" {
  make_workers
  for method in jointsq topk gqsgd-std gqsgd-exp thc signsgd terngrad natural bf16; do
    jsq aggregate --json 'w?.npy' -m $method -f -o m.npy >r.json
    nmse=$(dumps nmse mean.npy m.npy)
    holds "abs($(jq '.methods[0].nmse' r.json) / $nmse - 1) < 1e-6"
    jsq aggregate --threads 1 -q 'w?.npy' -m $method -f -o again.npy
    cmp m.npy again.npy
  done
}

@test "what a type cannot hold is counted, before and in sums" {
  python -c "
import numpy as np
np.save('a.npy', np.array([3e5, 1, -3e5, 2], '<f4')); np.save('b.npy', np.array([3e5, 1, 0, 2], '<f4'))
np.save('c.npy', np.array([65504 * 2, 1, 1, 1], '<f4')); np.save('d.npy', np.array([65504 * 2, 1, 1, 1], '<f4'))"
  jsq aggregate --json a.npy b.npy -m fp16 >r.json
  [ "$(jq -c '.methods[0] | [.overflowed, .saturated]' r.json)" = "[3,1]" ]
  jsq aggregate --json c.npy d.npy -m fp16 >r.json
  [ "$(jq -c '.methods[0] | [.overflowed, .saturated]' r.json)" = "[0,1]" ]
  jsq aggregate --json a.npy b.npy -m bf16 >r.json
  [ "$(jq -c '.methods[0] | [.overflowed, .saturated]' r.json)" = "[0,0]" ]
}

@test "more workers than the code can add up are refused by name" {
  make_workers
  expect "$EXIT_USAGE" jsq aggregate 'w?.npy' -m gqsgd-std:bits=2
  contains "$stderr" "gqsgd-std:bits=2, 4 workers, step 0"
  contains "$stderr" "give more bits"
  expect 0 jsq aggregate 'w?.npy' -m gqsgd-std:bits=4
  expect "$EXIT_SOME" jsq aggregate --json 'w?.npy' -m gqsgd-std:bits=2 -m fp32
  [ "$(jq '.methods | length' <<<"$output")" -eq 1 ]
  expect "$EXIT_USAGE" jsq aggregate 'w?.npy' -m topk --collective allreduce
  contains "$stderr" "cannot be added"
  expect "$EXIT_TARGET" jsq aggregate 'w?.npy' -m topk -t ratio=1e6
}

@test "workers that do not fit together are named, with worker and tensor" {
  make_workers
  python -c "
import h5py, numpy as np, shutil
np.save('w2.npy', np.ones(2999, '<f4'))
np.save('nan.npy', np.where(np.arange(3000) == 5, np.inf, 1).astype('<f4'))
def change(name, work):
    shutil.copy('workers.h5', name)
    with h5py.File(name, 'a') as f: work(f)
change('missing.h5', lambda f: f.pop('worker2/fc'))
change('name.h5', lambda f: f.move('worker3/fc', 'worker3/gc'))"
  expect "$EXIT_USAGE" jsq aggregate 'w?.npy'
  contains "$stderr" "w2.npy: tensor '' is f32 [2999], but f32 [3000]"
  expect "$EXIT_USAGE" jsq aggregate missing.h5
  contains "$stderr" "worker2: tensor 'fc' is missing"
  expect "$EXIT_USAGE" jsq aggregate name.h5
  contains "$stderr" "worker3: tensor 'gc' stands where"
  expect "$EXIT_UNSUPPORTED" jsq aggregate w0.npy nan.npy
  contains "$stderr" "nan.npy: tensor '': element 5 is not finite"
  expect "$EXIT_USAGE" jsq aggregate run.h5
  contains "$stderr" "--step 0 to --step 2"
  expect "$EXIT_USAGE" jsq aggregate run.h5 --step 3
  expect "$EXIT_MISSING" jsq aggregate nowhere.npy
  expect "$EXIT_USAGE" jsq aggregate w0.npy w1.npy -m fp32 -m fp16 -o x.npy
  expect "$EXIT_USAGE" jsq aggregate w0.npy w1.npy -o x.dat
  expect "$EXIT_REFUSED" jsq aggregate w0.npy w1.npy -o w1.npy -f
  echo precious >x.npy
  expect "$EXIT_REFUSED" jsq aggregate w0.npy w1.npy -o x.npy
  [ "$(cat x.npy)" = precious ]
  no_temporaries
}

@test "JSON follows its schema, and the other forms have a row for each method" {
  make_workers
  for format in json jsonl; do
    jsq aggregate --format $format 'w?.npy' -m topk -m thc >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.aggregate-1.json" report
  done
  for format in text csv md; do
    expect 0 jsq aggregate --format $format 'w?.npy' -m topk -m thc
    contains "$output" allgather
    contains "$output" allreduce
  done
}

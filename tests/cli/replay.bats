# jsq replay: layouts of sequences, figures, schedules, states that go on, and input that does not fit together.
bats_require_minimum_version 1.5.0
load helper.bash

# run.h5: 6 steps x 2 workers, flat; nested.h5: the same in groups with two tensors; step0.npy..: worker 0, 12 steps in files
# whose numbers pass 9.
make_sequences() {
  python -c "
import numpy as np, h5py
rng = np.random.default_rng(3)
mean = rng.standard_normal(3000) ** 3
g = (mean + rng.standard_normal((6, 2, 3000))).astype('<f4')
with h5py.File('run.h5', 'w') as f:
    f['grads'] = g
    f['losses'] = np.ones((6, 2))
with h5py.File('nested.h5', 'w') as f:
    f['losses'] = np.ones((6, 2))
    for s in range(6):
        for w in range(2):
            f[f'step{s:03}/worker{w}/conv/weight'] = g[s, w, :2400].reshape(40, 60)
            f[f'step{s:03}/worker{w}/fc'] = g[s, w, 2400:]
for s in range(12):
    np.save(f'step{s}.npy', g[s % 6, 0] * (1 + s))
with h5py.File('files.h5', 'w') as f:
    f['grads'] = np.stack([g[s % 6, :1] * (1 + s) for s in range(12)])
"
}

# A run's figures, without what names the input, and without sums that are made tensor by tensor.
figures() { jq -c '[.runs[] | [.method, .ef, [.steps[] | del(.name, .file_bytes, .file_ratio, .coded_nmse)], (.total | del(.file_bytes, .file_ratio))]]' "$@"; }

@test "flat, nested and one file a step are the same sequence" {
  make_sequences
  jsq replay --json run.h5 -m topk:k=100 -m fp32 >flat.json
  jsq replay --json nested.h5 -m topk:k=100 -m fp32 >nested.json
  [ "$(jq -c '[.workers, .elements, .input_bytes]' flat.json)" = "[2,3000,12000]" ]
  [ "$(jq -c '[.runs[0].steps[].name]' nested.json)" = '["step000","step001","step002","step003","step004","step005"]' ]
  [ "$(figures flat.json)" = "$(figures nested.json)" ]
  jsq replay --json run.h5::/grads -m topk:k=100 -m fp32 | figures | cmp - <(figures flat.json)
  # Names with numbers: 0, 1, 2, .. 11, not 0, 1, 10, 11, 2.
  jsq replay --json 'step*.npy' -m topk:k=100 >globbed.json
  [ "$(jq -r '.runs[0].steps[10].name' globbed.json)" = step10.npy ]
  jsq replay --json files.h5 -m topk:k=100 | figures | cmp - <(figures globbed.json)
}

@test "without loss nothing is lost, and feedback keeps the running sum nearer than none" {
  make_sequences
  jsq replay --json run.h5 -m fp32 -m topk:k=100 --ef none --ef plain >r.json
  holds "$(jq -c '[.runs[0].total.nmse, .runs[0].total.sum_error, .runs[1].total.sum_error]' r.json) == [0, 0, 0]"
  [ "$(jq -c '[.runs[2].ef, .runs[3].ef]' r.json)" = '["none","plain"]' ]
  [ "$(jq '.runs[2].total.residual_norm' r.json)" = null ]
  holds "$(jq '.runs[3].total.sum_error' r.json) < 0.8 * $(jq '.runs[2].total.sum_error' r.json)"
}

@test "a step is what compress makes of it with a state, for every kind of state" {
  make_sequences
  python -c "
import h5py
with h5py.File('nested.h5') as f:
    for s in range(3):
        with h5py.File(f'one{s}.h5', 'w') as out:
            f.copy(f'step00{s}/worker0/conv', out)
            f.copy(f'step00{s}/worker0/fc', out)"
  for method in topk:k=100 ef-signsgd powersgd:rank=2 acpsgd:rank=2 thc qlsgd:k=100 onebit; do
    rm -f s.state
    state=()
    jsq replay --json --seed 5 one0.h5 one1.h5 one2.h5 -m "$method" >r.json
    for s in 0 1 2; do
      jsq compress --seed 5 -q -f -m "$method" "one$s.h5" -o x.jsq "${state[@]}" --state-out s.state
      state=(--state s.state)
      jsq decompress -q -f x.jsq -o x.h5
      python -c "
import json, numpy as np
import sys; sys.path.insert(0, '$BATS_TEST_DIRNAME')
import dumps
a, b = dumps.floats('one$s.h5'), dumps.floats('x.h5')
row = json.load(open('r.json'))['runs'][0]['steps'][$s]
nmse = np.sum((a - b) ** 2) / np.sum(a ** 2)
cosine = np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))
assert abs(row['nmse'] / nmse - 1) < 1e-6 and abs(row['cosine'] / cosine - 1) < 1e-6, ('$method', $s, row, nmse, cosine)"
    done
  done
}

@test "a state goes on where it ended, bit for bit, for every method" {
  make_sequences
  methods=()
  for name in $(jsq methods --json | jq -r '.methods[].name'); do methods+=(-m "$name"); done
  jsq replay --json nested.h5 "${methods[@]}" --seed 9 >whole.json
  [ "$(jq '.runs | length' whole.json)" -gt 20 ]
  jsq replay --json nested.h5 "${methods[@]}" --seed 9 --steps 0:2 --state s.state >first.json
  expect 0 jsq test s.state
  cp s.state two.state
  jsq replay --json nested.h5 "${methods[@]}" --seed 9 --steps 2:6 --state s.state >second.json
  jq -c '[.runs[] | .steps]' whole.json >steps
  jq -c -s '[.[0].runs, .[1].runs] | transpose | map(.[0].steps + .[1].steps)' first.json second.json | cmp - steps
  [ "$(jq -c '[.runs[].total]' whole.json)" = "$(jq -c '[.runs[].total]' second.json)" ]
  # The state itself is that of the whole run.
  jsq replay -q nested.h5 "${methods[@]}" --seed 9 --state whole.state >/dev/null
  cmp s.state whole.state
  jsq replay -q nested.h5 "${methods[@]}" --seed 9 --steps 2:6 --state two.state --threads 1 >/dev/null
  cmp two.state whole.state
}

@test "schedules: ramps take the bytes of the constant, a warm-up more, and pieces go on with --length" {
  make_sequences
  jsq replay --json run.h5 -m topk -t ratio=20 --schedule constant --schedule ramp-ratio:12 --schedule ramp-bits:12 --schedule warmup:2 >r.json
  [ "$(jq -c '[.runs[].schedule]' r.json)" = '["constant","ramp-ratio:12","ramp-bits:12","warmup:2"]' ]
  [ "$(jq -c '[.runs[1, 2].steps | map(.budget_bytes) | add]' r.json)" = '[3600,3600]' ]
  [ "$(jq '.runs[1].steps[0].budget_bytes, .runs[2].steps[0].budget_bytes' r.json | sort -u)" = 1000 ]
  holds "$(jq '.runs[3].total.file_bytes' r.json) > 2 * $(jq '.runs[0].total.file_bytes' r.json)"
  for piece in 0:3 3:6; do jsq replay --json run.h5 -m topk -t ratio=20 --schedule ramp-ratio:12 --length 6 --steps $piece --state s.state; done >pieces.json
  [ "$(jq -c -s '[.[].runs[0].steps[]]' pieces.json)" = "$(jq -c '.runs[1].steps' r.json)" ]
  expect "$EXIT_USAGE" jsq replay run.h5 -t ratio=20 --schedule ramp-bits:10
  contains "$stderr" "above 10"
  expect "$EXIT_USAGE" jsq replay run.h5 -t ratio=20 --schedule ramp-ratio:3
  contains "$stderr" "above 3.33"
  expect "$EXIT_USAGE" jsq replay run.h5 -t nmse=0.1 --schedule warmup:2
  contains "$stderr" "needs a size"
  expect "$EXIT_USAGE" jsq replay run.h5 --schedule sideways
  expect "$EXIT_USAGE" jsq replay run.h5 -m topk -t ratio=20 --schedule ramp-ratio:12 --length 4
  contains "$stderr" "--length"
}

@test "layers make matrices of flat gradients" {
  make_sequences
  echo '{"layers": [{"name": "conv", "shape": [40, 60]}, {"shape": [600]}]}' >layers.json
  jsq replay --json run.h5 -m powersgd:rank=2 >flat.json
  jsq replay --json run.h5 -m powersgd:rank=2 --layers layers.json >layers.out
  holds "$(jq '.runs[0].total.nmse' flat.json) == 0 and $(jq '.runs[0].total.nmse' layers.out) > 0"
  holds "$(jq '.runs[0].total.file_bytes' layers.out) < 0.5 * $(jq '.runs[0].total.file_bytes' flat.json)"
  # The same from a table beside the gradients.
  python -c "
import h5py, numpy as np
with h5py.File('run.h5', 'a') as f:
    rows = np.zeros(2, [('name', 'S64'), ('offset', '<i8'), ('size', '<i8'), ('ndim', '<i4'), ('shape', '<i8', (4,))])
    rows[0] = b'conv', 0, 2400, 2, [40, 60, 0, 0]
    rows[1] = b'1', 2400, 600, 1, [600, 0, 0, 0]
    f['layers'] = rows
    rows['offset'][1] = 2401
    f['gap'] = rows
    rows['ndim'][1] = 5
    f['deep'] = rows"
  for table in run.h5 run.h5::/layers; do
    jsq replay --json run.h5 -m powersgd:rank=2 --layers $table | jq -c .runs | cmp - <(jq -c .runs layers.out)
  done
  expect "$EXIT_USAGE" jsq replay run.h5 --layers run.h5::/gap
  contains "$stderr" "layer '1' does not begin at 2400"
  expect "$EXIT_DAMAGED" jsq replay run.h5 --layers run.h5::/deep
  contains "$stderr" "row 1"
  expect "$EXIT_UNSUPPORTED" jsq replay run.h5 --layers run.h5::/losses
  contains "$stderr" "it is no table"
  expect "$EXIT_USAGE" jsq replay run.h5 --layers run.h5::/nothing
  expect "$EXIT_USAGE" jsq replay nested.h5 --layers layers.json
  contains "$stderr" "step000, worker0"
}

@test "text shows the steps of one run, one line for each of several, and CSV all" {
  make_sequences
  expect 0 jsq replay run.h5 -m topk:k=100
  contains "${lines[0]}" "topk:k=100 at native, ef plain, constant"
  [ "${#lines[@]}" -eq 11 ]
  expect 0 jsq replay -q run.h5 -m topk -m jointsq -t ratio=8 -t ratio=20
  [ "${#lines[@]}" -eq 5 ]
  expect 0 jsq replay -q run.h5 -m topk -m jointsq -t ratio=8 --per-step
  [ "${#lines[@]}" -eq 15 ]
  jsq replay --format csv run.h5 -m topk -m jointsq -t ratio=8 >r.csv
  [ "$(wc -l <r.csv)" -eq 15 ]
  [ "$(head -1 r.csv | tr -d '\r')" = "method,target,ef,schedule,step,name,file_bytes,file_ratio,nmse,coded_nmse,cosine,residual_norm,sum_error" ]
}

@test "pictures have a line for each run" {
  command -v gnuplot >/dev/null || skip "gnuplot is not installed"
  make_sequences
  expect 0 jsq replay run.h5 -m topk -m jointsq -t ratio=8 --ef none --ef plain --plot r.svg
  for name in "topk ef none" "jointsq ef plain" "Error of the running sum"; do contains "$(cat r.svg)" "$name"; done
  expect "$EXIT_REFUSED" jsq replay run.h5 --plot r.svg
  no_temporaries
}

@test "JSON follows its schema" {
  make_sequences
  for format in json jsonl; do
    jsq replay --format $format run.h5 -m topk -m fp32 -t native --schedule constant >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.replay-1.json" report
    jsq replay --format $format run.h5 -m dgc --ef momentum:0.5 -t ratio=20 --schedule ramp-ratio:15 >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.replay-1.json" report
  done
}

@test "what does not fit together is named by step, worker and tensor" {
  make_sequences
  python -c "
import h5py, numpy as np, shutil
def change(name, work):
    shutil.copy('nested.h5', name)
    with h5py.File(name, 'a') as f: work(f)
def reshape(f):
    del f['step003/worker1/fc']
    f['step003/worker1/fc'] = np.ones(599, '<f4')
def double(f):
    del f['step003/worker1/fc']
    f['step003/worker1/fc'] = np.ones(600, '<f8')
def spoil(f): f['step004/worker1/fc'][7] = np.nan
change('shape.h5', reshape)
change('type.h5', double)
change('nan.h5', spoil)
change('worker.h5', lambda f: f.pop('step002/worker1'))
change('name.h5', lambda f: f.move('step005/worker0/fc', 'step005/worker0/fc2'))
change('missing.h5', lambda f: f.pop('step005/worker0/fc'))
change('more.h5', lambda f: f.create_dataset('step005/worker0/zz', data=np.ones(3, '<f4')))
np.save('step3.npy', np.ones((2, 1500), '<f4'))
with h5py.File('none.h5', 'w') as f: f['labels'] = np.arange(3)"
  expect "$EXIT_USAGE" jsq replay shape.h5
  contains "$stderr" "step003, worker1: tensor 'fc' is f32 [599], but f32 [600] in step000, worker0"
  expect "$EXIT_USAGE" jsq replay type.h5
  contains "$stderr" "step003, worker1: tensor 'fc' is f64"
  expect "$EXIT_USAGE" jsq replay worker.h5
  contains "$stderr" "step002: worker1 is missing"
  expect "$EXIT_USAGE" jsq replay name.h5
  contains "$stderr" "step005, worker0: tensor 'fc2' stands where step000, worker0 has 'fc'"
  expect "$EXIT_USAGE" jsq replay missing.h5
  contains "$stderr" "step005, worker0: tensor 'fc' is missing"
  expect "$EXIT_USAGE" jsq replay more.h5
  contains "$stderr" "tensor 'zz' is not in step000, worker0"
  expect "$EXIT_USAGE" jsq replay 'step*.npy'
  contains "$stderr" "step3.npy, worker 0: tensor '' is f32 [2,1500], but f32 [3000]"
  expect "$EXIT_UNSUPPORTED" jsq replay nan.h5 -m topk
  contains "$stderr" "step004, worker1"
  contains "$stderr" "fc: 1 NaN among 600 values"
  jsq replay --json nan.h5 -m topk --nonfinite zero >r.json
  [ "$(jq '[.runs[0].steps[].nmse | numbers] | length' r.json)" -eq 6 ]
  expect "$EXIT_UNSUPPORTED" jsq replay none.h5
  expect "$EXIT_MISSING" jsq replay nowhere.h5
  expect "$EXIT_USAGE" jsq replay run.h5 --steps 3:7
  contains "$stderr" "0:6"
}

@test "a state of other runs, seeds or tensors is refused, and a failed run leaves it alone" {
  make_sequences
  expect 0 jsq replay run.h5 -m topk -t ratio=20 --steps 0:3 --state s.state
  cp s.state before
  expect "$EXIT_USAGE" jsq replay run.h5 -m topk -t ratio=30 --steps 3:6 --state s.state
  contains "$stderr" "topk at ratio=20"
  expect "$EXIT_USAGE" jsq replay --seed 1 run.h5 -m topk -t ratio=20 --steps 3:6 --state s.state
  expect "$EXIT_USAGE" jsq replay nested.h5 -m topk -t ratio=20 --steps 3:6 --state s.state
  expect "$EXIT_UNSUPPORTED" jsq replay run.h5 -m topk -t ratio=20 --steps 3:6 --state run.h5
  jsq compress -q -m fp32 step0.npy -o frame.jsq
  expect "$EXIT_USAGE" jsq replay run.h5 -m topk -t ratio=20 --steps 3:6 --state frame.jsq
  cmp s.state before
  expect "$EXIT_TARGET" jsq replay run.h5 -m topk -t ratio=1e6 --state t.state
  contains "$stderr" "topk at ratio=1000000, ef plain, constant, step 0, worker 0"
  [ ! -e t.state ]
  # One run of several: the others are shown.
  expect "$EXIT_SOME" jsq replay run.h5 -m topk -m fp32 -t ratio=20
  contains "$output" topk
  no_temporaries
}

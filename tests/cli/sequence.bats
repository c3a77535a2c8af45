# Sequences: a state that goes from step to step, and what refuses it. Native targets of methods with sizes of their own.
bats_require_minimum_version 1.5.0
load helper.bash

make_steps() {
  python -c "
import numpy as np
g = np.load('$samples/resnet20_mid.npy')
for t in range(3):
    np.save(f'step{t}.npy', (g * np.random.default_rng(t).uniform(.5, 1.5, g.shape)).astype('<f4'))"
}

@test "residuals of topk make up what was not sent" {
  make_steps
  state=()
  for t in 0 1 2; do
    expect 0 jsq compress -q -m topk -r 50 "step$t.npy" -o "$t.jsq" "${state[@]}" --state-out "$t.state"
    expect 0 jsq decompress -q "$t.jsq" -o "decoded$t.npy"
    state=(--state "$t.state")
  done
  expect 0 jsq decompress -q 2.state -o state.npz
  python -c "
import numpy as np
kept = np.load('state.npz')
kept = kept[kept.files[0]]
left = sum(np.load(f'step{t}.npy').astype(float) - np.load(f'decoded{t}.npy') for t in range(3))
assert np.abs(left - kept).max() < 1e-6, np.abs(left - kept).max()
assert np.abs(kept).max() > 0"
  expect 0 jsq list 2.state
  contains "$output" "/e"
}

@test "the state may be replaced in place, and a failed step leaves it alone" {
  make_steps
  expect 0 jsq compress -q -m topk -r 50 step0.npy --state-out s.state
  expect 0 jsq compress -q -m topk -r 50 step1.npy --state s.state --state-out s.state
  cp s.state before.state
  expect "$EXIT_TARGET" jsq compress -q -m topk -r 1e9 step2.npy --state s.state --state-out s.state
  cmp s.state before.state
  no_temporaries
}

@test "a state of another method, shape or kind of file is refused" {
  make_steps
  expect 0 jsq compress -q -m topk -r 50 step0.npy --state-out s.state
  expect "$EXIT_USAGE" jsq compress -q -m dgc -r 50 step1.npy -o x.jsq --state s.state --state-out t.state
  contains "$stderr" "belongs to the method topk"
  python -c "import numpy as np; np.save('other.npy', np.ones((7, 5), '<f4'))"
  expect "$EXIT_USAGE" jsq compress -q -m topk -r 5 other.npy -o x.jsq --state s.state --state-out t.state
  contains "$stderr" "shape"
  expect "$EXIT_USAGE" jsq compress -q -m topk -r 50 step1.npy -o x.jsq --state step0.npy.jsq --state-out t.state
  contains "$stderr" "no state"
  expect "$EXIT_MISSING" jsq compress -q -m topk -r 50 step1.npy -o x.jsq --state nowhere.state --state-out t.state
  [ ! -e t.state ] && [ ! -e x.jsq ]
}

@test "an existing state is not overwritten without -f, and feedback needs a place for its state" {
  make_steps
  echo precious >t.state
  expect "$EXIT_REFUSED" jsq compress -q -m topk -r 50 step0.npy --state-out t.state
  [ "$(cat t.state)" = precious ]
  expect "$EXIT_USAGE" jsq compress -q --ef plain step0.npy
  contains "$stderr" "--state-out"
  expect "$EXIT_USAGE" jsq compress -q --ef sideways step0.npy --state-out u.state
}

@test "momentum with masking leaves zeros where values were sent" {
  make_steps
  expect 0 jsq compress -q -m topk --ef momentum:0.9 -r 50 step0.npy -o 0.jsq --state-out s.state
  expect 0 jsq decompress -q 0.jsq -o sent.npy
  expect 0 jsq decompress -q s.state -o state.npz
  python -c "
import numpy as np
z, sent = np.load('state.npz'), np.load('sent.npy')
u, v = (z[[k for k in z.files if k.endswith(x)][0]] for x in 'uv')
assert (u[sent != 0] == 0).all() and (v[sent != 0] == 0).all() and (v[sent == 0] != 0).any()"
}

@test "low-rank methods go on from their factors, and say what is dense" {
  expect 0 jsq compress -m powersgd "$samples/vit2_early.h5" -o 0.jsq --state-out s.state
  contains "$stderr" "dense"
  expect 0 jsq compress -q -m powersgd "$samples/vit2_early.h5" -o 1.jsq --state s.state --state-out s.state
  expect 0 jsq test 1.jsq
  expect 0 jsq list s.state
  contains "$output" "/q"
}

@test "methods with sizes of their own need no target, others have ratio 32" {
  expect 0 jsq compress -q --json -m fp16 "$samples/resnet20_mid.npy" -o a.jsq
  [ "$(jq -r '.frames[0].target' <<<"$output")" = native ]
  expect 0 jsq compress -q --json -m topk "$samples/resnet20_mid.npy" -o b.jsq
  [ "$(jq -r '.frames[0].target' <<<"$output")" = ratio=32 ]
  expect 0 jsq compress -q --json -m topk:k=100 "$samples/resnet20_mid.npy" -o c.jsq
  [ "$(jq -r '.frames[0].target' <<<"$output")" = native ]
  expect "$EXIT_TARGET" jsq compress -q -m fp16 -r 4 "$samples/resnet20_mid.npy" -o d.jsq
  contains "$stderr" "ratio 1.9"
}

@test "nominal, wire and file bits are told apart" {
  expect 0 jsq compress -q --json -m topk:density=0.01,map=raw32 "$samples/resnet20_mid.npy" -o a.jsq
  # 2,697 values of 32 bits as the paper counts; at least an index of 32 bits each on top; and the file around them.
  holds "$(jq '.frames[0].nominal_bits' <<<"$output") == 2697 * 32"
  holds "$(jq '.frames[0].wire_bits' <<<"$output") > 2697 * (32 + 16)"
  holds "8 * $(jq '.frames[0].file_bytes' <<<"$output") > $(jq '.frames[0].wire_bits' <<<"$output")"
}

@test "every method makes frames that verify" {
  for name in $(jsq methods --json | jq -r '.methods[].name'); do
    expect 0 jsq compress -q --verify -f -m "$name" "$samples/vit2_early.h5" -o x.jsq
    expect 0 jsq test x.jsq --against "$samples/vit2_early.h5"
  done
}

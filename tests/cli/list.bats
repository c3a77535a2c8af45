# jsq list: header and directory, as a table and as data.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0
load helper.bash

@test "each tensor has a line with name, dtype, shape, method, blocks, bytes and ratio" {
  dumps make h5 grads.h5
  jsq compress -q -r 8 grads.h5
  expect 0 jsq list grads.h5.jsq
  [[ ${lines[0]} =~ ^grads\.h5\.jsq:\ 3\ tensors\ in\ 1\ dump,\ 293\ KiB\ -\>\ 36\.[56]\ KiB,\ 8\.0[0-9]x$ ]]
  [[ ${lines[1]} =~ ^tensor\ +dtype\ +shape\ +method\ +blocks\ +bytes\ +ratio$ ]]
  contains "$output" "layer1/weight  f32    [50,1000]  jointsq"
  [ "${#lines[@]}" -eq 5 ]
}

@test "a plain npy goes by its dump's name" {
  dumps make small a.npy
  jsq compress -q -r 8 a.npy
  expect 0 jsq list a.npy.jsq
  [[ ${lines[2]} =~ ^a\.npy\ +f32\ +\[2000\]\  ]]
}

@test "only header and directory are read: damaged blocks do not matter" {
  dumps make npy grad.npy
  jsq compress -q grad.npy
  frames flip grad.npy.jsq bad.npy.jsq 300
  expect 0 jsq list bad.npy.jsq
}

@test "--explain-size accounts for every byte of the file" {
  dumps make h5 grads.h5
  jsq compress -q -r 8 grads.h5
  expect 0 jsq list --explain-size grads.h5.jsq
  contains "$output" "class map and values"
  expect 0 jsq list --json grads.h5.jsq
  holds "$(jq '.frames[0].sizes | .file' <<<"$output") == $(jq '[.frames[0].sizes | to_entries[] | select(.key != "file").value] | add' <<<"$output") == $(stat -c %s grads.h5.jsq)"
}

@test "--sort orders by name, and by size, ratio and elements with the largest first" {
  dumps make h5 grads.h5
  jsq compress -q -r 8 grads.h5
  order() { jsq list --json --sort "$1" grads.h5.jsq | jq -c "[.frames[0].tensors[].$2]"; }
  [ "$(order name name)" = '["fc/weight","layer1/bias","layer1/weight"]' ]
  [ "$(order elements elements)" = '[50000,20000,5000]' ]
  holds "$(order size bytes) == sorted($(order size bytes), reverse=True)"
  holds "$(order ratio ratio) == sorted($(order ratio ratio), reverse=True)"
  expect "$EXIT_USAGE" jsq list --sort colour grads.h5.jsq
}

@test "the method's options are shown with -v, and in data always" {
  dumps make small a.npy
  jsq compress -q -r 8 -m jointsq:quant=sym a.npy
  expect 0 jsq list a.npy.jsq
  lacks "$output" "quant="
  expect 0 jsq list -v a.npy.jsq
  contains "$output" "quant=sym"
  contains "$(jsq list --json a.npy.jsq | jq -r '.frames[0].tensors[0].method')" "quant=sym"
}

@test "-v shows the bytes of each block, the seed and what --meta stored" {
  python -c "import numpy as np; np.save('big.npy', np.random.default_rng(1).standard_normal(150000).astype('f4'))"
  jsq --seed 42 compress -q -r 8 --meta step=7 big.npy
  expect 0 jsq list -v big.npy.jsq
  contains "$output" "seed 42"
  contains "$output" "step = 7"
  expect 0 jsq list -v --json big.npy.jsq
  [ "$(jq '.frames[0].tensors[0] | (.block_bytes | length) == .blocks and (.block_bytes | add) == .bytes' <<<"$output")" = true ]
}

@test "-v tells what the bits of rdoq's layers are for, and they are nearly all of the frame's" {
  python - <<'PY'
import h5py, numpy as np
rng = np.random.default_rng(5)
with h5py.File("parts.h5", "w") as file:
    file["factored"] = (rng.standard_normal((200, 1)) * rng.standard_normal((1, 300))).astype("f4")
    file["noise"] = rng.standard_normal((200, 300)).astype("f4")
    smooth = np.outer(np.cos(np.linspace(0, 1, 5)), np.cos(np.linspace(0, 1, 5)))
    file["kernels"] = (rng.standard_normal((60, 50, 1, 1)) * smooth).astype("f4")
PY
  for levels in independent dependent; do
    jsq compress -q -f -r 8 -m "rdoq:levels=$levels" parts.h5
    expect 0 jsq list -v --json parts.h5.jsq
    [ "$(jq -c '[.frames[0].tensors[] | [.name, .coding.layers[0].transform]]' <<<"$output")" = '[["factored","lowrank"],["kernels","dct"],["noise","none"]]' ]
    [ "$(jq '.frames[0].tensors[0].coding.layers[0].rank' <<<"$output")" = 1 ]
    # The rest is what streams begin and end with, and how the tensors of the frame are told apart.
    holds "0.98 < $(jq '.frames[0] | ((.tensors[0].coding.table_bits + ([.tensors[].coding.layers[] | .factor_bits + .scale_bits + .residual_bits] | add)) / 8) / (.sizes.blocks + .sizes.parameters)' <<<"$output") < 1.0005"
  done
  expect 0 jsq list -v parts.h5.jsq
  contains "$output" "tables of 3 tensors: "
  contains "$output" "transform  rank  factor bits  scale bits  residual bits"
  expect 0 jsq list parts.h5.jsq
  lacks "$output" "residual"
}

@test "-v tells it of every layer of a flat dump" {
  jsq compress -q -r 32 -m rdoq -o r.jsq "$samples/resnet20_mid.npy"
  expect 0 jsq list -v --json r.jsq
  layers=$(jq -c '.frames[0].tensors[0].coding.layers' <<<"$output")
  [ "$(jq -c '[.[].shape]' <<<"$layers")" = "$(jq -c '[.layers[].shape]' "$samples/resnet20_mid.layers.json")" ]
  [ "$(jq '[.[] | select((.transform | test("lowrank")) != (.rank > 0 and .factor_bits > 0))] | length' <<<"$layers")" = 0 ]
  expect 0 jsq list -v r.jsq
  contains "$output" "layers of"
  contains "$output" "[16,3,3,3]"
}

@test "-v has nothing to tell of methods that do not, and a warning for damaged blocks" {
  dumps make small a.npy
  jsq compress -q -r 8 -m qsgd a.npy
  expect 0 jsq list -v --json a.npy.jsq
  [ "$(jq '.frames[0].tensors[0].coding' <<<"$output")" = null ]
  dumps make npy grad.npy
  jsq compress -q -m rdoq grad.npy
  frames flip grad.npy.jsq bad.npy.jsq 300
  expect 0 jsq list -v bad.npy.jsq
  contains "$stderr" "checksum mismatch"
  contains "$output" "grad.npy"
}

@test "names that would steer a terminal are shown escaped, and whole in JSON" {
  dumps make hostile-names names.h5
  jsq compress -q -r 4 names.h5
  expect 0 jsq list --color always names.h5.jsq
  lacks "$output" "$(printf '\033[31m')"
  contains "$output" 'red\x1b[31m\nnext'
  contains "$output" 'back\u{202e}wards'
  [ "${#lines[@]}" -eq 4 ]
  [ "$(jsq list --json names.h5.jsq | jq '[.frames[0].tensors[].name] | any(. == "red\u001b[31m\nnext")')" = true ]
}

@test "csv has a frame and a dump column, one row for each tensor of every frame" {
  dumps make small a.npy
  dumps make npz b.npz
  jsq compress -q -r 4 a.npy
  jsq compress -q -r 8 b.npz
  expect 0 jsq list --format csv a.npy.jsq b.npz.jsq
  [ "${lines[0]}" = $'path,dump,name,dtype,shape,method,blocks,bytes,ratio\r' ]
  [ "${#lines[@]}" -eq 4 ]
  python -c "import csv, sys; rows = list(csv.DictReader(sys.stdin)); assert [r['path'] for r in rows] == ['a.npy.jsq', 'b.npz.jsq', 'b.npz.jsq']; assert rows[1]['shape'] == '[30,10,100]'" <<<"$output"
}

@test "standard input is listed" {
  dumps make small a.npy
  jsq compress -q -r 4 a.npy
  expect 0 jsq list - <a.npy.jsq
  contains "$output" "1 tensor in 1 dump"
}

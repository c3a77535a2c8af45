# jsq analyze: statistics that numpy agrees with, JointSQ's noise models from their formulas, errors of real decodes.
bats_require_minimum_version 1.5.0
load helper.bash

noise_model() { python "$BATS_TEST_DIRNAME/noise_model.py" "$@"; }

@test "statistics of real dumps are numpy's, one by one and pooled" {
  expect 0 jsq analyze --json "$samples/resnet20_mid.npy" "$samples/resnet20_late_fc.weight.npy"
  echo "$output" >report.json
  noise_model statistics report.json "$samples/resnet20_mid.npy" "$samples/resnet20_late_fc.weight.npy"
  expect 0 jsq analyze --json --per-tensor "$samples/vit2_early.h5"
  echo "$output" >report.json
  noise_model statistics report.json "$samples/vit2_early.h5"
}

@test "statistics of zeros, constants, one element, a large mean, half precision and non-finite values are numpy's" {
  python - <<'PYTHON'
import numpy as np
rng = np.random.default_rng(5)
np.save("zeros.npy", np.zeros(70000, "f4"))
np.save("constant.npy", np.full(70000, -0.25, "f4"))
np.save("one.npy", np.array([3.5], "f4"))
np.save("offset.npy", (1000 + rng.standard_normal(200000)).astype("f4"))
np.save("half.npy", (rng.standard_normal(70000) * rng.random(70000) ** 4).astype("f2"))
np.save("double.npy", rng.standard_normal((50, 70)))
values = rng.standard_normal(140000).astype("f4")
values[[3, 70000]] = np.nan, -np.inf
np.save("nonfinite.npy", values)
PYTHON
  for name in zeros constant one offset half double nonfinite; do
    expect 0 jsq analyze --json $name.npy
    echo "$output" >report.json
    noise_model statistics report.json $name.npy
  done
}

@test "h', Eq. 3 and Eq. 6 of the exact and the literal allocator are those of their formulas" {
  expect 0 jsq analyze --json --noise -t ratio=32 -t ratio=8 -t ratio=200 "$samples/resnet20_mid.npy"
  echo "$output" >report.json
  [ "$(jq '.rows[0].results | length' report.json)" -eq 12 ]
  noise_model models report.json "$samples/resnet20_mid.npy"
}

@test "h' of what is coded is that of its formula at the payload bits it tells" {
  expect 0 jsq analyze --json --noise -m jointsq:aware=0 -t ratio=16 "$samples/resnet20_mid.npy"
  echo "$output" >report.json
  noise_model coded-model report.json "$samples/resnet20_mid.npy" exact
  noise_model coded-model report.json "$samples/resnet20_mid.npy" literal
  holds "np.isclose($(jq '.rows[0].results[0].coded_hprime' report.json), $(jq '.rows[0].results[0].hprime' report.json), rtol=1e-9)"
}

@test "no allocator has less noise than the exact one at the same payload bits" {
  expect 0 jsq analyze --json --noise -t ratio=8 -t ratio=32 -t ratio=500 "$samples/vit2_early.h5"
  [ "$(jq '[.rows[0].results | group_by(.target)[] | (map(select(.allocator == "exact"))[0].hprime) <= (map(.hprime) | min)] | all' <<<"$output")" = true ]
}

@test "measured errors are those of compress and decompress with the same allocator" {
  dump=$samples/resnet20_mid.npy
  expect 0 jsq analyze --json --noise -t ratio=24 "$dump"
  echo "$output" >report.json
  index=0
  for allocator in exact literal sampled; do
    [ "$(jq -r ".rows[0].results[$index].allocator" report.json)" = $allocator ]
    jsq -q compress -f -m jointsq:alloc=$allocator -t ratio=24 "$dump" -o grad.npy.jsq
    jsq -q decompress -f grad.npy.jsq
    noise_model errors report.json $index "$dump" grad.npy grad.npy.jsq
    index=$((index + 1))
  done
}

@test "--per-tensor shows each tensor's noise under the allocation of the whole" {
  expect 0 jsq analyze --json --noise --per-tensor -t ratio=16 "$samples/vit2_early.h5"
  echo "$output" >report.json
  noise_model tensors report.json "$samples/vit2_early.h5"
  [ "$(jq '[.rows[1:][].results[] | .h_eq3, .coded_hprime] | unique == [null]' report.json)" = true ]
}

@test "a tensor's bytes are those of its blocks: less than the frame together, and the size its limits are taken at" {
  expect 0 jsq --json analyze --bound --per-tensor -t ratio=16 "$samples/vit2_early.h5"
  echo "$output" >report.json
  jsq -q compress -t ratio=16 "$samples/vit2_early.h5" -o frame.jsq
  jsq --json list -v frame.jsq >list.json
  python - <<'PYTHON'
import json
whole, *tensors = json.load(open("report.json"))["rows"]
listed = {tensor["name"]: tensor for tensor in json.load(open("list.json"))["frames"][0]["tensors"]}
total = 0
for row in tensors:
    result, = row["results"]
    # The listing leaves out the four bytes of each block's checksum.
    entry = listed[row["tensor"]]
    assert result["file_bytes"] == entry["bytes"] + 4 * entry["blocks"], (result["file_bytes"], entry)
    assert abs(result["bits_per_element"] * row["elements"] - 8 * result["file_bytes"]) < 1e-6
    assert (result["bound_pooled_db"] >= 0) == (result["bound_pooled_bytes"] <= result["file_bytes"]), row["tensor"]
    assert result["bound_tensors_nmse"] == result["bound_pooled_nmse"] >= result["bound_scales_nmse"], row["tensor"]
    total += result["file_bytes"]
assert 0.9 * whole["results"][0]["file_bytes"] < total < whole["results"][0]["file_bytes"], total
PYTHON
}

@test "the trials of tensors, weighted by their energy, are those of the whole" {
  expect 0 jsq --json analyze --trials 3 --per-tensor -m jointsq:quant=mid -t ratio=16 "$samples/vit2_early.h5"
  echo "$output" >report.json
  python - <<'PYTHON'
import json, math
whole, *tensors = json.load(open("report.json"))["rows"]
for key in ("trial_nmse", "bias", "variance"):
    total = sum(row["results"][0][key] * row["l2_norm"] ** 2 for row in tensors) / whole["l2_norm"] ** 2
    assert math.isclose(total, whole["results"][0][key], rel_tol=1e-6), (key, total)
assert all(row["results"][0]["trials"] == 3 for row in tensors)
PYTHON
}

@test "text, CSV, Markdown and JSON say the same" {
  for format in json csv text md; do
    jsq --format $format analyze --noise -t ratio=16 -t ratio=64 "$samples/resnet20_mid.npy" >report.$format 2>/dev/null
  done
  noise_model forms report.json report.csv report.text report.md 2
}

@test "a measured error of more than twice the model's is warned about" {
  expect 0 jsq analyze --noise "$samples/resnet20_mid.npy"
  contains "$stderr" "alloc=literal: measured nmse"
  lacks "$stderr" "alloc=exact"
  expect 0 jsq --json analyze --noise "$samples/resnet20_mid.npy"
  contains "$(jq -r .warning <<<"$stderr")" "more than twice"
  expect 0 jsq -q analyze --noise "$samples/resnet20_mid.npy"
  [ -z "$stderr" ]
}

@test "each model says what it counts" {
  expect 0 jsq analyze --noise "$samples/resnet20_mid.npy"
  contains "$output" "h'         noise per element, sum 4^-b g^2 / |g|^2"
  contains "$output" "h Eq.3     k / 4^b of the best co-compressor"
  contains "$output" "h' Eq.6"
  contains "$output" "Eq.6 k0=1"
}

@test "a method without allocators, an unknown one and a bad target are usage errors before any work" {
  expect "$EXIT_USAGE" jsq analyze --noise -m nosuch "$samples/resnet20_mid.npy"
  contains "$stderr" "jsq methods"
  expect "$EXIT_USAGE" jsq analyze --noise -t ratio=much "$samples/resnet20_mid.npy"
  expect "$EXIT_USAGE" jsq analyze
}

@test "a target out of reach is exit status 8, non-finite values are 4, and the statistics of such a dump stay" {
  expect "$EXIT_TARGET" jsq analyze --noise -t ratio=100000 "$samples/resnet20_late_fc.weight.npy"
  dumps make nonfinite bad.npy
  expect "$EXIT_UNSUPPORTED" jsq analyze --noise bad.npy
  expect 0 jsq --json analyze bad.npy
  [ "$(jq .rows[0].nonfinite <<<"$output")" -eq 3 ]
}

@test "a bad input does not stop the others" {
  expect "$EXIT_SOME" jsq --json analyze missing.npy "$samples/resnet20_mid.npy"
  [ "$(jq '.rows | length' <<<"$output")" -eq 1 ]
  contains "$stderr" missing.npy
}

@test "statistics need one block of memory, --noise says what it needs" {
  needs_its_own_memory
  dumps make large big.npy
  expect 0 jsq --memory-limit 40MiB --threads 1 analyze big.npy
  expect "$EXIT_LIMIT" jsq --memory-limit 40MiB --threads 1 analyze --noise big.npy
  contains "$stderr" "--memory-limit"
}

@test "an empty tensor, an all-zero dump and a scalar are analyzed" {
  python -c "
import numpy as np
np.savez('edge.npz', empty=np.zeros((0, 5), 'f4'), zero=np.zeros(100, 'f4'), scalar=np.float32(2.5))"
  expect 0 jsq --json analyze --per-tensor --noise -t ratio=0.5 edge.npz
  [ "$(jq -c '[.rows[].elements]' <<<"$output")" = '[101,0,100,1]' ]
  [ "$(jq -c '[.rows[].l2_norm]' <<<"$output" | sed 's/\.0\b//g')" = '[2.5,0,0,2.5]' ]
}

@test "JSON follows its schema" {
  for format in json jsonl; do
    jsq --format $format analyze --per-tensor --noise -t ratio=16 "$samples/vit2_early.h5" "$samples/resnet20_late_fc.weight.npy" >report 2>/dev/null
    frames validate "$JSQ_SOURCE/tools/schema/jsq.analyze-1.json" report
    # A tensor of which nothing is kept takes no bytes.
    jsq --format $format analyze --per-tensor --bound --trials 1 -t ratio=32 "$samples/resnet20_late_fc.weight.npy" >report 2>/dev/null
    frames validate "$JSQ_SOURCE/tools/schema/jsq.analyze-1.json" report
    jsq --format $format analyze "$samples/resnet20_mid.npy" >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.analyze-1.json" report
  done
}

@test "the same figures for any number of threads" {
  jsq --json --threads 1 analyze --noise "$samples/vit2_early.h5" >one 2>/dev/null
  jsq --json --threads 3 analyze --noise "$samples/vit2_early.h5" >three 2>/dev/null
  cmp one three
}

@test "the expected error of a stochastic quantizer is the mean of measured ones, and its bias that of the elements it drops" {
  for quantizer in mid offmag sym; do
    expect 0 jsq -q --json analyze --noise --trials 8 -m jointsq:quant=$quantizer,aware=0 -t ratio=16 "$samples/resnet20_mid.npy"
    echo "$output" >report.json
    # Within the confidence intervals, widened to what five quantizers and several allocators need: 2.5 half widths.
    [ "$(jq '[.rows[0].results[] | (.expected_nmse - .trial_nmse | fabs) <= 2.5 * .trial_nmse_ci95 + 1e-12] | all' report.json)" = true ]
    [ "$(jq '[.rows[0].results[] | (.trial_nmse - .bias - .variance | fabs) <= 1e-9 * .trial_nmse] | all' report.json)" = true ]
  done
}

@test "a deterministic method has nothing to vary, and a warning says so" {
  expect 0 jsq --json analyze --trials 9 "$samples/resnet20_mid.npy"
  [ "$(jq -c '.rows[0].results[0] | [.trials, .deterministic, .variance, .bias == .trial_nmse]' <<<"$output")" = '[2,true,0,true]' ]
  contains "$stderr" "nothing to vary"
}

@test "--trials and --bound take any method, as it is given" {
  expect 0 jsq -q --json analyze --trials 3 --bound -m qsgd -t native "$samples/resnet20_mid.npy"
  [ "$(jq -c '.rows[0].results | length' <<<"$output")" -eq 1 ]
  [ "$(jq -c '.rows[0].results[0] | [.allocator, .hprime, .deterministic]' <<<"$output")" = '["as given",null,false]' ]
  expect "$EXIT_USAGE" jsq analyze --noise -m topk "$samples/resnet20_mid.npy"
  contains "$stderr" "--bound"
}

@test "no result that codes elements alone is below the limit of one distribution, and dB and bytes agree on the side" {
  expect 0 jsq -q --json analyze --bound -m topk -t ratio=8 -t ratio=32 -t ratio=100 "$samples/vit2_early.h5"
  [ "$(jq '[.rows[0].results[] | .bound_pooled_db >= 0 and .bound_pooled_bytes <= .file_bytes] | all' <<<"$output")" = true ]
  # More knowledge, a lower limit.
  [ "$(jq '[.rows[0].results[] | .bound_scales_nmse <= .bound_tensors_nmse and .bound_tensors_nmse <= .bound_pooled_nmse] | all' <<<"$output")" = true ]
  [ "$(jq '[.rows[0].results[] | .bound_shannon_nmse <= .bound_pooled_nmse * 1.001] | all' <<<"$output")" = true ]
}

@test "--curve has error that falls with the size, the same in JSON, CSV and text" {
  expect 0 jsq -q --json analyze --curve --bound "$samples/resnet20_mid.npy"
  echo "$output" >report.json
  frames validate "$JSQ_SOURCE/tools/schema/jsq.analyze-1.json" report.json
  [ "$(jq '.rows[0].curve | length' report.json)" -eq 9 ]
  [ "$(jq '[.rows[0].curve[1:] | sort_by(.bits_per_element) | .[].nmse] | . == (sort | reverse)' report.json)" = true ]
  jsq -q --format csv analyze --curve --bound "$samples/resnet20_mid.npy" >report.csv
  python - <<'PYTHON'
import csv, json
points = json.load(open("report.json"))["rows"][0]["curve"]
for point, line in zip(points, csv.DictReader(open("report.csv")), strict=True):
    for key, value in point.items():
        assert str(value or "") == line[key] or float(line[key]) == value, (key, value, line)
PYTHON
}

@test "--plot draws what was studied, and keeps a file that is there" {
  expect 0 jsq -q analyze --noise --curve --plot noise.svg "$samples/vit2_early.h5"
  python -c "import xml.etree.ElementTree as tree; assert tree.parse('noise.svg').getroot().tag.endswith('svg')"
  expect "$EXIT_REFUSED" jsq -q analyze --plot noise.svg "$samples/vit2_early.h5"
  expect 0 jsq -q analyze -f --plot noise.svg "$samples/vit2_early.h5"
  expect "$EXIT_USAGE" jsq -q analyze --plot noise.txt "$samples/vit2_early.h5"
}

@test "--plot marks the h' of a tensor alone, whose line has no length" {
  expect 0 jsq -q analyze --noise --plot alone.svg "$samples/resnet20_mid.npy"
  grep -q "xlink:href='#gpPt0'" alone.svg
}

@test "text is at most 120 columns wide for files and tensors of short names, and says each legend once" {
  cp "$samples/resnet20_mid.npy" grad.npy
  python -c "
import numpy as np
rng = np.random.default_rng(3)
np.savez('two.npz', **{'block1.conv2.weight': rng.standard_normal((64, 64)).astype('f4'), 'fc': rng.standard_normal(64).astype('f4')})"
  for arguments in grad.npy "grad.npy two.npz" "--per-tensor two.npz" "--per-tensor grad.npy two.npz"; do
    # shellcheck disable=SC2086
    expect 0 jsq analyze --noise --bound --trials 2 --curve -m jointsq:quant=mid -t ratio=12 $arguments
    [ "$(wc -L <<<"$output")" -le 120 ]
    [ "$(grep -c "rate-distortion limits at the same bytes" <<<"$output")" -eq 1 ]
    [ "$(grep -c "h Eq.3     " <<<"$output")" -eq 1 ]
  done
}

@test "--transforms: spectra are those of numpy, and the bytes those of frames at one error" {
  python - <<'PY'
import h5py, numpy as np
rng = np.random.default_rng(11)
decay = 0.7 ** np.arange(40)
turn = lambda n: np.linalg.qr(rng.standard_normal((n, 40)))[0]
smooth = np.outer(np.cos(np.linspace(0, 1, 3)), np.cos(np.linspace(0, 1, 3)))
with h5py.File("g.h5", "w") as file:
    file["a_bias"] = rng.standard_normal(70).astype("f4") * 0.01
    file["b_conv"] = (rng.standard_normal((60, 50, 1, 1)) * smooth / 100).astype("f4")
    file["c_matrix"] = (turn(150) * decay @ turn(200).T).astype("f4")
PY
  expect 0 jsq analyze --transforms -t ratio=16 --json g.h5
  echo "$output" >report.json
  python - "$JSQ_SOURCE/tools/schema/jsq.analyze-1.json" <<'PY'
import h5py, json, jsonschema, numpy as np, sys
report = json.load(open("report.json"))
jsonschema.validate(report, json.load(open(sys.argv[1])))
[study] = report["rows"][0]["transforms"]
assert study["target"] == "ratio=16" and study["problem"] is None
layers = study["layers"]
assert [l["tensor"] for l in layers] == ["a_bias", "b_conv", "c_matrix"] and layers[0]["spectrum"] == []
with h5py.File("g.h5") as file:
    # A convolution is the matrix [in, out k k].
    for layer, matrix in ((layers[1], np.moveaxis(file["b_conv"][()], 1, 0).reshape(50, -1)), (layers[2], file["c_matrix"][()])):
        exact = np.linalg.svd(matrix.astype("f8"), compute_uv=False) ** 2
        exact /= exact.sum()
        found = np.array(layer["spectrum"])
        assert np.allclose(found, exact[:found.size], rtol=0.02, atol=1e-9), abs(found / exact[:found.size] - 1).max()
        assert len(found) == min(64, *matrix.shape) or exact[len(found)] < 1e-9
    total = sum(float((file[name][()].astype("f8") ** 2).sum()) for name in file)
    assert abs(layers[2]["energy_share"] - float((file["c_matrix"][()].astype("f8") ** 2).sum()) / total) < 1e-6
assert layers[2]["transform"] == "lowrank" and 3 < layers[2]["rank"] <= 40 and layers[2]["lowrank_bits"] < layers[2]["none_bits"] / 2
assert layers[0]["transform"] == "none" and layers[0]["rank"] == 0
assert study["auto_bytes"] < study["none_bytes"] / 2 and study["dct_bytes"] < study["none_bytes"] * 1.01
open("nmse", "w").write(repr(study["nmse"]))
open("bytes", "w").write(" ".join(str(study[k + "_bytes"]) for k in ("none", "auto")) + "\n")
PY
  read -r none auto <bytes
  jsq compress -q -f -m rdoq:transform=none -r 16 -o none.jsq g.h5
  jsq compress -q -f -m rdoq:transform=auto -t "nmse=$(cat nmse)" -o auto.jsq g.h5
  [ "$(stat -c %s none.jsq) $(stat -c %s auto.jsq)" = "$none $auto" ]
}

@test "--transforms takes the layers beside a flat dump, and says what cannot be coded" {
  expect 0 jsq analyze --transforms -t ratio=100 "$samples/resnet20_mid.npy"
  contains "$stderr" "resnet20_mid.layers.json"
  contains "$output" "[64,64,3,3]"
  contains "$output" "dct+lowrank"
  contains "$output" "directions of its matrix"
  [[ $output =~ ratio=100\ +0\.2[0-9]+\ +10\ [0-9]{3}\ +[0-9\ ]+\ [0-9.]+\ %\ +[0-9\ ]+7[0-9]\.[0-9]\ % ]]
  expect 0 jsq analyze --transforms -t ratio=100 --format csv "$samples/resnet20_mid.npy"
  [ "${#lines[@]}" -eq 60 ] # a heading and 59 layers
  dumps make small a.npy
  expect 0 jsq analyze --transforms -t bytes=10 --json a.npy
  [ "$(jq -r '.rows[0].transforms[0] | .none_bytes == null and (.problem | test("bytes"))' <<<"$output")" = true ]
}

# jsq compare: every cell from true file bytes and a real decode.
bats_require_minimum_version 1.5.0
load helper.bash

noise_model() { python "$BATS_TEST_DIRNAME/noise_model.py" "$@"; }

@test "ratio, nmse, cosine, max error and bias are those of compress and decompress, for each method and target" {
  dump=$samples/resnet20_mid.npy
  expect 0 jsq --json compare "$dump" -m jointsq -m jointsq:quant=mid -m jointsq:quant=sym -t ratio=20 -t nmse=0.05
  echo "$output" >report.json
  index=0
  for method in jointsq jointsq:quant=mid jointsq:quant=sym; do
    for target in ratio=20 nmse=0.05; do
      [ "$(jq -r ".rows[$index] | .method + \" \" + .target" report.json)" = "$method $target" ]
      jsq -q compress -f -m $method -t $target "$dump" -o grad.npy.jsq
      jsq -q decompress -f grad.npy.jsq
      noise_model errors report.json $index "$dump" grad.npy grad.npy.jsq
      index=$((index + 1))
    done
  done
}

@test "h' is that of its formula at the payload bits that the payload ratio tells" {
  for alloc in exact literal; do
    expect 0 jsq --json compare "$samples/resnet20_mid.npy" -m jointsq:aware=0,alloc=$alloc -t ratio=32 -t ratio=10
    echo "$output" >report.json
    noise_model coded-model report.json "$samples/resnet20_mid.npy" $alloc
  done
}

@test "half precision is measured after rounding to the stored type" {
  dumps make f16 half.npy
  expect 0 jsq --json compare half.npy -m jointsq -t ratio=4
  echo "$output" >report.json
  jsq -q compress -t ratio=4 half.npy -o out.npy.jsq
  jsq -q decompress out.npy.jsq
  noise_model errors report.json 0 half.npy out.npy out.npy.jsq
}

@test "without -m the variants of jointsq that tell a story are compared at 32x" {
  expect 0 jsq --json compare "$samples/resnet20_mid.npy"
  [ "$(jq -c '[.rows[].method]' <<<"$output")" = '["jointsq","jointsq:quant=mid","jointsq:quant=sym","jointsq:alloc=literal"]' ]
  [ "$(jq -c '[.rows[].target] | unique' <<<"$output")" = '["ratio=32"]' ]
  [ "$(jq '[.rows[].file_ratio >= 32] | all' <<<"$output")" = true ]
  [ "$(jq '[.rows[:3][].file_ratio < 32.33] | all' <<<"$output")" = true ]
}

@test "-m all is every registered method with its defaults" {
  expect 0 jsq --json compare -m all "$samples/resnet20_late_fc.weight.npy" -t ratio=2
  [ "$(jq -c '[.rows[].method]' <<<"$output")" = "$(jsq methods --json | jq -c '[.methods[].name]')" ]
}

@test "a target out of reach says what is, and does not fail the run" {
  expect 0 jsq compare "$samples/resnet20_late_fc.weight.npy" -m jointsq -t ratio=100000 -t ratio=4
  [[ ${lines[1]} =~ ^jointsq\ +ratio=100000\ +-\ .*nearest|best|smallest ]]
  [[ ${lines[2]} =~ ^jointsq\ +ratio=4\ +4\. ]]
  expect 0 jsq --json compare "$samples/resnet20_late_fc.weight.npy" -m jointsq -t ratio=100000 -t ratio=4
  [ "$(jq -c '[.rows[0].nmse, .rows[0].file_bytes, (.rows[0].problem | length > 10), .rows[1].problem]' <<<"$output")" = '[null,null,true,null]' ]
}

@test "rows stand in the order of inputs, methods and targets; --sort puts the best first and the unreachable last" {
  fc=$samples/resnet20_late_fc.weight.npy
  expect 0 jsq --json compare "$fc" "$samples/resnet20_mid.npy" -m jointsq:quant=sym -m jointsq -t ratio=8 -t ratio=100000
  [ "$(jq -c '[.rows[] | .method + " " + .target]' <<<"$output" | jq -c '.[:4]')" = '["jointsq:quant=sym ratio=8","jointsq:quant=sym ratio=100000","jointsq ratio=8","jointsq ratio=100000"]' ]
  [ "$(jq -c '[.rows[:4][].input] | unique' <<<"$output")" = "[\"$fc\"]" ]
  ascending() { jsq --json compare "$fc" -m jointsq:quant=sym -m jointsq -t ratio=8 -t ratio=100000 -t ratio=4 --sort "$1" | jq -c "[.rows[].$1]"; }
  holds "(lambda v: v[4:] == [0, 0] and v[:4] == sorted(v[:4]))($(ascending nmse | sed 's/null/0/g'))"
  holds "(lambda v: v[4:] == [0, 0] and v[:4] == sorted(v[:4], reverse=True))($(ascending cosine | sed 's/null/0/g'))"
  expect "$EXIT_USAGE" jsq compare "$fc" --sort colour
}

@test "text, CSV, Markdown and JSON say the same" {
  for format in json csv text md; do
    jsq --format $format compare "$samples/resnet20_mid.npy" -m jointsq -m jointsq:quant=mid -t ratio=16 -t ratio=64 >report.$format
  done
  noise_model forms report.json report.csv report.text report.md
}

@test "speeds are positive, and --repeat measures as often as it says" {
  expect 0 jsq --json compare "$samples/resnet20_mid.npy" -m jointsq --repeat 3
  [ "$(jq '.repeat == 3 and .rows[0].encode_mb_per_s > 0 and .rows[0].decode_mb_per_s > 0' <<<"$output")" = true ]
  expect "$EXIT_USAGE" jsq compare "$samples/resnet20_mid.npy" --repeat 0
}

@test "dumps of several tensors and folders are compared whole" {
  mkdir run
  cp "$samples/vit2_early.h5" "$samples/resnet20_late_fc.weight.npy" run/
  expect 0 jsq --json compare run -m jointsq -t ratio=16
  [ "$(jq -c '[.inputs[] | [.input, .format, .tensors]]' <<<"$output")" = '[["run/resnet20_late_fc.weight.npy","npy",1],["run/vit2_early.h5","h5",30]]' ]
  [ "$(jq '.rows | length' <<<"$output")" -eq 2 ]
  expect 0 jsq compare run -m jointsq -t ratio=16
  contains "${lines[0]}" input
}

@test "an unknown method and a bad option value are refused before and at work; other inputs go on" {
  expect "$EXIT_USAGE" jsq compare "$samples/resnet20_mid.npy" -m joint
  contains "$stderr" "did you mean 'jointsq'"
  expect "$EXIT_USAGE" jsq compare "$samples/resnet20_mid.npy" -m jointsq:quant=round
  expect "$EXIT_SOME" jsq --json compare missing.npy "$samples/resnet20_mid.npy" -m jointsq
  [ "$(jq '.rows | length' <<<"$output")" -eq 1 ]
}

@test "JSON follows its schema" {
  for format in json jsonl; do
    jsq --format $format compare "$samples/resnet20_late_fc.weight.npy" -m jointsq -t ratio=4 -t ratio=100000 >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.compare-1.json" report
  done
}

# jsq methods: the registry as it is.
bats_require_minimum_version 1.5.0
load helper.bash

@test "every method has a name, a title and a line" {
  expect 0 jsq methods
  for name in jointsq fp32 fp16 bf16 qsgd nuqsgd natural terngrad signsgd ef-signsgd onebit topk randk dgc qlsgd acsgd mcgq \
    gqsgd-std gqsgd-exp thc powersgd acpsgd lgreco rdoq; do
    grep -q "^$name  *[A-Za-z0-9]" <<<"$output"
  done
  [ "${#lines[@]}" -eq $(($(jsq methods --json | jq '.methods | length') + 1)) ]
}

@test "one method shows its source, bias, bits, and every option with default and values" {
  expect 0 jsq methods jointsq
  for part in "CVPR 2024" "allgather" "biased" "alloc " "exact|literal|sampled" "quant " "cell|mid|offmag|sym" "0248"; do
    contains "$output" "$part"
  done
}

@test "the defaults it tells are what compress does without options" {
  options=$(jsq methods jointsq --json | jq -r '[.methods[0].options[] | .name + "=" + .default] | join(",")')
  jsq -q compress -r 16 "$samples/resnet20_mid.npy" -o plain.jsq
  jsq -q compress -r 16 -m "jointsq:$options" "$samples/resnet20_mid.npy" -o spelled.jsq
  cmp plain.jsq spelled.jsq
}

@test "the first and last value of each choice is accepted by compress" {
  jsq methods jointsq --json | jq -r '.methods[0].options[] | select(.values | contains("|")) | .name as $n | .values | split("|")[] | select(contains("..") | not) | $n + "=" + .' >choices
  [ "$(wc -l <choices)" -gt 10 ]
  while read -r choice; do
    expect 0 jsq -q compress --dry-run -r 2 -m "jointsq:$choice" "$samples/resnet20_late_fc.weight.npy"
  done <choices
}

@test "a method runs on cpu and cuda, or says what stays on the processor" {
  expect 0 jsq --json methods
  [ "$(jq '[.methods[].backends | select(. != "cpu, cuda" and (test("^cpu, cuda: [a-z].{10,}") | not))] | length' <<<"$output")" -eq 0 ]
  reason=$(jq -r '.methods[] | select(.name == "rdoq") | .backends' <<<"$output")
  expect 0 jsq methods rdoq
  contains "$output" "$reason"
  expect 0 jsq methods
  grep -q '^rdoq .* cpu, cuda *$' <<<"$output"
}

@test "an unknown name is refused with the nearest" {
  expect "$EXIT_USAGE" jsq methods jointsk
  contains "$stderr" "did you mean 'jointsq'"
}

@test "CSV and Markdown are one table each, JSON follows its schema" {
  expect 0 jsq --format csv methods
  [ "${lines[0]}" = $'name,title,aggregation,backends\r' ]
  expect 0 jsq --format md methods jointsq
  contains "$output" "| option | default |"
  for format in json jsonl; do
    jsq --format $format methods >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.methods-1.json" report
  done
}

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
  [ "$(jq -c '[.rows[].method]' <<<"$output")" = '["jointsq","jointsq:quant=mid","jointsq:quant=sym","jointsq:alloc=literal","rdoq","rdoq:transform=none"]' ]
  [ "$(jq -c '[.rows[].target] | unique' <<<"$output")" = '["ratio=32"]' ]
  [ "$(jq '[.rows[].file_ratio >= 32] | all' <<<"$output")" = true ]
  [ "$(jq '[.rows[:3][].file_ratio < 32.33] | all' <<<"$output")" = true ]
}

@test "-m all is every registered method with its defaults" {
  expect 0 jsq --json compare -m all "$samples/resnet20_late_fc.weight.npy" -t ratio=2
  [ "$(jq -c '[.rows[].method]' <<<"$output")" = "$(jsq methods --json | jq -c '[.methods[].name]')" ]
}

@test "a target out of reach says what is, and does not fail the run" {
  fc=$samples/resnet20_late_fc.weight.npy
  expect 0 jsq compare "$fc" -m jointsq -t ratio=100000 -t ratio=4
  [[ ${lines[1]} =~ ^jointsq\ +ratio=100000\ .*out\ of\ reach:\ nearest\ shown$ ]]
  [[ ${lines[2]} =~ ^jointsq\ +ratio=4\ +4\. ]]
  expect 0 jsq --json compare "$fc" -m jointsq -t ratio=100000 -t ratio=4
  [ "$(jq -c '[.rows[0].reached, (.rows[0].problem | length > 10), .rows[1].reached, .rows[1].problem]' <<<"$output")" = '[false,true,true,null]' ]
}

@test "the nearest point is the smallest frame, or the smallest error, that compress tells of" {
  dump=$samples/resnet20_mid.npy
  expect 0 jsq --json compare "$dump" -m signsgd -m qsgd:bits=4 -m fp32 -t ratio=100 -t nmse=1e-9
  echo "$output" >report.json
  for method in signsgd qsgd:bits=4 fp32; do
    run --separate-stderr jsq --json compress --dry-run -m $method -t ratio=100 "$dump"
    [ "$status" -eq "$EXIT_TARGET" ]
    smallest=$(jq -r .message <<<"$stderr" | sed 's/.* has \([0-9]*\) bytes.*/\1/')
    [ "$(jq --arg m $method '.rows[] | select(.method == $m and .target == "ratio=100") | .file_bytes' report.json)" = "$smallest" ]
  done
  for method in signsgd qsgd:bits=4; do
    run --separate-stderr jsq --json compress --dry-run -m $method -t nmse=1e-9 "$dump"
    [ "$status" -eq "$EXIT_TARGET" ]
    least=$(jq -r .message <<<"$stderr" | sed 's/.*nmse=//')
    holds "abs($(jq --arg m $method '.rows[] | select(.method == $m and .target == "nmse=1e-09") | .nmse' report.json) / $least - 1) < 2e-5"
  done
  [ "$(jq -c '[.rows[] | select(.method == "fp32") | .reached]' report.json)" = '[false,true]' ]
}

@test "rows stand in the order of inputs, methods and targets; --sort puts the best first and the unreachable last" {
  fc=$samples/resnet20_late_fc.weight.npy
  expect 0 jsq --json compare "$fc" "$samples/resnet20_mid.npy" -m jointsq:quant=sym -m jointsq -t ratio=8 -t ratio=100000
  [ "$(jq -c '[.rows[] | .method + " " + .target]' <<<"$output" | jq -c '.[:4]')" = '["jointsq:quant=sym ratio=8","jointsq:quant=sym ratio=100000","jointsq ratio=8","jointsq ratio=100000"]' ]
  [ "$(jq -c '[.rows[:4][].input] | unique' <<<"$output")" = "[\"$fc\"]" ]
  ascending() { jsq --json compare "$fc" -m jointsq:quant=sym -m jointsq -t ratio=8 -t ratio=100000 -t ratio=4 --sort "$1" | jq -c "[.rows[].$1]"; }
  holds "(lambda v: v[:4] == sorted(v[:4]) and v[4:] == sorted(v[4:]))($(ascending nmse))"
  holds "(lambda v: v[:4] == sorted(v[:4], reverse=True) and v[4:] == sorted(v[4:], reverse=True))($(ascending cosine))"
  [ "$(jsq --json compare "$fc" -m jointsq:quant=sym -m jointsq -t ratio=8 -t ratio=100000 -t ratio=4 --sort nmse | jq -c '[.rows[].reached]')" = '[true,true,true,true,false,false]' ]
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
  expect 0 jsq compare run -m jointsq -m topk -t ratio=16
  [ "${lines[0]}" = run/resnet20_late_fc.weight.npy ]
  [ "${lines[4]}" = run/vit2_early.h5 ]
  [ "$(wc -L <<<"$output")" -le 120 ]
  # Rows of several inputs in one order name their input.
  expect 0 jsq compare run -m jointsq -m topk -t ratio=16 --sort nmse
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
    jsq --format $format compare "$samples/vit2_early.h5" -m jointsq -m fp32 -t ratio=8 -t hprime=0.1 --per-tensor --bound --fail-if 'fp32.hprime > 1' >report || [ $? -eq "$EXIT_ASSERTION" ]
    frames validate "$JSQ_SOURCE/tools/schema/jsq.compare-1.json" report
  done
}

@test "--per-tensor: the tensors' sums are the whole, and the errors those of each tensor by itself" {
  dump=$samples/vit2_early.h5
  expect 0 jsq --json compare "$dump" -m jointsq -t ratio=8 --per-tensor
  echo "$output" >report.json
  [ "$(jq '.rows | length' report.json)" -eq 31 ]
  [ "$(jq '.rows[30].tensor' report.json)" = null ]
  [ "$(jq '[.rows[:30][].elements] | add == $whole' --argjson whole "$(jq '.rows[30].elements' report.json)" report.json)" = true ]
  [ "$(jq '([.rows[:30][].file_bytes] | add) < .rows[30].file_bytes' report.json)" = true ]
  jsq -q compress -t ratio=8 "$dump" -o out.jsq
  jsq -q decompress out.jsq -o out.h5
  noise_model tensor-errors report.json "$dump" out.h5
}

@test "--pareto keeps what no other row beats in size and error" {
  dump=$samples/resnet20_mid.npy
  jsq --json compare "$dump" -m all -t ratio=8 -t ratio=32 >all.json
  jsq --json compare "$dump" -m all -t ratio=8 -t ratio=32 --pareto >front.json
  noise_model pareto all.json front.json
}

@test "--preset papers counts the payload at 20, 32, 100 and 1000, and the file ratio is the honest one" {
  dump=$samples/resnet20_mid.npy
  expect 0 jsq --json compare "$dump" -m jointsq --preset papers
  echo "$output" >report.json
  [ "$(jq -c '[.rows[] | [.target, .accounting]]' report.json)" = '[["ratio=20","payload"],["ratio=32","payload"],["ratio=100","payload"],["ratio=1000","payload"]]' ]
  [ "$(jq -c '[.rows[] | .payload_ratio] | [.[0] / 20, .[1] / 32, .[2] / 100, .[3] / 1000] | all(. > 0.999 and . < 1.01)' report.json)" = true ]
  [ "$(jq -c '[.rows[] | .file_ratio < .payload_ratio] | all' report.json)" = true ]
  jsq -q compress -t ratio=100 --ratio-kind payload "$dump" -o grad.npy.jsq
  [ "$(stat -c %s grad.npy.jsq)" = "$(jq '.rows[2].file_bytes' report.json)" ]
  expect 0 jsq --json compare "$dump" -m jointsq --preset paper-100
  [ "$(jq -c '.rows[0].file_bytes' <<<"$output")" = "$(jq '.rows[2].file_bytes' report.json)" ]
  expect "$EXIT_USAGE" jsq compare "$dump" --preset paper-7
}

@test "--fail-if: a condition that holds at one target fails the run; one that holds at none does not" {
  dump=$samples/resnet20_mid.npy
  expect 0 jsq compare "$dump" -m jointsq -m topk -t ratio=32 -t ratio=8 --fail-if 'jointsq.nmse > topk.nmse'
  [ -z "$stderr" ]
  expect "$EXIT_ASSERTION" jsq compare "$dump" -m jointsq -m topk -t ratio=32 -t ratio=8 --fail-if 'topk.nmse < 0.3'
  # A heading, four rows, two lines of legend.
  contains "$stderr" "at ratio=8: holds: topk.nmse 0.1"
  lacks "$stderr" "ratio=32"
  [ "${#lines[@]}" -eq 7 ]
  expect "$EXIT_ASSERTION" jsq --json compare "$dump" -m jointsq -m topk -t ratio=32 --fail-if '2 * jointsq.nmse <= topk.nmse' --fail-if 'topk.nmse < 0'
  [ "$(jq -c '[.conditions[] | [.condition, .target, .holds]]' <<<"$output")" = '[["2 * jointsq.nmse <= topk.nmse","ratio=32",true],["topk.nmse < 0","ratio=32",false]]' ]
  [ "$(jq '.conditions[0].values["jointsq.nmse"] == .rows[0].nmse' <<<"$output")" = true ]
}

@test "--fail-if: what cannot be judged fails, and says which method does not reach the target" {
  dump=$samples/resnet20_mid.npy
  expect "$EXIT_ASSERTION" jsq compare "$dump" -m jointsq -m fp32 -t ratio=32 --fail-if 'jointsq.nmse > fp32.nmse'
  contains "$stderr" "cannot be judged: fp32 does not reach it"
  expect "$EXIT_ASSERTION" jsq compare "$dump" -m topk -t ratio=32 --fail-if 'topk.hprime > 0.5'
  contains "$stderr" "topk has no hprime here"
}

@test "--fail-if: unknown names and bad syntax are refused before the work" {
  expect "$EXIT_USAGE" jsq compare missing.npy -m jointsq --fail-if 'topk.nmse > 1'
  contains "$stderr" "no method 'topk' in this run"
  expect "$EXIT_USAGE" jsq compare missing.npy -m jointsq --fail-if 'jointsq.mse > 1'
  contains "$stderr" "there are file_ratio"
  expect "$EXIT_USAGE" jsq compare missing.npy -m jointsq --fail-if 'jointsq.nmse >'
  contains "$stderr" "character 15"
}

@test "--bound: no code of independent draws lies below it, and text leaves the columns out without it" {
  dump=$samples/resnet20_mid.npy
  expect 0 jsq --json compare "$dump" -m qsgd -m topk -m mcgq -t ratio=8 -t ratio=32 --bound
  [ "$(jq '[.rows[] | .bound_db > 0 and (.bound_factor == null or .bound_factor > 1)] | all' <<<"$output")" = true ]
  expect 0 jsq compare "$dump" -m topk -t ratio=8 --bound
  contains "${lines[0]}" "to bound"
  expect 0 jsq compare "$dump" -m topk -t ratio=8
  lacks "${lines[0]}" "to bound"
}

@test "rows appear as they are measured" {
  mkfifo rows
  jsq compare "$samples/resnet20_mid.npy" -m jointsq -m topk -t ratio=8 >rows &
  exec 7<rows
  read -r heading <&7
  read -r first <&7
  contains "$heading" "method"
  contains "$first" "jointsq"
  kill -STOP $! && kill -KILL $!
  exec 7<&-
}

@test "--resume: a second run takes every cell from the first and prints the same rows" {
  dump=$samples/resnet20_mid.npy
  jsq --json compare "$dump" -m jointsq -m signsgd -t ratio=8 -t ratio=100 --resume cells.jsonl >first.json
  frames validate "$JSQ_SOURCE/tools/schema/jsq.compare-1.json" cells.jsonl
  cp cells.jsonl before.jsonl
  jsq --json compare "$dump" -m jointsq -m signsgd -t ratio=8 -t ratio=100 --resume cells.jsonl >second.json
  cmp first.json second.json
  cmp cells.jsonl before.jsonl
}

@test "--resume goes on where a run was cut, even in the middle of a line, and measures what is missing" {
  dump=$samples/resnet20_mid.npy
  jsq --format jsonl compare "$dump" -m jointsq -m topk -t ratio=8 -t ratio=32 >whole.jsonl
  head -c "$(($(head -n 3 whole.jsonl | wc -c) + 100))" whole.jsonl >cells.jsonl
  jsq --format jsonl compare "$dump" -m jointsq -m topk -t ratio=8 -t ratio=32 --resume cells.jsonl >again.jsonl
  # The two rows that were whole are those of the file, speeds and all; the others are measured anew.
  cmp <(sed -n 2,3p whole.jsonl) <(sed -n 2,3p again.jsonl)
  [ "$(jq -c 'select(.record == "row") | [.method, .target, .file_bytes, .nmse]' whole.jsonl)" = "$(jq -c 'select(.record == "row") | [.method, .target, .file_bytes, .nmse]' again.jsonl)" ]
  [ "$(grep -c '"tensor":null.*}$' cells.jsonl)" -eq 4 ]
}

@test "--resume does not take cells of other inputs, seeds and repetitions" {
  cp "$samples/resnet20_late_fc.weight.npy" grad.npy
  jsq -q compare grad.npy -m qsgd --resume cells.jsonl >/dev/null
  cp "$samples/resnet20_mid.npy" grad.npy
  expect 0 jsq compare grad.npy -m qsgd --resume cells.jsonl
  contains "$stderr" "1 cells are of other inputs"
  expect 0 jsq --seed 1 compare grad.npy -m qsgd --resume cells.jsonl
  contains "$stderr" "not used"
  lacks "$stderr" "taken"
}

@test "an interruption loses no row that was printed, and leaves no temporary" {
  dump=$samples/resnet20_mid.npy
  mkfifo rows
  # A background job of a script starts with SIGINT ignored, and jsq leaves that as it is.
  env --default-signal=INT "$JSQ_BIN" --format jsonl compare "$dump" -m all -t ratio=8 -t ratio=32 --repeat 50 --html page.html >rows &
  pid=$!
  exec 7<rows
  read -r run <&7
  read -r first <&7
  kill -INT $pid
  cat <&7 >rest
  status=0
  wait $pid || status=$?
  exec 7<&-
  [ "$status" -eq 130 ]
  printf '%s\n%s\n' "$run" "$first" | cat - rest >cells.jsonl
  [ "$(jq -c 'select(.record == "row") | .method' cells.jsonl | head -n 1)" = '"jointsq"' ]
  [ ! -e page.html ]
  no_temporaries
}

@test "--plot draws into svg, png and pdf, which carry the names of methods and the bound" {
  command -v gnuplot >/dev/null || skip "gnuplot is not installed"
  dump=$samples/resnet20_mid.npy
  for kind in svg png pdf; do
    expect 0 jsq compare "$dump" -m topk -m jointsq:quant=mid -m fp32 -t ratio=8 -t ratio=32 --plot picture.$kind
  done
  [ "$(head -c 8 picture.png | od -An -c | tr -d ' \n')" = '211PNG\r\n032\n' ]
  [ "$(head -c 5 picture.pdf)" = "%PDF-" ]
  for word in topk jointsq:quant=mid "rate-distortion bound" "fp32 (exact: below the axis)"; do contains "$(cat picture.svg)" "$word"; done
  python -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' picture.svg
  no_temporaries
}

@test "--plot: names from files reach the picture as text, not as commands" {
  command -v gnuplot >/dev/null || skip "gnuplot is not installed"
  mkdir "it's"
  name="it's/\`touch hacked\`<b>\$x @y {z}_1%s.npy"
  cp "$samples/resnet20_late_fc.weight.npy" "$name"
  expect 0 jsq compare "$name" -m topk -t ratio=4 --plot picture.svg --html page.html
  contains "$(cat picture.svg)" '`touch hacked`&lt;b>$x @y {z}_1%s.npy'
  [ ! -e hacked ]
  lacks "$(cat page.html)" "<b>"
}

@test "a picture is refused before the work: without gnuplot, by its name, and where a file exists" {
  expect "$EXIT_BACKEND" env PATH=/nowhere "$JSQ_BIN" compare missing.npy --plot picture.svg
  contains "$stderr" gnuplot-nox
  expect "$EXIT_USAGE" jsq compare missing.npy --plot picture.jpg
  command -v gnuplot >/dev/null || skip "gnuplot is not installed"
  echo mine >picture.svg
  expect "$EXIT_REFUSED" jsq compare "$samples/resnet20_late_fc.weight.npy" -m topk -t ratio=4 --plot picture.svg
  [ "$(cat picture.svg)" = mine ]
  expect 0 jsq compare "$samples/resnet20_late_fc.weight.npy" -m topk -t ratio=4 --plot picture.svg -f
  [ "$(cat picture.svg)" != mine ]
}

@test "--html is one page: it names its command and inputs, loads nothing, and sorts in a browser without an error" {
  command -v gnuplot >/dev/null || skip "gnuplot is not installed"
  expect 0 jsq compare "$samples/resnet20_mid.npy" "$samples/resnet20_late_fc.weight.npy" -m topk -m jointsq -m fp32 -t ratio=8 -t ratio=4 --fail-if 'topk.nmse<0' --html page.html
  page=$(cat page.html)
  contains "$page" "--fail-if &#39;topk.nmse&lt;0&#39;"
  contains "$page" "Content-Security-Policy"
  [ "$(python -c "import sys, xxhash; print(xxhash.xxh64(open(sys.argv[1], 'rb').read()).hexdigest())" "$samples/resnet20_mid.npy")" = "$(grep -o 'ba230dd1a92c5383' page.html | head -n 1)" ]
  run ! grep -oE '(src|href)="?[a-z]+:' page.html
  command -v chromium >/dev/null || skip "chromium is not installed"
  expect 0 python "$BATS_TEST_DIRNAME/check_page.py" page.html
  echo "$output"
}

# jsq compress: what it writes, what it reports, and that both are true.
# shellcheck disable=SC2154
bats_require_minimum_version 1.5.0
load helper.bash

@test "a frame takes at most input / 32 bytes by default and uses 99 % of them" {
  dumps make npy grad.npy
  expect 0 jsq compress grad.npy
  size=$(stat -c %s grad.npy.jsq)
  holds "0.99 * 400000 / 32 <= $size <= 400000 / 32"
}

@test "a ratio is kept for every stored dtype, by the bytes of that dtype" {
  dumps make f16 half.npy
  dumps make f64 double.npy
  expect 0 jsq compress -r 10 half.npy
  expect 0 jsq compress --target ratio=40 double.npy
  holds "0.98 * 160000 / 10 <= $(stat -c %s half.npy.jsq) <= 160000 / 10"
  holds "0.98 * 640000 / 40 <= $(stat -c %s double.npy.jsq) <= 640000 / 40"
}

@test "targets in bytes and in bits per element are kept as well" {
  dumps make npy grad.npy
  expect 0 jsq compress -t bytes=20KiB -o bytes.jsq grad.npy
  expect 0 jsq compress -t bpw=2 -o bpw.jsq grad.npy
  holds "0.99 * 20480 <= $(stat -c %s bytes.jsq) <= 20480"
  holds "0.99 * 25000 <= $(stat -c %s bpw.jsq) <= 25000"
}

@test "the reported nmse and cosine are those that numpy measures on the restored dump" {
  dumps make npy grad.npy
  expect 0 jsq compress --json grad.npy
  report=$output
  expect 0 jsq decompress -o back.npy grad.npy.jsq
  holds "abs($(jq '.frames[0].nmse' <<<"$report") / $(dumps nmse grad.npy back.npy) - 1) < 1e-6"
  holds "abs($(jq '.frames[0].cosine' <<<"$report") / $(dumps cosine grad.npy back.npy) - 1) < 1e-6"
  [ "$(jq '.frames[0].file_bytes' <<<"$report")" -eq "$(stat -c %s grad.npy.jsq)" ]
}

@test "the reported nmse of half precision is that of the rounded values that are written back" {
  dumps make f16 half.npy
  expect 0 jsq compress --json -r 8 half.npy
  report=$output
  expect 0 jsq decompress -o back.npy half.npy.jsq
  holds "abs($(jq '.frames[0].nmse' <<<"$report") / $(dumps nmse half.npy back.npy) - 1) < 1e-6"
}

@test "one tensor is reported in two lines on standard error and nothing on standard output" {
  dumps make npy grad.npy
  expect 0 jsq compress grad.npy
  [ -z "$output" ]
  [ "${#stderr_lines[@]}" -eq 2 ]
  [[ ${stderr_lines[0]} =~ ^grad\.npy\ \ f32\ \[100,1000\]\ \ 391\ KiB\ -\>\ 12\.2\ KiB\ \ 32\.[01]x\ \(payload\ [0-9.]+x,\ entropy\ [0-9.]+x\)\ \ [01]\.[0-9]{3}\ bit/element$ ]]
  [[ ${stderr_lines[1]} =~ ^\ \ jointsq\ 0/2/4/8\ bits\ [0-9./]+\ %\ \ kept\ [0-9.]+\ %\ \ h\'\ 0\.[0-9]+\ \ nmse\ 0\.[0-9]+\ \ cos\ 0\.[0-9]+\ \ [0-9.]+\ [MG]B/s\ \ -\>\ grad\.npy\.jsq$ ]]
}

@test "the shares of the classes add up to all elements" {
  dumps make npy grad.npy
  expect 0 jsq compress --json grad.npy
  [ "$(jq '.frames[0].pools[0].members | add' <<<"$output")" -eq 100000 ]
}

@test "-q is silent, -v adds a table of the tensors of an archive" {
  dumps make h5 grads.h5
  expect 0 jsq -q compress -o a.jsq grads.h5
  [ -z "$output$stderr" ]
  expect 0 jsq compress -v -o b.jsq grads.h5
  contains "$stderr" "3 tensors in 1 dump"
  contains "$stderr" "layer1/weight"
  contains "$stderr" "[50,1000]"
  contains "$stderr" "rdoq:preset=fast in these bytes  nmse "
  expect 0 jsq compress -v -m topk -o c.jsq grads.h5
  [[ $stderr != *"in these bytes"* ]]
  expect 0 jsq compress -m rdoq --rounding stochastic -r 8 -o d.jsq grads.h5
  contains "$stderr" "rounding to nearest in these bytes  nmse "
}

@test "-t cosine is reached, and says what it is where it cannot be" {
  dumps make npy grad.npy
  expect 0 jsq compress --json -m rdoq -t cosine=0.97 -o c.jsq grad.npy
  holds "0.97 <= $(jq '.frames[0].cosine' <<<"$output") <= 0.9705"
  expect 0 jsq compress --json -t cosine=0.97 -o d.jsq grad.npy
  holds "0.97 <= $(jq '.frames[0].cosine' <<<"$output")"
  expect "$EXIT_USAGE" jsq compress -t cosine=1 -o e.jsq grad.npy
  contains "$stderr" "below 1"
}

@test "the same input gives the same bytes for every number of threads, again and through a pipe" {
  dumps make npy grad.npy
  for threads in 1 2 3 7; do
    expect 0 jsq compress --threads "$threads" -o "t$threads.jsq" grad.npy
    cmp t1.jsq "t$threads.jsq"
  done
  jsq compress -q -c grad.npy >piped.jsq
  cmp t1.jsq piped.jsq
}

@test "standard input becomes a frame on standard output" {
  dumps make npy grad.npy
  jsq compress - <grad.npy >stream.jsq 2>report
  contains "$(cat report)" "standard output"
  expect 0 jsq decompress -o back.npy stream.jsq
  dumps same-structure grad.npy back.npy
}

@test "a folder becomes one archive beside it, dumps by their paths in it" {
  mkdir -p step/deep
  dumps make npy step/b.npy
  dumps make h5 step/deep/a.h5
  echo note >step/README
  expect 0 jsq compress step/
  [ "$(jsq list --json step.jsq | jq -c '[.frames[0].dumps[].path]')" = '["b.npy","deep/a.h5"]' ]
}

@test "several inputs make one archive with -o, and without it a usage error that says how" {
  dumps make npy a.npy
  dumps make small b.npy
  expect "$EXIT_USAGE" jsq compress a.npy b.npy
  contains "$stderr" "-o"
  [ ! -e a.npy.jsq ]
  expect 0 jsq compress -o both.jsq a.npy b.npy
  [ "$(jsq list --json both.jsq | jq -c '[.frames[0].dumps[].path]')" = '["a.npy","b.npy"]' ]
}

@test "inputs of one base name keep the folders they were given with" {
  mkdir w0 w1
  dumps make npy w0/grad.npy
  dumps make small w1/grad.npy
  expect 0 jsq compress -o all.jsq w0/grad.npy ./w1/../w1/grad.npy
  [ "$(jsq list --json all.jsq | jq -c '[.frames[0].dumps[].path]')" = '["w0/grad.npy","w1/grad.npy"]' ]
  expect "$EXIT_USAGE" jsq compress -o twice.jsq w0/grad.npy w0/grad.npy
  contains "$stderr" "would both be stored as"
}

@test "--output-dir gives every input a frame of its own" {
  dumps make npy a.npy
  dumps make small b.npy
  expect 0 jsq compress --output-dir out -r 8 a.npy b.npy
  [ -f out/a.npy.jsq ] && [ -f out/b.npy.jsq ]
  expect "$EXIT_USAGE" jsq compress --output-dir out -o x.jsq a.npy
}

@test "a quoted glob is expanded, sorted; one that matches nothing is a missing input" {
  dumps make small b.npy
  dumps make small a.npy
  expect 0 jsq compress -r 4 -o both.jsq '[ab].npy'
  [ "$(jsq list --json both.jsq | jq -c '[.frames[0].dumps[].path]')" = '["a.npy","b.npy"]' ]
  expect "$EXIT_MISSING" jsq compress -o none.jsq '*.h5'
}

@test "path::member takes one member or subtree, --include and --exclude take tensors by name" {
  dumps make h5 grads.h5
  dumps make npz grads.npz
  names() { jsq list --json "$1" | jq -c '[.frames[0].tensors[].name]'; }
  expect 0 jsq compress -r 8 -o group.jsq grads.h5::/layer1
  contains "$(names group.jsq)" weight
  lacks "$(names group.jsq)" fc
  expect 0 jsq compress -r 8 -o member.jsq grads.npz::fc
  [ "$(names member.jsq)" = '["fc"]' ]
  expect 0 jsq compress -r 8 -o filtered.jsq --include '*weight' --exclude 'fc/*' grads.h5
  [ "$(names filtered.jsq)" = '["layer1/weight"]' ]
  expect "$EXIT_USAGE" jsq compress -o none.jsq --include 'conv9*' grads.h5
  contains "$stderr" "layer1/weight"
}

@test "--scope tensor gives every tensor its own budget, archive shares one" {
  dumps make h5 grads.h5
  expect 0 jsq compress --json -r 10 --scope tensor -o t.jsq grads.h5
  [ "$(jq '.frames[0].pools | length' <<<"$output")" -eq 3 ]
  expect 0 jsq compress --json -r 10 -o a.jsq grads.h5
  [ "$(jq '.frames[0].pools | length' <<<"$output")" -eq 1 ]
}

@test "--ratio-kind payload counts the bits of the values only" {
  dumps make npy grad.npy
  expect 0 jsq compress --json -r 32 --ratio-kind payload grad.npy
  holds "31.9 < $(jq '.frames[0].payload_ratio' <<<"$output") < 33"
  [ "$(jq '.frames[0].budget_bytes' <<<"$output")" = null ]
  # 1 bit an element is spent on values, so the file is larger than 1 bit an element.
  holds "$(jq '.frames[0].file_ratio' <<<"$output") < 32"
}

@test "an error target is met by the measured error or, for the model's, by the model" {
  dumps make npy grad.npy
  expect 0 jsq compress --json -t nmse=1e-2 -o n.jsq grad.npy
  holds "$(jq '.frames[0].nmse' <<<"$output") <= 1e-2"
  expect 0 jsq compress --json -t hprime=0.1 -o h.jsq grad.npy
  holds "$(jq '.frames[0].hprime' <<<"$output") <= 0.1 + 1e-9"
}

@test "--dry-run writes nothing and tells the size that compress then writes" {
  dumps make npy grad.npy
  expect 0 jsq compress --dry-run --json grad.npy
  told=$(jq '.frames[0].file_bytes' <<<"$output")
  [ ! -e grad.npy.jsq ]
  expect 0 jsq compress grad.npy
  [ "$told" -eq "$(stat -c %s grad.npy.jsq)" ]
}

@test "--verify decodes what was written, to a file and to a stream" {
  dumps make h5 grads.h5
  expect 0 jsq compress --verify --json grads.h5
  [ "$(jq '.frames[0].verified' <<<"$output")" = true ]
  jsq compress -q --verify -c grads.h5 >stream.jsq
  cmp stream.jsq grads.h5.jsq
}

@test "--verify holds for kept and for zeroed non-finite values, half precision and Fortran order" {
  dumps make nonfinite bad.npy
  dumps make f16 half.npy
  dumps make fortran fortran.npy
  expect 0 jsq compress --verify --nonfinite keep -o keep.jsq bad.npy
  expect 0 jsq compress --verify --nonfinite zero -o zero.jsq bad.npy
  expect 0 jsq compress --verify half.npy
  expect 0 jsq compress --verify fortran.npy
}

@test "non-finite values are refused with their count and the first position" {
  dumps make nonfinite bad.npy
  expect "$EXIT_UNSUPPORTED" jsq compress bad.npy
  contains "$stderr" "2 NaN, 1 +Inf among 60000 values, first at [0,2,5,1]; use --nonfinite keep"
  [ ! -e bad.npy.jsq ]
  no_temporaries
}

@test "--nonfinite keep restores every bit of them, zero makes them nearly nothing" {
  dumps make nonfinite bad.npy
  expect 0 jsq compress --nonfinite keep -o keep.jsq bad.npy
  expect 0 jsq decompress -o keep.npy keep.jsq
  holds "(lambda a, b: np.array_equal(np.isfinite(a), np.isfinite(b)) and a.view('u4')[~np.isfinite(a)].tolist() == b.view('u4')[~np.isfinite(b)].tolist())(np.load('bad.npy'), np.load('keep.npy'))"
  expect 0 jsq compress --nonfinite zero -o zero.jsq bad.npy
  expect 0 jsq decompress -o zero.npy zero.jsq
  holds "np.isfinite(np.load('zero.npy')).all()"
}

@test "--meta is stored, and malformed pairs are refused" {
  dumps make small a.npy
  expect 0 jsq compress -r 4 --meta step=100 --meta model=resnet20 a.npy
  [ "$(jsq list --json a.npy.jsq | jq -c '.frames[0].metadata')" = '{"step":"100","model":"resnet20"}' ]
  expect "$EXIT_USAGE" jsq compress -f --meta step a.npy
}

@test "layers of a flat dump are found beside it or named, and need less error for the same bytes" {
  python -c "
import json, numpy as np
rows, columns = 2.0 ** np.arange(-4, 4, 0.2)[:, None], 2.0 ** np.arange(-4, 4, 0.2)
layers = [(rows * columns * np.random.default_rng(k).standard_normal((40, 40))).astype('f4') for k in range(4)]
np.save('flat.npy', np.concatenate([layer.ravel() for layer in layers]))
json.dump({'layers': [{'shape': [40, 40], 'offset': 1600 * k} for k in range(4)]}, open('flat.layers.json', 'w'))
json.dump({'layers': [{'shape': [40, 40]}]}, open('short.json', 'w'))
"
  expect 0 jsq compress -m rdoq -r 16 -o with.jsq --verify flat.npy
  contains "$stderr" "flat.layers.json"
  expect 0 jsq compress -m rdoq -r 16 -o named.jsq --layers flat.layers.json flat.npy
  cmp with.jsq named.jsq
  expect 0 jsq compress -m rdoq -r 16 -o without.jsq --layers none flat.npy
  [[ $stderr != *layers.json* ]]
  better=$(jsq compress -m rdoq -r 16 --dry-run --json flat.npy | jq '.frames[0].nmse')
  worse=$(jsq compress -m rdoq -r 16 --dry-run --json --layers none flat.npy | jq '.frames[0].nmse')
  holds "$better < 0.8 * $worse"
  expect "$EXIT_USAGE" jsq compress -m rdoq -o bad.jsq --layers short.json flat.npy
  contains "$stderr" "1600"
  expect "$EXIT_MISSING" jsq compress -m rdoq -o bad.jsq --layers nothing.json flat.npy
}

@test "inputs are kept, unless --rm is given and the frame is complete; -k wins" {
  dumps make npy grad.npy
  expect 0 jsq compress grad.npy
  [ -e grad.npy ]
  expect 0 jsq compress -f -k --rm grad.npy
  [ -e grad.npy ]
  expect "$EXIT_REFUSED" jsq compress --rm grad.npy
  [ -e grad.npy ]
  expect 0 jsq compress -f --rm grad.npy
  [ ! -e grad.npy ] && [ -e grad.npy.jsq ]
}

@test "--rm is refused where more would be deleted than is in the frame" {
  dumps make npz grads.npz
  expect "$EXIT_USAGE" jsq compress --rm -o a.jsq grads.npz::fc
  expect "$EXIT_USAGE" jsq compress --rm -o a.jsq --include fc grads.npz
  expect "$EXIT_USAGE" jsq compress --rm -c grads.npz
  [ -e grads.npz ]
}

@test "an existing output is refused without -f and replaced whole with it" {
  dumps make npy grad.npy
  echo precious >grad.npy.jsq
  expect "$EXIT_REFUSED" jsq compress grad.npy
  contains "$stderr" "-f"
  [ "$(cat grad.npy.jsq)" = precious ]
  expect 0 jsq compress -f grad.npy
  expect 0 jsq test grad.npy.jsq
}

@test "the output's mode is what the umask leaves, and a link as output is followed" {
  dumps make npy grad.npy
  (umask 027 && jsq compress -q grad.npy)
  [ "$(stat -c %a grad.npy.jsq)" = 640 ]
  mkdir real && touch real/target.jsq && ln -s real/target.jsq link.jsq
  expect 0 jsq compress -f -o link.jsq grad.npy
  [ -L link.jsq ] && [ -s real/target.jsq ]
}

@test "a bad input does not stop the others of an archive, and the exit code tells" {
  dumps make npy good.npy
  head -c 200 good.npy >bad.npy
  expect "$EXIT_SOME" jsq compress -o some.jsq good.npy bad.npy missing.npy
  contains "$stderr" "bad.npy"
  contains "$stderr" "missing.npy"
  [ "$(jsq list --json some.jsq | jq -c '[.frames[0].dumps[].path]')" = '["good.npy"]' ]
}

@test "a file name with control characters is stored without them" {
  dumps make small "$(printf 'a\nb\033.npy')"
  expect 0 jsq compress -r 4 -o odd.jsq "$(printf 'a\nb\033.npy')"
  lacks "$stderr" "$(printf '\033')"
  contains "$stderr" 'a\nb\x1b.npy'
  expect 0 jsq decompress odd.jsq
  [ -e a_b_.npy ]
}

@test "a measured error far above the model's is warned about" {
  dumps make npy grad.npy
  expect 0 jsq compress --json -r 32 -m jointsq:quant=sym grad.npy
  nmse=$(jq '.frames[0].nmse' <<<"$output") model=$(jq '.frames[0].hprime' <<<"$output")
  warned=$(jq '.frames[0].warnings | length' <<<"$output")
  holds "($nmse >= 1 or $nmse > 2 * $model) == ($warned == 1)"
}

@test "csv has one row for each tensor with exact bytes, md is a table" {
  dumps make h5 grads.h5
  expect 0 jsq compress --format csv grads.h5
  [ "${lines[0]}" = $'dump,name,dtype,shape,input_bytes,block_bytes,ratio,nmse,cosine,max_error,nonfinite\r' ]
  [ "${#lines[@]}" -eq 4 ]
  contains "$output" '"[50,1000]",200000,'
  expect 0 jsq compress -f --format md grads.h5
  contains "${lines[1]}" "| ---"
}

@test "jsonl is one line for each tensor, then a summary" {
  dumps make h5 grads.h5
  expect 0 jsq compress --format jsonl grads.h5
  [ "$(jq -rs 'map(.record) | join(" ")' <<<"$output")" = "tensor tensor tensor summary" ]
}

@test "with -c the report goes to standard error, as text and as JSON" {
  dumps make npy grad.npy
  jsq compress -c --json grad.npy >frame.jsq 2>report.json
  [ "$(jq -r .schema report.json)" = jsq.compress/1 ]
  expect 0 jsq test frame.jsq
}

@test "all-zero, empty and one-element dumps become frames that restore them" {
  dumps make zeros zeros.npy
  python -c "import numpy as np; np.save('empty.npy', np.zeros((0, 5), '<f4')); np.save('one.npy', np.float32(3))"
  for name in zeros empty; do
    expect 0 jsq compress -t nmse=1e-3 "$name.npy"
    expect 0 jsq decompress -o back.npy -f "$name.npy.jsq"
    cmp "$name.npy" back.npy
  done
  expect 0 jsq compress -t nmse=1e-3 one.npy
  expect 0 jsq decompress -o one_back.npy one.npy.jsq
  dumps same-structure one.npy one_back.npy
}

@test "the real gradient of samples/ fits its ratio and has the error that numpy measures" {
  expect 0 jsq compress --json -o real.jsq "$samples/resnet20_mid.npy"
  report=$output
  holds "0.99 * 269722 * 4 / 32 <= $(stat -c %s real.jsq) <= 269722 * 4 / 32"
  expect 0 jsq decompress -o back.npy real.jsq
  holds "abs($(jq '.frames[0].nmse' <<<"$report") / $(dumps nmse "$samples/resnet20_mid.npy" back.npy) - 1) < 1e-6"
}

@test "every real dump round-trips in structure within its ratio" {
  real_dumps
  for dump in "$gradients"/resnet20_late_float16.npy "$gradients"/resnet20_late_float64.npy "$gradients"/vit2_late.h5 \
    "$gradients"/resnet20_late_layer2.0.conv1.weight_fortran.npy; do
    name=${dump##*/}
    expect 0 jsq compress --verify --json -r 12 -o "$name.jsq" "$dump"
    holds "$(jq '.frames[0].file_ratio' <<<"$output") >= 12"
    expect 0 jsq decompress "$name.jsq"
    dumps same-structure "$dump" "$name"
  done
}

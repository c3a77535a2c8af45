# jsq bench: that it measures what it says; how fast the codec is, is no test's matter.
bats_require_minimum_version 1.5.0
load helper.bash

@test "speed and share of memcpy follow from the medians it prints" {
  expect 0 jsq --json bench --size 256Ki --min-time 0.01
  [ "$(jq '.elements == 262144 and .bytes == 1048576 and .threads == 1 and .clock == "host" and .device == null' <<<"$output")" = true ]
  for operation in memcpy compress decompress; do
    holds "np.isclose($(jq ".$operation.gb_per_s" <<<"$output"), 1048576 / 1e9 / $(jq ".$operation.seconds" <<<"$output"), rtol=1e-12)"
    holds "np.isclose($(jq ".$operation.share_of_memcpy" <<<"$output"), $(jq .memcpy.seconds <<<"$output") / $(jq ".$operation.seconds" <<<"$output"), rtol=1e-12)"
    holds "$(jq ".$operation.repetitions" <<<"$output") >= 3"
  done
}

@test "--min-time is spent on compression and on decompression, and memcpy runs four times before each compression" {
  local start=$EPOCHREALTIME
  expect 0 jsq --json bench --size 64Ki --min-time 0.1
  # Or all the repetitions there may be; a slower machine only takes longer.
  holds "$EPOCHREALTIME - $start > 0.2 or 1000 in ($(jq -r '"\(.compress.repetitions), \(.decompress.repetitions)"' <<<"$output"))"
  [ "$(jq ".memcpy.repetitions == 4 * .compress.repetitions" <<<"$output")" = true ]
}

@test "on one thread, compression and decompression begin no other" {
  command -v strace >/dev/null || skip "strace is not installed"
  strace -qq -o /dev/null true 2>/dev/null || skip "this machine does not allow tracing"
  begun() {
    strace -f -qq -o trace -e trace=clone,clone3 "$@" >/dev/null
    grep -c clone trace || true
  }
  [ "$(begun "$jsq" --threads 1 bench --size 4Mi --min-time 0)" = "$(begun "$jsq" --version)" ]
}

@test "a dump is repeated to the size asked for, and what is measured is really coded" {
  fc=$samples/resnet20_late_fc.weight.npy
  expect 0 jsq --json bench --size 100K --min-time 0 -t ratio=16 "$fc"
  python -c "import numpy as np, sys; np.save('tiled.npy', np.resize(np.load(sys.argv[1]), 100000))" "$fc"
  ratio=$(jq .file_ratio <<<"$output") nmse=$(jq .nmse <<<"$output")
  expect 0 jsq --json compare -m jointsq -t ratio=16 tiled.npy
  holds "np.isclose($nmse, $(jq '.rows[0].nmse' <<<"$output"), rtol=0.02)"
  holds "16 <= $ratio < 16.2"
}

@test "a dump may be measured as it is, where shapes and layers matter" {
  cp "$samples"/resnet20_mid.npy "$samples"/resnet20_mid.layers.json .
  expect 0 jsq --json bench --size dump --min-time 0 -m rdoq -t ratio=32 resnet20_mid.npy
  nmse=$(jq .nmse <<<"$output")
  [ "$(jq .elements <<<"$output")" -eq "$(python -c "import numpy as np; print(np.load('resnet20_mid.npy').size)")" ]
  expect 0 jsq --json --threads 2 bench --size dump --min-time 0 -m rdoq -t ratio=32 resnet20_mid.npy
  [ "$(jq .nmse <<<"$output")" = "$nmse" ]
  expect 0 jsq --json compare -m rdoq -t ratio=32 resnet20_mid.npy
  holds "np.isclose($nmse, $(jq '.rows[0].nmse' <<<"$output"), rtol=0.01)"
  expect "$EXIT_USAGE" jsq bench --size dump
}

@test "several threads decode to the same values" {
  expect 0 jsq --json bench --size 300000 --min-time 0
  one=$(jq .nmse <<<"$output")
  expect 0 jsq --json --threads 3 bench --size 300000 --min-time 0
  [ "$(jq .threads <<<"$output")" -eq 3 ] && [ "$(jq .nmse <<<"$output")" = "$one" ]
}

@test "the synthetic values are heavy-tailed as documented" {
  python - <<'PYTHON'
import numpy as np
def mix(x):
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
with np.errstate(over="ignore"):
    u = mix(np.arange(500000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1))
total = sum(((u >> np.uint64(16 * k)) & np.uint64(0xFFFF)).astype(np.int64) for k in range(4)) - 2 * 65536
octave = mix(u) | np.uint64(32)
j = np.log2((octave & (~octave + np.uint64(1))).astype(np.float64))
values = (total * 2.0**j * 2.0**-26).astype("f4")
kurtosis = ((values - values.mean()) ** 4.0).mean() / values.var(dtype=np.float64) ** 2
assert 40 < kurtosis < 60, kurtosis
np.save("synthetic.npy", values)
PYTHON
  expect 0 jsq --json bench --size 500K --min-time 0
  synthetic=$(jq .nmse <<<"$output")
  expect 0 jsq --json bench --size 500K --min-time 0 synthetic.npy
  [ "$(jq .nmse <<<"$output")" = "$synthetic" ]
}

@test "text, CSV and Markdown have a row for each operation" {
  for format in text csv md; do
    expect 0 jsq --format $format bench --size 64Ki --min-time 0
    for operation in memcpy compress decompress; do contains "$output" "$operation"; done
  done
}

@test "impossible sizes, methods and targets are refused" {
  expect "$EXIT_USAGE" jsq bench --size 0
  expect "$EXIT_USAGE" jsq bench --size 12parsecs
  contains "$stderr" "64Mi"
  expect "$EXIT_USAGE" jsq bench --size 64Ki -m nosuch
  expect "$EXIT_MISSING" jsq bench --size 64Ki missing.npy
}

@test "values on the device need the device's backend" {
  expect "$EXIT_USAGE" jsq --backend cpu bench --size 64Ki --values device
  contains "$stderr" "--backend cuda"
  expect "$EXIT_USAGE" jsq bench --size 64Ki --values elsewhere
}

@test "a size that does not fit into --memory-limit is refused with what to do" {
  needs_its_own_memory
  expect "$EXIT_LIMIT" jsq --memory-limit 256MiB bench --size 1Gi
  contains "$stderr" "smaller --size"
}

@test "JSON follows its schema" {
  for format in json jsonl; do
    jsq --format $format bench --size 64Ki --min-time 0 >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.bench-1.json" report
  done
}

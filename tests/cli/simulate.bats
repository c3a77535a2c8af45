# jsq simulate: the model's figures for given codecs, sizes from real encodes, and the order of JointSQ's Fig. 7.
bats_require_minimum_version 1.5.0
load helper.bash

# A gradient of 8 MB and a codec whose speed is known: no figure depends on the machine.
known=(--gradient-bytes 8MB --encode-speed 4GB --decode-speed 32GB --compute-ms 90 --repeat 1)

@test "step times are those of the manual's model" {
  jsq simulate --json "$samples/resnet20_mid.npy" "${known[@]}" --bucket 2MB --net 8Gbit,100us --workers 2,4,5 -m topk -m fp16 >r.json
  python -c "
import json, math
r = json.load(open('r.json'))
alpha, beta, S, C, B = 100e-6, 1e-9, 8e6, 0.09, 2 / 3
K = 4
def ring(n, m): return 2 * (n - 1) * (alpha + m / n * beta)
def gather(n, m): return (n - 1) * (alpha + m * beta)
def step(n, exchange, message, E, D):
    encoded = exchanged = done = 0
    for k in range(K):
        encoded = max(C * (1 - B) + C * B * (k + 1) / K, encoded) + E / K
        exchanged = max(encoded, exchanged) + exchange(n, message / K)
        done = max(exchanged, done) + D / K
    return done
assert r['step']['buckets'] == K
for i, n in enumerate((2, 4, 5)):
    base = r['baseline'][i]
    assert math.isclose(base['step_seconds'], step(n, ring, S, 0, 0), rel_tol=1e-9)
    for method, exchange, decodes in ((r['methods'][0], gather, n), (r['methods'][1], ring, 1)):
        point = method['points'][i]
        t = step(n, exchange, point['message_bytes'], S / 4e9, decodes * S / 32e9)
        assert math.isclose(point['step_seconds'], t, rel_tol=1e-9), (method, n, t)
        assert math.isclose(point['speedup'], base['step_seconds'] / t, rel_tol=1e-9)
assert [m['gathers'] for m in r['methods']] == [True, False]"
}

@test "messages are those of real encodes, scaled to the model" {
  dump=$samples/resnet20_mid.npy
  jsq simulate --json "$dump" -m topk -t ratio=50 -m fp16 -m signsgd:scale=none --workers 2,64 --repeat 1 >r.json
  jsq aggregate --json "$dump" -m topk -t ratio=50 >one.json
  [ "$(jq '.methods[0].points[0].message_bytes' r.json)" = "$(jq '.methods[0].message_bytes' one.json)" ]
  # 269,722 halves; votes of 2 and of 64 workers, 3 and 8 bits.
  [ "$(jq -c '[.methods[1, 2].points[].message_bytes]' r.json)" = "[539444,539444,101146,269722]" ]
  jsq simulate --json "$dump" -m fp16 --workers 2 --gradient-bytes 10788880 --repeat 1 >scaled.json
  [ "$(jq '.methods[0].points[0].message_bytes' scaled.json)" = 5394440 ]
  [ "$(jq -r .codec r.json)" = measured ]
}

@test "gathering stops paying at twice the ratio, adding does not, and the manual's break-even holds" {
  # No codec cost and no latency to speak of: (n - 1) m < 2 (n - 1) / n S.
  jsq simulate --json "$samples/resnet20_mid.npy" -m topk:k=5000,map=raw32 -m fp16 --overlap off --compute-ms 1 --net 1Gbit,0us --encode-speed 1e6GB --decode-speed 1e6GB --workers 2..65536 --repeat 1 >r.json
  bytes=$(jq '.methods[0].points[0].message_bytes' r.json)
  holds "abs($(jq '.methods[0].stops_paying' r.json) - (2 * 1078888 / $bytes)) <= 1.5"
  [ "$(jq '.methods[1].stops_paying' r.json)" = null ]
  [ "$(jq '[.methods[1].points[].speedup] | min > 1.5' r.json)" = true ]
  [ "$(jq '.methods[0].points | length' r.json)" -eq 16 ]
  # Slower networks than the break-even gain, faster ones lose.
  jsq simulate --json "$samples/resnet20_mid.npy" "${known[@]}" -m topk --workers 8 >r.json
  even=$(jq '.methods[0].points[0].break_even_bytes_per_second' r.json)
  for factor in 0.99 1.01; do
    rate=$(python -c "print(f'{$even * 8e-6 * $factor:.6f}')")
    jsq simulate --json "$samples/resnet20_mid.npy" "${known[@]}" -m topk --workers 8 --net "${rate}Mbit,25us" | jq '.methods[0].points[0].speedup'
  done >speedups
  holds "$(sed -n 1p speedups) > 1 > $(sed -n 2p speedups)"
}

@test "what cannot hold the sum of so many workers says so, and the rest is shown" {
  jsq simulate --json "$samples/resnet20_mid.npy" -m gqsgd-std --workers 2..1024 --repeat 1 >r.json
  [ "$(jq -c '[.methods[0].points[] | select(.problem != null) | .workers]' r.json)" = "[128,256,512,1024]" ]
  expect 0 jsq simulate "$samples/resnet20_mid.npy" -m gqsgd-std --workers 64,128 --repeat 1
  contains "$output" "128 workers: gqsgd-std: sums of 128 workers do not fit 8 bits"
}

@test "the order of JointSQ's Fig. 7 at equal error: JointSQ, QLSGD, AC-SGD and DGC behind it, 2 to 64 nodes" {
  jsq simulate --json "$samples/resnet20_mid.npy" -m jointsq -m qlsgd:bits=10 -m acsgd -m dgc -t nmse=0.3 --encode-speed 1GB --decode-speed 1GB --net 1Gbit,25us --overlap off --compute-ms 10 --repeat 1 >r.json
  [ "$(jq -c '[.baseline[].workers]' r.json)" = "[2,4,8,16,32,64]" ]
  python -c "
import json
r = json.load(open('r.json'))
speed = {m['method']: [p['speedup'] for p in m['points']] for m in r['methods']}
for other in speed:
    assert other == 'jointsq' or all(a > b for a, b in zip(speed['jointsq'], speed[other])), speed"
}

@test "text has a column for each number of workers, CSV a row for each point" {
  expect 0 jsq simulate "$samples/resnet20_mid.npy" "${known[@]}" -m topk -m fp16 --workers 2..16
  contains "${lines[1]}" "x16"
  [ "${#lines[@]}" -eq 7 ]
  jsq simulate --format csv "$samples/resnet20_mid.npy" "${known[@]}" -m topk -m fp16 --workers 2..16 >r.csv
  [ "$(wc -l <r.csv)" -eq 13 ]
  # Again, with the same figures: codecs whose speed is given are not measured.
  jsq simulate --format csv "$samples/resnet20_mid.npy" "${known[@]}" -m topk -m fp16 --workers 2..16 | cmp - r.csv
}

@test "pictures, schema, and what is wrong with the options" {
  dump=$samples/resnet20_late_fc.weight.npy
  for format in json jsonl; do
    jsq simulate --format $format "$dump" -m fp16 -m gqsgd-std --workers 2,128 --repeat 1 >report
    frames validate "$JSQ_SOURCE/tools/schema/jsq.simulate-1.json" report
  done
  if command -v gnuplot >/dev/null; then
    expect 0 jsq simulate "$dump" -m fp16 -m signsgd --repeat 1 --plot s.svg
    contains "$(cat s.svg)" "Speed-up over fp32 allreduce"
    expect "$EXIT_REFUSED" jsq simulate "$dump" -m fp16 --plot s.svg
  fi
  for wrong in "--workers 1..4" "--workers 8..4" "--workers 65537" "--workers 2,,3" "--net 10" "--net 10Gbit,25" "--net 0Gbit,1us" \
    "--gradient-bytes 0" "--bucket 0" "--encode-speed fast" "--collective star" "--overlap maybe"; do
    # shellcheck disable=SC2086
    expect "$EXIT_USAGE" jsq simulate "$dump" -m fp16 $wrong
  done
  expect "$EXIT_USAGE" jsq simulate "$dump" -m topk:k=5 --collective ring
  contains "$stderr" "cannot be added"
  for collective in tree ps allgather; do
    jsq simulate --json "$dump" -m fp16 --collective $collective --workers 4 --repeat 1 | jq -e ".methods[0].points[0].exchange == \"$collective\""
  done
  expect "$EXIT_MISSING" jsq simulate nowhere.npy
  expect "$EXIT_TARGET" jsq simulate "$dump" -m topk -t ratio=1e6
}

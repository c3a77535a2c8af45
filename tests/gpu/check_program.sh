#!/usr/bin/env bash
# The program with --backend cuda: the bytes of the processor, each reads what the other wrote, the same figures, and what has no path
# on the device is refused by name. Exits 77, with the reason, where there is no device.
#
#   check_program.sh JSQ SAMPLES
set -euo pipefail
jsq=$1
dump=$2/resnet20_mid.npy
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() {
  echo "check_program.sh: $*" >&2
  exit 1
}

"$jsq" doctor --json | python3 -c '
import json, sys
(cuda,) = [check for check in json.load(sys.stdin)["checks"] if (check["area"], check["name"]) == ("backend", "cuda")]
if not cuda["usable"]:
    print("skipped: " + cuda["detail"])
    sys.exit(77)
' || exit
"$jsq" --backend cuda bench --size 4Ki --min-time 0 >/dev/null 2>doctor.txt || fail "no device: $(cat doctor.txt)"

"$jsq" --backend cuda --json bench --size 4Ki --min-time 0 >bench.json
python3 - <<'PYTHON' || fail "bench does not tell of the device and its clock"
import json
report = json.load(open("bench.json"))
assert report["clock"] == "device" and report["device"] and report["compress"]["seconds"] > 0, report
PYTHON
"$jsq" --backend cuda --json bench --size 70000 --min-time 0 --values device >there.json
"$jsq" --backend cpu --json bench --size 70000 --min-time 0 >here.json
python3 - <<'PYTHON' || fail "bench with values on the device: another size or error"
import json
here, there = json.load(open("here.json")), json.load(open("there.json"))
assert (here["values"], there["values"]) == ("host", "device"), there
assert (here["file_ratio"], here["nmse"]) == (there["file_ratio"], there["nmse"]), (here, there)
PYTHON

for target in ratio=8 ratio=32 nmse=0.2; do
  "$jsq" -q compress --backend cpu -t "$target" -o cpu.jsq "$dump"
  "$jsq" -q compress --backend cuda -t "$target" -o cuda.jsq "$dump"
  cmp cpu.jsq cuda.jsq || fail "$target: other bytes than the processor's"
  "$jsq" -q decompress --backend cuda -o by_cuda.npy cpu.jsq
  "$jsq" -q decompress --backend cpu -o by_cpu.npy cuda.jsq
  cmp by_cpu.npy by_cuda.npy || fail "$target: other values than the processor's"
  "$jsq" -q --backend cuda test cuda.jsq || fail "$target: a sound frame does not pass"
  rm -f ./*.jsq ./*.npy
done

for method in topk randk:values=f16 qlsgd mcgq qsgd thc powersgd lgreco onebit:group=bucket; do
  "$jsq" -q compress --backend cpu -m "$method" -o cpu.jsq "$dump"
  "$jsq" -q compress --backend cuda -m "$method" -o cuda.jsq "$dump"
  cmp cpu.jsq cuda.jsq || fail "$method: other bytes than the processor's"
  "$jsq" -q --backend cuda test cuda.jsq || fail "$method: a sound frame does not pass"
  rm -f ./*.jsq
done

# Figures of dumps with layers and without, of their largest elements, and of what coding loses.
analyze() {
  "$jsq" --backend cpu --json analyze "$@" >cpu.json
  "$jsq" --backend cuda --json analyze "$@" >cuda.json
  cmp cpu.json cuda.json || fail "analyze $*: other figures than the processor's"
}
python3 - <<'PYTHON'
import array, random
def save(name, shape, order, values):
    header = "{'descr': '<f4', 'fortran_order': %s, 'shape': %s, }" % (order, shape)
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    open(name, "wb").write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + array.array("f", values).tobytes())
draw = random.Random(5)
values = [draw.gauss(0, 1) ** 3 for _ in range(257 * 401)]
save("odd.npy", (257, 401), True, values)
values[70000], values[3] = float("nan"), float("inf")
save("odder.npy", (103057,), False, values)
PYTHON
analyze "$dump" odd.npy odder.npy
analyze --per-tensor "${dump%/*}/vit2_early.h5"
analyze --noise --trials 2 -t ratio=16 odd.npy
rm -f ./*.npy

# What frames of several methods and targets weigh and lose; only the time differs.
compare() {
  "$jsq" --backend "$1" --json compare -m jointsq -m qsgd -m topk -m powersgd -m rdoq -t ratio=32 --per-tensor "$dump" |
    sed '/encode_mb_per_s\|decode_mb_per_s/d' >"$1.json"
}
compare cpu
compare cuda
cmp cpu.json cuda.json || fail "compare: other figures than the processor's"

"$jsq" -q compress -o whole.jsq "$dump"
head -c 20000 whole.jsq >broken.jsq
printf 'X' >>broken.jsq
tail -c +20002 whole.jsq >>broken.jsq
cpu=0 cuda=0
"$jsq" --backend cpu test broken.jsq >cpu.txt 2>&1 || cpu=$?
"$jsq" --backend cuda test broken.jsq >cuda.txt 2>&1 || cuda=$?
if [ "$cpu" = 0 ] || [ "$cpu" != "$cuda" ]; then fail "a damaged frame: exit $cpu and $cuda"; fi
cmp cpu.txt cuda.txt || fail "the backends tell differently of damage"

status=0
python3 - <<'PYTHON'
header = "{'descr': '<f4', 'fortran_order': False, 'shape': (40000,), }"
header += " " * (63 - (10 + len(header)) % 64) + "\n"
values = b"\0\0\x80\x3f" + bytes(4 * 39999)
open("one.npy", "wb").write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + values)
PYTHON
# A count of 40,000 samples, which 16 bits do not hold.
"$jsq" compress --backend cuda -m mcgq:samples=1 -o other.jsq one.npy 2>refused.txt || status=$?
[ "$status" = 10 ] || fail "options without a path on the device: exit $status, expected 10"
grep -q "cpu only" refused.txt || fail "the refusal does not tell why"
[ ! -e other.jsq ] || fail "a refused method left a file"
for backend in cpu cuda; do
  "$jsq" -q compress --backend $backend -m rdoq -r 8 -o $backend.jsq "$dump"
done
cmp cpu.jsq cuda.jsq || fail "rdoq: other bytes than the processor's"
"$jsq" -q --backend cuda test cuda.jsq || fail "rdoq: a sound frame does not pass"
"$jsq" -q decompress --backend cuda -o by_cuda.npy cpu.jsq
"$jsq" -q decompress --backend cpu -o by_cpu.npy cpu.jsq
cmp by_cpu.npy by_cuda.npy || fail "rdoq: other values than the processor's"
echo "same bytes and values"

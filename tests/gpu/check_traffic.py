"""What the emulator counts while jsq bench codes 16 Mi elements with jointsq at ratio 32: every kernel that touches all
values reads them once and whole sectors at a time, the coder writes little more than the frame, the decoder writes the
values once and reads little more than the frame (the tables of every block), and no shared-memory access waits for more than
a tenth of another. The emulator does not count asynchronous copies to shared memory: kernels that bring values so are taken to
read each once. All kernels of an encode together read at most 2.2 times the input and write at most 1.2 times the output. The
kernels of level blocks, in several of their layouts, of dense blocks, of rotations and of context streams also read and write
whole sectors.

    check_traffic.py JSQ

Run in the emulator's environment, which becomes a device of capability 9.0 with 132 processors: their shared memory holds the lists of kept
elements. Prints a line for each limit; exits 1 where one is passed.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ELEMENTS, RUNS, RATIO = 16 << 20, 3, 32
INPUT = 4 * ELEMENTS * RUNS  # bytes, of all runs

# Bytes that kernels bring by asynchronous copies: each value once.
COPIED = {"summarise_chunks": INPUT}
# Of a kernel: bytes read and written at most, and of which kind coalescing is asked for.
LIMITS = {
    "summarise_chunks": {"loads": 1.05 * INPUT, "coalesced": []},
    "class_blocks, coding": {"loads": 1.1 * INPUT, "stores": 1.2 * INPUT / RATIO + 65536, "coalesced": ["loads", "stores"]},
    "decode_blocks": {"loads": 1.35 * INPUT / RATIO, "stores": 1.01 * INPUT, "coalesced": ["loads", "stores"]},
}


BOTH = ["loads", "stores"]
LEVELS = {"round_blocks": {"coalesced": BOTH}, "pack_blocks": {"coalesced": BOTH}, "unpack_blocks": {"coalesced": BOTH}}
# Method, elements, limits: entropy-coded levels, five in a byte, bits, rotated coordinates.
OTHERS = [
    ("qsgd", "256Ki", LEVELS),
    ("terngrad", "256Ki", LEVELS),
    ("signsgd", "256Ki", LEVELS),
    ("thc", "256Ki", {"rotate_blocks": {"coalesced": BOTH}, "pack_blocks": {"coalesced": BOTH}, "unpack_blocks": {"coalesced": BOTH},
                      "unrotate_blocks": {"coalesced": BOTH}}),
    ("topk", "1Mi", {"sum_chunks": {"coalesced": []}}),
    ("fp16", "256Ki", {"encode_blocks": {"coalesced": ["stores"]}, "decode_blocks": {"coalesced": BOTH}}),
    ("onebit", "256Ki", {"sum_signs": {"coalesced": []}}),
    # Values come from a table, whose lines the cache holds.
    ("rdoq:transform=none,levels=independent", "256Ki", {"place_classes": {"coalesced": BOTH}, "decode_streams": {"coalesced": ["stores"]}}),
    ("rdoq:transform=none,levels=dependent", "256Ki", {"decode_dependent": {"coalesced": ["stores"]}}),
]


def kernels(text):
    """Name -> counts; class_blocks counts and codes."""
    found = {}
    for part in re.split(r"^kernel ", text, flags=re.MULTILINE)[1:]:
        head = part.splitlines()[0]
        name = re.match(r"(?:void )?(?:\w+::)*(\w+)", head.replace("(anonymous namespace)::", ""))[1]
        if "class_blocks" in head:
            name = "class_blocks, coding" if "Work)1" in head else "class_blocks, counting"
        counts = {}
        for kind in ("loads", "stores"):
            numbers = re.search(rf"global {kind}\s*: (\d+) bytes\s+\d+ warp requests\s+(\d+) sectors", part)
            counts[kind], counts[kind + "_sectors"] = int(numbers[1]), int(numbers[2])
        shared = re.search(r"shared: (\d+) warp requests\s+(\d+) wavefronts\s+(\d+) bank conflicts", part)
        counts["wavefronts"], counts["conflicts"] = int(shared[2]), int(shared[3])
        found[name] = counts
    return found


def counted(jsq, method, size, *target):
    """What the emulator counts of jsq bench."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "stats"
        subprocess.run([jsq, "--backend", "cuda", "bench", "-m", method, "--size", size, "--min-time", "0", *target],
                       env={**os.environ, "GPUEMU_STATS_FILE": str(report), "GPUEMU_CHECK": "0", "GPUEMU_ARCH": "90", "GPUEMU_SMS": "132"}, check=True,
                       stdout=subprocess.DEVNULL)
        return kernels(report.read_text())


def main():
    failures = 0

    def expect(holds, what):
        nonlocal failures
        print(("ok   " if holds else "FAIL ") + what)
        failures += not holds

    def judge(method, found, all_limits):
        for name, limits in all_limits.items():
            counts, what = found[name], f"{method}: {name}"
            for kind in BOTH:
                if kind in limits:
                    expect(counts[kind] <= limits[kind], f"{what}: {kind} {counts[kind]} bytes of {limits[kind]:.0f}")
            for kind in limits["coalesced"]:
                share = counts[kind] / (32 * counts[kind + "_sectors"])
                expect(share >= 0.9, f"{what}: {kind} are {share:.3f} of their sectors")
            per_access = counts["wavefronts"] / max(1, counts["wavefronts"] - counts["conflicts"])
            expect(per_access <= 1.1, f"{what}: {per_access:.3f} wavefronts an access")

    found = counted(sys.argv[1], "jointsq", str(ELEMENTS), "-t", f"ratio={RATIO}")
    for name, copied in COPIED.items():
        found[name]["loads"] += copied
    judge("jointsq", found, LIMITS)
    for kind, limit in (("loads", 2.2 * INPUT), ("stores", 1.2 * INPUT / RATIO)):
        encode = sum(counts[kind] for name, counts in found.items() if name not in ("decode_blocks", "TOTAL"))
        expect(encode <= limit, f"jointsq: the whole encode: {kind} {encode} bytes of {limit:.0f}")
    for method, size, limits in OTHERS:
        judge(method, counted(sys.argv[1], method, size), limits)
    sys.exit(failures > 0)


main()

#!/usr/bin/env python3
"""Instructions that the main paths take, counted by callgrind: exact where time is not.

    instructions.py --check JSQ    fails when a path takes 3 % more instructions than were recorded
    instructions.py --record JSQ   counts again and writes instructions.json beside this file

Counts belong to a compiler and to a SIMD level that valgrind knows (avx2); with another compiler, a build with assertions, or
without valgrind there is nothing to compare, which is said with exit status 77.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RECORD = Path(__file__).with_name("instructions.json")
DUMP = Path(__file__).parents[2] / "samples" / "resnet20_mid.npy"
GROWTH = 1.03
SKIPPED = 77

# Methods with their options: each is compressed and decompressed.
METHODS = {
    "jointsq 8x": ["-m", "jointsq", "-r", "8"],
    "jointsq 32x": ["-m", "jointsq", "-r", "32"],
    "jointsq 1000x": ["-m", "jointsq", "-r", "1000"],
    "rdoq fast 32x": ["-m", "rdoq:preset=fast", "-r", "32"],
    "qsgd": ["-m", "qsgd"],
    "natural": ["-m", "natural"],
    "terngrad": ["-m", "terngrad"],
    "signsgd": ["-m", "signsgd"],
    "topk 100x": ["-m", "topk", "-r", "100"],
    "thc": ["-m", "thc"],
    "powersgd": ["-m", "powersgd"],
}


def build_of(jsq):
    """What the counts depend on beside the sources."""
    checks = json.loads(subprocess.run([jsq, "doctor", "--json"], check=True, capture_output=True, text=True).stdout)["checks"]
    said = {check["name"]: check for check in checks}
    if "avx2" not in said or not said["avx2"]["usable"]:
        return None
    return {"compiler": said["compiler"]["detail"], "assertions": said["assertions"]["detail"], "simd": "avx2"}


def count(jsq, arguments):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", jsq, "-q", "--simd", "avx2", "--threads", "1"]
    run = subprocess.run(command + arguments, capture_output=True, text=True, check=False)
    collected = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode != 0 or not collected:
        sys.exit(f"{' '.join(command + arguments)}: exit status {run.returncode}\n{run.stderr}")
    return int(collected[1])


def count_all(jsq):
    counts = {"start": count(jsq, ["--version"])}
    with tempfile.TemporaryDirectory() as folder:
        frame, values = os.path.join(folder, "a.jsq"), os.path.join(folder, "a.npy")
        for name, options in METHODS.items():
            counts[f"compress {name}"] = count(jsq, ["compress", "-f", *options, "-o", frame, str(DUMP)])
            counts[f"decompress {name}"] = count(jsq, ["decompress", "-f", "-o", values, frame])
    return counts


def check(counts, recorded):
    if sorted(counts) != sorted(recorded):
        sys.exit(f"recorded are {sorted(recorded)}, counted {sorted(counts)}; record again")
    grown = 0
    for path, now in counts.items():
        share = now / recorded[path]
        verdict = ""
        if share > GROWTH:
            verdict, grown = "  grown", grown + 1
        elif share < 2 - GROWTH:
            verdict = "  less: record it"
        print(f"{path:32} {recorded[path]:14,} {now:14,} {share:7.3f}{verdict}")
    if grown:
        sys.exit(f"{grown} paths take more than {GROWTH:.2f} times the instructions recorded in {RECORD.name}; find out why, "
                 "and where it is worth it, record them again and say in the commit what for")


def main(mode, jsq):
    build = build_of(jsq)
    if build is None or not shutil.which("valgrind"):
        print("skipped: counting needs valgrind and a processor with AVX2")
        sys.exit(SKIPPED)
    if mode == "--record":
        RECORD.write_text(json.dumps({"build": build, "instructions": count_all(jsq)}, indent=2) + "\n")
        return
    recorded = json.loads(RECORD.read_text())
    if build != recorded["build"]:
        print(f"skipped: recorded with {recorded['build']}, this build is {build}")
        sys.exit(SKIPPED)
    check(count_all(jsq), recorded["instructions"])


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("--check", "--record"):
        sys.exit(__doc__)
    main(*sys.argv[1:])

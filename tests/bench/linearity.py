#!/usr/bin/env python3
"""How the time of compression and decompression grows with the number of elements.

    linearity.py JSQ [METHOD [MOST]]

Runs `jsq bench` on one thread for 1 Ki, 4 Ki, ... up to MOST elements (default 1Gi: 13 GB of memory, two minutes) and prints a
Markdown table of nanoseconds an element, and the slope of log time over log size from 1 Mi on: 1 where time is linear.
"""
import json
import subprocess
import sys

import numpy as np

STEP = 4
FIRST, LINEAR_FROM = 1 << 10, 1 << 20


def size_of(text):
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(text[:-2]) * units[text[-2:]] if text[-2:] in units else int(text)


def seconds(jsq, method, elements):
    run = subprocess.run([jsq, "bench", "--json", "--threads", "1", "-m", method, "--size", str(elements), "--min-time", "0.2"],
                         check=True, capture_output=True, text=True)
    result = json.loads(run.stdout)
    return [result[operation]["seconds"] for operation in ("memcpy", "compress", "decompress")]


def slope(sizes, times):
    return np.polyfit(np.log(sizes), np.log(times), 1)[0]


def main(jsq, method="jointsq", most="1Gi"):
    sizes, times = [], []
    print("| elements | memcpy | compress | decompress |\n| --- | --- | --- | --- |")
    elements = FIRST
    while elements <= size_of(most):
        sizes.append(elements)
        times.append(seconds(jsq, method, elements))
        print(f"| {elements:,} | " + " | ".join(f"{1e9 * time / elements:.2f}" for time in times[-1]) + " |", flush=True)
        elements *= STEP
    linear = [i for i, size in enumerate(sizes) if size >= LINEAR_FROM]
    if len(linear) > 1:
        at = np.array(sizes)[linear]
        slopes = [slope(at, np.array(times)[linear, column]) for column in range(3)]
        print("slope from 1 Mi elements on: " + ", ".join(f"{name} {value:.3f}" for name, value in
                                                           zip(("memcpy", "compress", "decompress"), slopes)))


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])

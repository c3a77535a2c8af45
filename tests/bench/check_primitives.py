#!/usr/bin/env python3
"""Every measurement of a primitive runs, in JSON, and says how many bytes it worked on.

    check_primitives.py PRIMITIVES_BENCH

How fast they are is no test's matter: each runs for a moment only.
"""
import json
import subprocess
import sys


def main(program):
    listed = subprocess.run([program, "--benchmark_list_tests"], check=True, capture_output=True, text=True).stdout.split()
    assert len(listed) > 40, f"{len(listed)} measurements; are the files still linked in?"
    text = subprocess.run([program, "--benchmark_format=json", "--benchmark_min_time=0.001"],
                          check=True, capture_output=True, text=True).stdout
    rows = {row["name"]: row for row in json.loads(text)["benchmarks"]}
    assert sorted(rows) == sorted(listed), set(rows) ^ set(listed)
    for name, row in rows.items():
        assert not row.get("error_occurred"), f"{name}: {row.get('error_message')}"
        # Bytes of f32 values, so that rates compare: four to an item.
        assert abs(row["bytes_per_second"] / row["items_per_second"] - 4) < 1e-6, f"{name}: {row}"
    print(f"{len(rows)} measurements run and say their bytes")


if __name__ == "__main__":
    main(sys.argv[1])

#!/usr/bin/python3
"""Holds rdoq's transforms to their promise: at equal bytes they never lose to transform=none. Each dump is coded to each
ratio with and without; the error with them, measured from the decoded frame, is at most that without (but for the bytes
that a budget leaves unused). One line for each dump and ratio; exits 1 with the first that breaks it.

    check_transforms.py JSQ_PROGRAM [GRADIENTS]

The dumps are those of samples/ at 32x, and where GRADIENTS is a folder every npy and HDF5 dump in it, from 8x to
1000x.
"""
import json
import pathlib
import subprocess
import sys

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "samples"
TOLERANCE = 1.001  # of the error: less than a thousandth of the bytes is worth above 0.75 bits an element


def coded(program, path, ratio, method):
    found = subprocess.run([program, "compress", "--json", "--dry-run", "-m", method, "-r", str(ratio), str(path)],
                           capture_output=True, text=True)
    if found.returncode == 8:  # no room for so little
        return None
    found.check_returncode()
    return json.loads(found.stdout)["frames"][0]


def check(program, path, ratio):
    without, with_them = (coded(program, path, ratio, method) for method in ("rdoq:transform=none", "rdoq"))
    if without is None or with_them is None:
        if (without is None) != (with_them is None):
            sys.exit(f"{path.name} {ratio}x: only one of both fits")
        return
    a, b = without["nmse"], with_them["nmse"]
    print(f"{path.name} {ratio}x: nmse {a:.4g} without, {b:.4g} with transforms; "
          f"{without['seconds']:.2f} s, {with_them['seconds']:.2f} s", flush=True)
    if b > a * TOLERANCE:
        sys.exit(f"{path.name} {ratio}x: transforms lose: nmse {b:.6g} instead of {a:.6g}")


def main():
    program, gradients = sys.argv[1], pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    cases = [(path, 32) for path in sorted(SAMPLES.glob("*.npy")) + sorted(SAMPLES.glob("*.h5"))]
    if gradients is not None and gradients.is_dir():
        cases += [(path, ratio) for path in sorted(gradients.iterdir()) if path.suffix in (".npy", ".h5") for ratio in (8, 16, 32, 100, 300, 1000)]
    for path, ratio in cases:
        check(program, path, ratio)


if __name__ == "__main__":
    main()

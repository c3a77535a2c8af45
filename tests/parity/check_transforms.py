#!/usr/bin/python3
"""Holds rdoq's transforms to their promise: they never lose to transform=none, neither at equal bytes nor at equal error.
Each dump is coded to each target with and without; at a ratio the error with them, measured from the decoded frame, is at
most that without (but for the bytes that a budget leaves unused), and at an error the file is no larger. One line for each
dump and target; exits 1 with the first that breaks it.

    check_transforms.py JSQ_PROGRAM [GRADIENTS]

The dumps are those of samples/ at 32x and two errors, and where GRADIENTS is a folder every npy and HDF5 dump in it, from 8x
to 1000x and at these errors.
"""
import json
import pathlib
import subprocess
import sys

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "samples"
TOLERANCE = 1.001  # of the error: less than a thousandth of the bytes is worth above 0.75 bits an element
ERRORS = ("nmse=0.03", "nmse=0.3")


def coded(program, path, target, method):
    found = subprocess.run([program, "compress", "--json", "--dry-run", "-m", method, "-t", target, str(path)],
                           capture_output=True, text=True)
    if found.returncode == 8:  # no room for so little
        return None
    found.check_returncode()
    return json.loads(found.stdout)["frames"][0]


def check(program, path, target):
    without, with_them = (coded(program, path, target, method) for method in ("rdoq:transform=none", "rdoq"))
    if without is None or with_them is None:
        if (without is None) != (with_them is None):
            sys.exit(f"{path.name} {target}: only one of both fits")
        return
    what = "file_bytes" if target.startswith("nmse") else "nmse"
    a, b = without[what], with_them[what]
    print(f"{path.name} {target}: {what} {a:.6g} without, {b:.6g} with transforms; "
          f"{without['seconds']:.2f} s, {with_them['seconds']:.2f} s", flush=True)
    if b > a * TOLERANCE:
        sys.exit(f"{path.name} {target}: transforms lose: {what} {b:.6g} instead of {a:.6g}")


def main():
    program, gradients = sys.argv[1], pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    cases = [(path, target) for path in sorted(SAMPLES.glob("*.npy")) + sorted(SAMPLES.glob("*.h5")) for target in ("ratio=32", *ERRORS)]
    if gradients is not None and gradients.is_dir():
        targets = [f"ratio={ratio}" for ratio in (8, 16, 32, 100, 300, 1000)] + list(ERRORS)
        cases += [(path, target) for path in sorted(gradients.iterdir()) if path.suffix in (".npy", ".h5") for target in targets]
    for path, target in cases:
        check(program, path, target)


if __name__ == "__main__":
    main()

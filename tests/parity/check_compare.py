#!/usr/bin/python3
"""Holds the figures of `jsq compare` to numpy on real gradients: every row, of each tensor and of the whole, is computed
again from the original and from what `jsq compress` and `jsq decompress` make of it, and agrees to 1e-6 of its size. One
line for each dump; exits 1 with the first figure that does not agree.

    check_compare.py JSQ_PROGRAM [GRADIENTS]

The dumps are those of samples/ and, where GRADIENTS is a folder, the npy and HDF5 dumps in it that are not sequences. h'
is that of the best allocation at the payload that the row tells, which the methods of HPRIME code.
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
import noise_model as model  # noqa: E402

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "samples"
SEED = "7"
HPRIME = {"jointsq:aware=0": model.optimum}
CASES = (("ratio=16", ("jointsq", "jointsq:aware=0", "topk", "qsgd", "randk")), ("native", ("signsgd", "terngrad")))
TOLERANCE = 1e-6


def run(program, *arguments):
    return subprocess.run([program, "--seed", SEED, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def tensors_of(path):
    """(name, values) in the dump's order."""
    if path.suffix == ".npy":
        return [("", np.load(path))]
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append((name, item[()])) if isinstance(item, h5py.Dataset) else None)
    return [(name, values) for name, values in found if values.dtype.kind == "f"]


def expected_figures(original, decoded, size):
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {key: float(value) for key, value in model.errors(original, decoded).items()}
    figures["file_ratio"] = original.nbytes / size if size else math.nan
    figures["bits_per_element"] = 8 * size / original.size
    return figures


def differs(found, expected):
    if found is None:
        return math.isfinite(expected)
    return not math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=1e-300)


def check_rows(rows, original, decoded, frame_bytes):
    """The rows of one method at one target: each tensor, then the whole."""
    names = [name for name, _ in original]
    assert [row["tensor"] for row in rows] == names + [None], [row["tensor"] for row in rows]
    assert rows[-1]["file_bytes"] == frame_bytes, (rows[-1]["file_bytes"], frame_bytes)
    pairs = [(g, d) for (_, g), (_, d) in zip(original, decoded, strict=True)]
    whole = tuple(np.concatenate([side.ravel().astype(np.float64) for side in sides]) for sides in zip(*pairs))
    for row, (g, d) in zip(rows, pairs + [whole], strict=True):
        if not g.any() or not d.any():
            continue  # 0 / 0
        expected = expected_figures(g, d, row["file_bytes"])
        if row["tensor"] is None:
            expected["file_ratio"] = sum(part.nbytes for part, _ in pairs) / frame_bytes
        for key, value in expected.items():
            if differs(row[key], value):
                sys.exit(f"{row['input']} {row['tensor']} {row['method']}: {key} {row[key]!r}, numpy has {value!r}")
    row = rows[-1]
    if row["method"] in HPRIME:
        g = whole[0].astype(np.float32)
        bits = sum(8 * part.nbytes for part, _ in pairs) / row["payload_ratio"]
        expected = model.noise(g, HPRIME[row["method"]](g, round(bits)))[0]
        if differs(row["hprime"], expected):
            sys.exit(f"{row['input']} {row['method']}: h' {row['hprime']!r}, numpy has {expected!r}")
    return len(rows)


def check_dump(program, path, folder):
    checked = 0
    original = tensors_of(path)
    for target, methods in CASES:
        chosen = [word for method in methods for word in ("-m", method)]
        rows = json.loads(run(program, "--json", "compare", path, "-t", target, "--per-tensor", *chosen))["rows"]
        for method in methods:
            frame, restored = folder / "frame.jsq", folder / f"restored{path.suffix}"
            of_method = [row for row in rows if row["method"] == method]
            if not of_method[-1]["reached"]:
                continue
            run(program, "--quiet", "compress", "-f", "-m", method, "-t", target, path, "-o", frame)
            run(program, "--quiet", "decompress", "-f", frame, "-o", restored)
            checked += check_rows(of_method, original, tensors_of(restored), frame.stat().st_size)
    return checked


def main():
    program = sys.argv[1]
    dumps = sorted(SAMPLES.glob("*.npy")) + sorted(SAMPLES.glob("*.h5"))
    for folder in map(pathlib.Path, sys.argv[2:]):
        dumps += [path for kind in ("*.npy", "*.h5") for path in sorted(folder.glob(kind)) if "_seq" not in path.name]
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in dumps:
            rows = check_dump(program, path, pathlib.Path(folder))
            total += rows
            print(f"ok  {path.name}: {rows} rows", flush=True)
    print(f"{len(dumps)} dumps, {total} rows agree")
    return 0 if total else 1


if __name__ == "__main__":
    sys.exit(main())

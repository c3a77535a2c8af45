#!/usr/bin/python3
"""Holds rdoq to its place: on every dump and at every ratio nothing else has a lower error in the bytes of the budget, no
method of `jsq compare -m all`, nor zstd over the levels of a uniform quantizer (nearest, and with a dead zone and
centroids), nor zfp at a tolerance (where Debian's python3-zfpy is there). These two stand in a frame of jsq too, whose names,
shapes and checksums they are charged. One line for each dump and ratio: rdoq's error, the best other method of jsq and its
error in that of rdoq, and the best of the others, and where any was better what preset=best has; exits 1 when any was
better than that too.

    check_rdoq_rivals.py JSQ_PROGRAM GRADIENTS [RESUME]

GRADIENTS: a folder of npy and HDF5 dumps, or one of them. RESUME: the file for `jsq compare --resume`. A folder of a
hundred megabytes takes an hour.
"""
import json
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import zstandard

try:
    import zfpy
except ImportError:
    zfpy = None

BEST = "rdoq:preset=best"
RATIOS = (8, 16, 32, 100, 1000)


def tensors_of(path):
    if path.suffix == ".npy":
        return [np.load(path)]
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return [values for values in found if values.dtype.kind == "f"]


def methods_of_jsq(program, path, ratio, resume, methods="all"):
    """{method: NMSE} of all that fit the budget."""
    command = [program, "compare", "-m", methods, "-t", f"ratio={ratio}", "--format", "jsonl", path]
    lines = subprocess.run(command + (["--resume", resume] if resume else []), check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in lines.splitlines()]
    return {row["method"]: row["nmse"] for row in rows
            if row.get("record") == "row" and row["tensor"] is None and row["reached"] and row["nmse"] is not None}


def least_within(budget, low, high, size_of):
    """The least argument, to 0.3 %, for which size_of, which falls with it, is at most the budget."""
    if size_of(high) > budget:
        return None
    while high > 1.003 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if size_of(middle) <= budget else (middle, high)
    return high


def levels_by_zstd(flat, budget, dead):
    """NMSE of uniform levels, the magnitude rounded up from a fraction of 1 - dead on, coded by zstd."""
    magnitude = np.abs(flat)

    def levels(step):
        return np.floor(np.minimum(magnitude / step, 2**31 - 2) + dead).astype(np.uint32)

    def size_of(step, effort):
        found = levels(step)
        folded = found.astype(np.uint64) * 2 - ((flat < 0) & (found > 0))
        width = max(1, (int(folded.max()).bit_length() + 7) // 8)
        planes = folded.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width]
        return 8 + len(zstandard.ZstdCompressor(level=effort).compress(np.ascontiguousarray(planes.T).tobytes()))

    top = float(magnitude.max())
    near = least_within(budget, top * 1e-7, 2 * top, lambda step: size_of(step, 1))
    if near is None:
        return None
    step = least_within(budget, near / 2, near * 1.1, lambda step: size_of(step, 19 if flat.size <= 1 << 19 else 6)) or near
    found = levels(step)
    count = np.bincount(np.minimum(found, 15), minlength=16)
    centre = np.bincount(np.minimum(found, 15), magnitude / step - found, 16) / np.maximum(count, 1)
    decoded = np.where(found > 0, (found + centre[np.minimum(found, 15)]) * step, 0)
    return float(np.sum((magnitude - decoded) ** 2) / np.sum(magnitude**2))


def by_zfp(tensors, budget):
    """NMSE of zfp with one tolerance for all tensors, headers not counted."""
    arrays = [np.ascontiguousarray(t if 1 <= t.ndim <= 4 and max(t.shape) < 1 << 48 // t.ndim else t.ravel(), np.float32) for t in tensors if t.size]
    top = max(float(np.abs(a).max()) for a in arrays)
    code = lambda a, tolerance: zfpy.compress_numpy(a, tolerance=tolerance, write_header=False)
    tolerance = least_within(budget, top * 1e-7, 4 * top, lambda t: sum(len(code(a, t)) for a in arrays))
    if tolerance is None:
        return None
    error = energy = 0.0
    for a in arrays:
        back = zfpy.decompress_numpy(zfpy.compress_numpy(a, tolerance=tolerance))
        error += float(np.sum((back.astype(np.float64) - a) ** 2))
        energy += float(np.sum(a.astype(np.float64) ** 2))
    return error / energy


def frame_bytes(program, path):
    """What a frame takes beside values and parameters."""
    found = subprocess.run([program, "compress", "-m", "fp16", "--dry-run", "--json", path], check=True, capture_output=True, text=True)
    return json.loads(found.stdout)["frames"][0]["frame_bytes"]


def best_of(found, own):
    """name,NMSE,times of the least error, empty where there is none."""
    nmse, name = min(((nmse, name) for name, nmse in found.items() if nmse is not None), default=(None, None))
    if nmse is None:
        return ",,", True
    return f"{name},{nmse:.4g},{nmse / own if own else float('inf'):.3f}", own is not None and own <= nmse


def check(program, path, ratio, resume):
    """Whether nothing has a lower error than rdoq."""
    tensors = tensors_of(path)
    flat = np.concatenate([t.ravel() for t in tensors]).astype(np.float64)
    budget = sum(t.nbytes for t in tensors) // ratio
    found = methods_of_jsq(program, path, ratio, resume)
    own = found.pop("rdoq", None)
    room = budget - frame_bytes(program, path)
    others = {}
    if room > 0:
        others = {"zstd nearest": levels_by_zstd(flat, room, 0.5), "zstd dead zone": levels_by_zstd(flat, room, 0.35)}
    if room > 0 and zfpy is not None:
        others["zfp"] = by_zfp(tensors, room)
    (of_jsq, held), (of_others, held_too) = best_of(found, own), best_of(others, own)
    beaten = "" if held and held_too else ",BEATEN"
    if beaten and own is not None:  # what more time makes of it
        best = methods_of_jsq(program, path, ratio, resume, BEST)[BEST]
        if best_of(found, best)[1] and best_of(others, best)[1]:
            beaten = f",{BEST} {best:.4g}"
    print(f"{path.name},{ratio},{'' if own is None else f'{own:.4g}'},{of_jsq},{of_others}{beaten}", flush=True)
    return not beaten


def main():
    program, gradients = sys.argv[1], pathlib.Path(sys.argv[2])
    resume = sys.argv[3] if len(sys.argv) > 3 else None
    dumps = sorted(gradients.iterdir(), key=lambda path: path.stat().st_size) if gradients.is_dir() else [gradients]
    print("dump,ratio,rdoq,best of jsq,nmse,times,best of others,nmse,times")
    beaten = sum(not check(program, path, ratio, resume)
                 for path in dumps if path.suffix in (".npy", ".h5") for ratio in RATIOS)
    sys.exit(f"{beaten} times something else was better" if beaten else 0)


if __name__ == "__main__":
    main()

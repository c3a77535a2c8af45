#!/usr/bin/python3
"""Holds the means of `jsq aggregate` to numpy: sums in 16 bits along the tree, majority votes, levels and exponents that
are added with the random numbers of their place in the tree, and gathered frames. The means agree to 1e-6 of their norm,
the reported NMSE to 1e-6 of itself, and messages have the bytes that the code needs.

    check_aggregate.py JSQ_PROGRAM [GRADIENTS]

The workers' gradients are random; where GRADIENTS is a folder, the 4 workers of a step of its sequence are another case.
Exits 1 with the first that does not agree.
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import reference  # noqa: E402

SEED = 11
PURPOSE = reference.PURPOSE
F = np.float32


def derived_seed(number, kind):
    """Seeds of workers (kind 2) and of the tree's additions (kind 3); number 0 keeps the seed."""
    if number == 0:
        return SEED
    block = reference.philox(tuple(np.array([w]) for w in (number, 0, kind, PURPOSE["worker"])), (SEED, 0))
    return int(block[0][0]) | int(block[1][0]) << 32


def uniforms(seed, size, purpose):
    return reference.uniforms(seed, np.arange(size), 0, PURPOSE[purpose])


def edges(n):
    """(into, from) in the order of the additions."""
    stride = 1
    while stride < n:
        for into in range(0, n - stride, 2 * stride):
            yield into, into + stride
        stride *= 2


def tree(parts, add):
    held = list(parts)
    for number, (into, other) in enumerate(edges(len(held))):
        held[into] = add(held[into], held[other], number)
    return held[0]


def half(values):
    return np.clip(values, -65504, 65504).astype("f2").astype("f4")


def fp16(workers):
    return tree([half(g / F(len(workers))) for g in workers], lambda a, b, _: half(a + b)), 2 * workers[0].size


def votes(workers):
    n = len(workers)
    total = sum(np.where(g < 0, -1, 1) for g in workers)
    return np.sign(total).astype("f4"), math.ceil(math.ceil(math.log2(2 * n + 1)) * workers[0].size / 8)


def gqsgd_std(workers):
    n, size, norm = len(workers), workers[0].size, reference.gqsgd_norm(workers)
    s = reference.gqsgd_levels(n, 8)
    codes = [reference.gqsgd_std_encode(g, uniforms(derived_seed(w, 2), size, "rounding"), norm, s) for w, g in enumerate(workers)]
    bits = math.ceil(math.log2(2 * n * s + 1))
    return reference.gqsgd_std_decode(sum(codes), norm, n, s), math.ceil(bits * size / 8) + 4


def gqsgd_exp(workers):
    n, size, norm = len(workers), workers[0].size, reference.gqsgd_norm(workers)
    codes = [reference.gqsgd_exp_encode(g, uniforms(derived_seed(w, 2), size, "rounding"), norm, n) for w, g in enumerate(workers)]
    add = lambda a, b, number: reference.gqsgd_exp_add(a, b, uniforms(derived_seed(number + 1, 3), size, "transit"))
    return reference.gqsgd_exp_decode(tree(codes, add), norm), size + 4


def topk(workers):
    kept = [reference.scatter(g.size, reference.topk(g, 200), g[reference.topk(g, 200)]) for g in workers]
    return reference.mean_of(kept), None


CASES = (
    ("fp16", fp16),
    ("signsgd:scale=none,tie=zero", votes),
    ("gqsgd-std", gqsgd_std),
    ("gqsgd-exp", gqsgd_exp),
    ("topk:k=200", topk),
)


def check(program, workers, folder):
    path, out = folder / "workers.h5", folder / "mean.npy"
    with h5py.File(path, "w") as file:
        file["grads"] = workers[None]
    truth = reference.mean_of(workers)
    for method, mean_by_numpy in CASES:
        answer = subprocess.run(
            [program, "aggregate", "--json", "--seed", str(SEED), path, "-m", method, "-t", "native", "-f", "-o", out],
            check=True, capture_output=True)
        row = json.loads(answer.stdout)["methods"][0]
        expected, size = mean_by_numpy(list(workers))
        found = np.load(out)
        if np.linalg.norm(found.astype("f8") - expected) > 1e-6 * np.linalg.norm(expected):
            return f"{method}, {len(workers)} workers: the mean is not that of numpy"
        if size is not None and row["message_bytes"] != size:
            return f"{method}, {len(workers)} workers: messages have {row['message_bytes']} bytes, numpy counts {size}"
        nmse = reference.nmse(expected, truth)
        if not math.isclose(row["nmse"], nmse, rel_tol=1e-5, abs_tol=1e-12):
            return f"{method}, {len(workers)} workers: nmse is {row['nmse']}, numpy has {nmse}"
    print(f"{len(workers)} workers of {workers.shape[1]} values: {len(CASES)} methods agree")
    return None


def main(arguments):
    if not arguments:
        return __doc__
    rng = np.random.default_rng(2)
    sets = [(rng.standard_normal((n, 5000)) ** 3).astype("f4") for n in (1, 2, 3, 5, 8)]
    real = pathlib.Path(arguments[1] if len(arguments) > 1 else "") / "resnet20w8_seq10x4_flat.h5"
    if len(arguments) > 1 and real.is_file():
        with h5py.File(real) as file:
            sets.append(file["grads"][3])
    with tempfile.TemporaryDirectory() as folder:
        for workers in sets:
            wrong = check(arguments[0], workers, pathlib.Path(folder))
            if wrong:
                return wrong
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

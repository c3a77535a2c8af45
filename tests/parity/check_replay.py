#!/usr/bin/python3
"""Holds the figures of `jsq replay` to numpy: error feedback, DGC's momentum correction, EF-signSGD's scaling and
Signum's mean are done again step by step and worker by worker, and every step's NMSE, cosine, residual norm and error of
the running sum agree to 1e-6 of their size; the budgets of the ramps are the solution of their equation.

    check_replay.py JSQ_PROGRAM [GRADIENTS]

The sequence is made of random walks; where GRADIENTS is a folder its 10 steps of 4 workers are another. Exits 1 with the
first figure that does not agree.
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

TOLERANCE = 1e-6
F = np.float32


def largest(values, k):
    """The k largest magnitudes, ties to the lower index; the rest is zero."""
    positions = reference.topk(values, k)
    return reference.scatter(values.size, positions, values[positions])


def signs(values):
    scale = F(np.abs(values.astype("f8")).mean())
    return np.where(values < 0, -scale, scale).astype("f4")


class Plain:
    """e: what was not sent is added to the next gradient."""

    def __init__(self, size, compress):
        self.e, self.compress = np.zeros(size, "f4"), compress

    def step(self, g):
        coded = self.e + g
        sent = self.compress(coded)
        self.e = coded - sent
        return g, coded, sent, self.e


class Without:
    def __init__(self, size, compress):
        self.compress = compress

    def step(self, g):
        return g, g, self.compress(g), None


class Momentum:
    """DGC: u <- m u + g, v <- v + u, both zero where v was sent. Uncompressed, the velocity itself would be sent."""

    def __init__(self, size, compress, m, clip=0.0):
        self.u, self.v, self.dense = (np.zeros(size, "f4") for _ in range(3))
        self.compress, self.m, self.clip = compress, F(m), clip

    def step(self, g):
        norm = math.sqrt(np.sum(g.astype("f8") ** 2))
        if self.clip and norm > self.clip:
            g = F(self.clip / norm) * g
        self.u = self.m * self.u + g
        self.v = self.v + self.u
        self.dense = self.m * self.dense + g
        sent = self.compress(self.v)
        coded = self.v.copy()
        self.u[sent != 0] = 0
        self.v[sent != 0] = 0
        return self.dense, coded, sent, self.v


CASES = (
    ("topk:k=500", "none", lambda n: Without(n, lambda p: largest(p, 500))),
    ("topk:k=500", "plain", lambda n: Plain(n, lambda p: largest(p, 500))),
    ("topk:k=500", "momentum:0.5", lambda n: Momentum(n, lambda p: largest(p, 500), 0.5)),
    ("dgc:k=300,clip=0.01", "auto", lambda n: Momentum(n, lambda p: largest(p, 300), 0.9, 0.01)),
    ("ef-signsgd", "auto", lambda n: Plain(n, signs)),
    ("fp32", "plain", lambda n: Plain(n, lambda p: p.copy())),
)


def expected_steps(grads, make):
    """grads: [steps, workers, d]. The figures of every step."""
    workers = [make(grads.shape[2]) for _ in range(grads.shape[1])]
    total_sent, total_decoded = np.zeros(grads.shape[2]), np.zeros(grads.shape[2])
    for step in grads:
        sent, decoded = np.zeros(grads.shape[2]), np.zeros(grads.shape[2])
        lost, energy, squares = 0.0, 0.0, 0.0
        for worker, g in zip(workers, step):
            would, coded, does, left = worker.step(g)
            sent += would
            decoded += does
            lost += np.sum((coded.astype("f8") - does) ** 2)
            energy += np.sum(coded.astype("f8") ** 2)
            squares += math.nan if left is None else np.sum(left.astype("f8") ** 2)
        total_sent += sent
        total_decoded += decoded
        yield {
            "nmse": np.sum((decoded - sent) ** 2) / np.sum(sent**2),
            "coded_nmse": lost / energy,
            "cosine": np.dot(sent, decoded) / math.sqrt(np.dot(sent, sent) * np.dot(decoded, decoded)),
            "residual_norm": math.sqrt(squares / len(workers)),
            "sum_error": math.sqrt(np.sum((total_sent - total_decoded) ** 2) / np.sum(total_sent**2)),
        }


def replay(program, *arguments):
    return json.loads(subprocess.run([program, "replay", "--json", *map(str, arguments)], check=True, capture_output=True).stdout)


def check_feedback(program, path, grads):
    compared = 0
    for method, rule, make in CASES:
        run = replay(program, path, "-m", method, "-t", "native", "--ef", rule)["runs"][0]
        expected = list(expected_steps(grads, make))
        if len(run["steps"]) != len(expected):
            return f"{method}, ef {rule}: {len(run['steps'])} steps instead of {len(expected)}"
        for row, figures in zip(run["steps"], expected):
            for key, value in figures.items():
                found = row[key]
                same = math.isnan(value) if found is None else math.isclose(found, value, rel_tol=TOLERANCE, abs_tol=1e-12)
                if not same:
                    return f"{path.name}: {method}, ef {rule}, step {row['step']}: {key} is {found}, numpy has {value}"
                compared += 1
        if not math.isclose(run["total"]["sum_error"], expected[-1]["sum_error"], rel_tol=TOLERANCE, abs_tol=1e-12):
            return f"{path.name}: {method}: the total's sum_error is not that of the last step"
    print(f"{path.name}: {len(CASES)} runs, {compared} figures agree")
    return None


def check_schedules(program, path, grads):
    steps, workers, size = grads.shape
    constant = int(size * 4 / 20)
    for schedule, shape in (("ramp-ratio:10", "ratio"), ("ramp-bits:12", "bits"), ("ramp-ratio:25", "ratio")):
        run = replay(program, path, "-m", "topk", "-t", "ratio=20", "--schedule", schedule)["runs"][0]
        budgets = np.array([row["budget_bytes"] for row in run["steps"]], "f8")
        start = float(schedule.partition(":")[2])
        if budgets.sum() != constant * steps:
            return f"{schedule}: its budgets add up to {budgets.sum()}, constant ones to {constant * steps}"
        # Linear in the ratio or in the bytes, from the start, but for the rounding to whole bytes.
        line = size * 4 / budgets if shape == "ratio" else budgets
        rounding = np.max(line / budgets) * 2 if shape == "ratio" else 2
        wanted = np.linspace(line[0], line[-1], steps)
        if np.max(np.abs(line - wanted)) > rounding * 2 or abs(size * 4 / budgets[0] - start) > 0.05:
            return f"{schedule}: {line} is not linear from {start}"
        for row in run["steps"]:
            if not row["budget_bytes"] * workers * 0.9 < row["file_bytes"] <= row["budget_bytes"] * workers:
                return f"{schedule}: step {row['step']} takes {row['file_bytes']} bytes of {row['budget_bytes'] * workers}"
    run = replay(program, path, "-m", "topk", "-t", "ratio=64", "--schedule", "warmup:2")["runs"][0]
    ratios = [size * 4 / row["budget_bytes"] for row in run["steps"]]
    if any(abs(found / wanted - 1) > 1e-2 for found, wanted in zip(ratios, [4, 16] + [64] * (steps - 2))):
        return f"warmup:2: {ratios} is not 4, 16, 64, .."
    print(f"{path.name}: 4 schedules agree")
    return None


def main(arguments):
    if not arguments:
        return __doc__
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "walk.h5"
        rng = np.random.default_rng(5)
        mean = rng.standard_normal(20_000) ** 3 * 1e-3
        grads = (mean + 1e-3 * rng.standard_normal((8, 3, 20_000))).astype("f4")
        with h5py.File(path, "w") as file:
            file["grads"] = grads
            file["losses"] = np.ones((8, 3), "f4")
        wrong = check_feedback(arguments[0], path, grads) or check_schedules(arguments[0], path, grads)
    real = pathlib.Path(arguments[1] if len(arguments) > 1 else "") / "resnet20w8_seq10x4_flat.h5"
    if not wrong and len(arguments) > 1 and real.is_file():
        with h5py.File(real) as file:
            wrong = check_feedback(arguments[0], real, file["grads"][()])
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

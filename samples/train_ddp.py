#!/usr/bin/python3
"""Trains a small convolution net on scikit-learn's digits, its gradients compressed by jsq on the way between workers.

    train_ddp.py [--method METHOD] [--ratio R] [--workers N] [--epochs E] [--seed S]
    train_ddp.py --table RESULTS.jsonl [--workers N] [--epochs E] [--seeds K]

The first form trains once and prints one JSON object: held-out accuracy, bytes that a worker sends in a step, their ratio
to dense float32. METHOD and R are those of `jsq compress`; the method `sgd` is DistributedDataParallel without jsq. The second
form trains every cell of samples/README.md's table, appends each to RESULTS.jsonl (a run that is started again goes on
where it stopped) and prints the table.

`jsq_hook` is the part to take along: a communication hook with error feedback. It gathers frames, which is right for any
method; what a method can add in its code domain (PowerSGD's factors, for instance) it does not use. It waits for the codec
where a product would let it run beside the backward pass.

Debian: python3-torch, python3-sklearn, and jsq's module (or PYTHONPATH=tools/python JSQ_LIBRARY=build/lib/libjsq.so.0).
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn

import jsq

METHODS = ["sgd", "jointsq", "rdoq", "topk", "qsgd", "dgc", "powersgd"]
RATIOS = [20, 100, 1000]


class OutOfReach(Exception):
    """The method has no frame as small as that. `ratio`: the nearest."""

    def __init__(self, ratio):
        super().__init__(ratio)
        self.ratio = ratio


# --- The hook -----------------------------------------------------------------------------------------------------------


class Compression:
    """What a worker's hook knows: the method and its size, names of parameters, and feedback for every bucket."""

    def __init__(self, model, method, ratio, rank, seed=0):
        self.method, self.ratio, self.rank, self.seed = method, ratio, rank, seed
        self.names = {parameter: name for name, parameter in model.named_parameters()}
        self.feedback, self.sent_bytes, self.steps = {}, 0, 0

    def compress(self, gradients):
        """The frame of a bucket. Its feedback is kept by the names in it: DDP may cut buckets anew after the first step."""
        feedback = self.feedback.setdefault(frozenset(gradients), jsq.ErrorFeedback(worker=self.rank))
        try:
            return feedback.compress(gradients, self.method, ratio=self.ratio, seed=self.seed, threads=1)
        except jsq.errors.UnreachableTargetError as error:
            if error.nearest is None:
                raise
            return feedback.compress(gradients, self.method, target=error.nearest, seed=self.seed, threads=1)


def gathered(frame):
    """Every worker's frame. Sizes differ, so the frames travel padded to the largest."""
    workers = dist.get_world_size()
    size = torch.tensor([len(frame)])
    sizes = [torch.empty_like(size) for _ in range(workers)]
    dist.all_gather(sizes, size)
    padded = torch.zeros(int(max(sizes)), dtype=torch.uint8)
    padded[: len(frame)] = torch.frombuffer(bytearray(frame), dtype=torch.uint8)
    frames = [torch.empty_like(padded) for _ in range(workers)]
    dist.all_gather(frames, padded)
    return [buffer.numpy()[: int(size)] for buffer, size in zip(frames, sizes)]


def jsq_hook(compression, bucket):
    """For DistributedDataParallel.register_comm_hook: the mean of what all workers' frames decode to."""
    names = [compression.names[parameter] for parameter in bucket.parameters()]
    gradients = dict(zip(names, bucket.gradients()))
    frame = compression.compress({name: gradient.numpy() for name, gradient in gradients.items()})
    compression.sent_bytes += len(frame)
    compression.steps += bucket.is_last()
    sums = {name: np.zeros(gradient.shape, np.float32) for name, gradient in gradients.items()}
    for received in gathered(frame):
        with jsq.open(received, threads=1) as decoded:
            for name in names:
                sums[name] += decoded[name]
    for name, gradient in gradients.items():
        gradient.copy_(torch.from_numpy(sums[name] / dist.get_world_size()))
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


# --- The training -------------------------------------------------------------------------------------------------------


def digits():
    """Images of 8 x 8 in 0..1 and their labels: 1347 to train with, 450 held out, the same for every run."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = torch.tensor(images[order].reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    labels = torch.tensor(labels[order])
    return images[:1347], labels[:1347], images[1347:], labels[1347:]


def network():
    """94,314 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def refuse_what_is_out_of_reach(method, ratio, parameters):
    """Raises OutOfReach, on every worker alike, where the method cannot make a frame as small as asked for.

    It is asked of numbers that are drawn like gradients: what a method can reach hardly depends on their values.
    """
    numbers = np.random.default_rng(0)
    drawn = {name: numbers.standard_t(3, size=shape).astype(np.float32) for name, shape in parameters}
    try:
        jsq.compress(drawn, method, ratio=ratio, threads=1)
    except jsq.errors.UnreachableTargetError as error:
        size = float(error.nearest.removeprefix("bytes="))
        raise OutOfReach(sum(values.nbytes for values in drawn.values()) / size) from error


def train(method, ratio, seed, epochs, batch=64, rate=0.1):
    """One training on all workers: SGD with momentum 0.9. DGC has its momentum in the compressor, so its SGD has none."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    train_images, train_labels, held_out_images, held_out_labels = digits()
    torch.manual_seed(seed)
    net = network()
    parameters = [(name, tuple(parameter.shape)) for name, parameter in net.named_parameters()]
    dense_bytes = 4 * sum(math.prod(shape) for _, shape in parameters)
    model = nn.parallel.DistributedDataParallel(net)
    compression = None
    if method != "sgd":
        refuse_what_is_out_of_reach(method, ratio, parameters)
        compression = Compression(net, method, ratio, rank, seed)
        model.register_comm_hook(compression, jsq_hook)
    momentum = 0.0 if method.startswith("dgc") else 0.9
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=momentum)
    order = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    for _ in range(epochs):
        shuffled = torch.randperm(len(train_labels), generator=order)
        for first in range(0, len(shuffled) - batch + 1, batch):
            mine = shuffled[first + rank : first + batch : workers]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(train_images[mine]), train_labels[mine])
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (net(held_out_images).argmax(1) == held_out_labels).float().mean().item()
    sent = compression.sent_bytes / compression.steps if compression else dense_bytes
    return {
        "method": method,
        "asked_ratio": ratio if compression else None,
        "seed": seed,
        "workers": workers,
        "epochs": epochs,
        "accuracy": accuracy,
        "loss": loss.item(),
        "bytes_per_step": sent,
        "ratio": dense_bytes / sent,
        "workers_agree": agree(net),
        "seconds": time.perf_counter() - start,
    }


def agree(net):
    """Whether every worker has the same parameters, bit for bit."""
    mine = torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])
    first = mine.clone()
    dist.broadcast(first, 0)
    same = torch.tensor([int(torch.equal(mine, first))])
    dist.all_reduce(same, dist.ReduceOp.MIN)
    return bool(same)


# --- Runs and the table -------------------------------------------------------------------------------------------------


def cells(arguments):
    """(method, ratio, seed) of every run."""
    if not arguments.table:
        return [(arguments.method, arguments.ratio, arguments.seed)]
    every = [
        (method, ratio, seed)
        for seed in range(arguments.seeds)
        for method in METHODS
        for ratio in (RATIOS if method != "sgd" else [None])
    ]
    return sorted(every, key=lambda cell: cell[0].startswith("rdoq"))  # the slowest encoder last


def results_of(path, arguments):
    if not path or not pathlib.Path(path).exists():
        return []
    rows = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    return [row for row in rows if (row["workers"], row["epochs"]) == (arguments.workers, arguments.epochs)]


def work(rank, arguments, folder):
    """A worker's life: all runs that are not done yet."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=arguments.workers
    )
    done = {(row["method"], row["asked_ratio"], row["seed"]) for row in results_of(arguments.table, arguments)}
    for cell in cells(arguments):
        if cell in done:
            continue
        try:
            row = train(*cell, arguments.epochs)
        except OutOfReach as error:
            method, ratio, seed = cell
            row = {
                "method": method,
                "asked_ratio": ratio,
                "seed": seed,
                "workers": arguments.workers,
                "epochs": arguments.epochs,
                "nearest_ratio": error.ratio,
            }
        if rank == 0:
            print(json.dumps(row), flush=True)
            if arguments.table:
                with open(arguments.table, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    dist.destroy_process_group()


def cell_text(rows):
    """"97.4 ± 0.3 %, 18,861 B (20.0x)" of the seeds of a cell."""
    if not rows:
        return ""
    trained = [row for row in rows if "accuracy" in row]
    if not trained:
        return f"out of reach: {rows[0]['nearest_ratio']:.3g}x at most"
    percent = [100 * row["accuracy"] for row in trained]
    sent = statistics.mean(row["bytes_per_step"] for row in trained)
    ratio = statistics.mean(row["ratio"] for row in trained)
    spread = f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else ""
    seeds = f", {len(percent)} seed{'s' if len(percent) > 1 else ''}" if len(percent) < 3 else ""
    return f"{statistics.mean(percent):.1f}{spread} %, {sent:,.0f} B ({ratio:.4g}x{seeds})"


def table(rows):
    """Accuracy on held-out images, mean and standard deviation over the seeds, and bytes that a worker sends in a step."""
    lines = ["| method | " + " | ".join(f"{ratio}x" for ratio in RATIOS) + " |", "| --- |" + " --- |" * len(RATIOS)]
    for method in METHODS:
        of_method = [row for row in rows if row["method"] == method]
        if method == "sgd":
            text = [cell_text(of_method)] + [""] * (len(RATIOS) - 1)
        else:
            text = [cell_text([row for row in of_method if row["asked_ratio"] == ratio]) for ratio in RATIOS]
        lines.append(f"| `{method}` | " + " | ".join(text) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Trains on digits with gradients compressed by jsq.")
    parser.add_argument("--method", default="jointsq", help="METHOD of jsq, or sgd (default: jointsq)")
    parser.add_argument("--ratio", type=float, default=100, help="dense bytes / bytes sent (default: 100)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the images (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of parameters, order and rounding (default: 0)")
    parser.add_argument("--table", metavar="RESULTS.jsonl", help="run the table's cells and print it")
    parser.add_argument("--seeds", type=int, default=3, help="of each cell of the table (default: 3)")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(work, (arguments, folder), arguments.workers, start_method="fork")
    if arguments.table:
        print(table(results_of(arguments.table, arguments)))


if __name__ == "__main__":
    sys.exit(main())

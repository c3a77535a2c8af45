#!/usr/bin/python3
"""What rdoq's transforms save, against the number of samples that a worker averages its gradient over.

    batch_sizes.py [--samples N ...] [--ratio R ...] [--after STEP ...] [--draws K] [--dump FILE.h5]

Trains the net of train_ddp.py on scikit-learn's digits, stops after some steps, and takes gradients over 8 to 2048
samples: images of the training set, each moved by up to a pixel, so that there are more of them than images. Each
gradient is coded by rdoq:transform=none to a ratio, then by rdoq to the same error; what is printed is the share of
bytes that this saves, the mean over draws of samples. Gradients that low rank and smoothness help only while noise of
sampling dominates would save less with every column.

With --dump the gradients are written too, a group for each number of samples. For a model of your own, dump its
gradients with dump_gradients.py at two batch sizes and compare `jsq compare -m rdoq -m rdoq:transform=none` of both.

Debian: python3-torch, python3-sklearn, python3-h5py, and jsq's module (or PYTHONPATH=tools/python
JSQ_LIBRARY=build/lib/libjsq.so.0).
"""
import argparse
import statistics
import sys

import h5py
import torch

import jsq
from train_ddp import digits, network


def moved(images, numbers):
    """Each image moved by up to a pixel in both directions, zeros behind it."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(3, (2, len(images)), generator=numbers)
    rows, columns = torch.arange(8) + down[:, None], torch.arange(8) + right[:, None]
    return padded[torch.arange(len(images))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def some(images, labels, count, numbers):
    chosen = torch.randint(len(labels), (count,), generator=numbers)
    return moved(images[chosen], numbers), labels[chosen]


def gradient(model, images, labels):
    """Of the mean loss, by parameter."""
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    return {name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}, loss.item()


def saved(tensors, ratio):
    """The share of the bytes that transforms save at the error which a ratio leaves without them."""
    without = jsq.compress(tensors, "rdoq:transform=none", ratio=ratio)
    with_them = jsq.compress(tensors, "rdoq", target=f"nmse={without.report.nmse:.9g}")
    return 1 - len(with_them) / len(without)


def main():
    parser = argparse.ArgumentParser(description="What rdoq's transforms save by samples a worker.")
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 32, 128, 512, 2048])
    parser.add_argument("--ratio", type=float, nargs="+", default=[16, 32, 100])
    parser.add_argument("--after", type=int, nargs="+", default=[60, 400], help="steps of training")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--dump", metavar="FILE.h5")
    options = parser.parse_args()
    torch.manual_seed(0)
    numbers = torch.Generator().manual_seed(0)
    images, labels, _, _ = digits()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    dump = h5py.File(options.dump, "w") if options.dump else None
    ratios = " / ".join(f"{ratio:g}x" for ratio in options.ratio)
    print(f"percent of the bytes saved at the error of rdoq:transform=none at {ratios}")
    print("| after | loss |", " | ".join(f"{n} samples" for n in options.samples), "|")
    print("| --- " * (len(options.samples) + 2) + "|")
    for step in range(max(options.after) + 1):
        if step in options.after:
            cells, losses = [], []
            for count in options.samples:
                draws = [gradient(model, *some(images, labels, count, numbers)) for _ in range(options.draws)]
                losses += [loss for _, loss in draws]
                cells.append("/".join(f"{100 * statistics.mean(saved(tensors, ratio) for tensors, _ in draws):.0f}"
                                      for ratio in options.ratio))
                for k, (tensors, _) in enumerate(draws if dump else []):
                    for name, values in tensors.items():
                        dump[f"step{step}/samples{count}/draw{k}/{name.replace('.', '/')}"] = values
            print(f"| {step} steps | {statistics.mean(losses):.2g} |", " | ".join(cells), "|", flush=True)
        gradient(model, *some(images, labels, 64, numbers))
        optimizer.step()
    if dump:
        dump.close()


if __name__ == "__main__":
    sys.exit(main())

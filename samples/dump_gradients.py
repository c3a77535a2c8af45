#!/usr/bin/env python3
"""Dumps the gradients of a PyTorch model for every step and worker, in the layout that jsq reads best.

Three lines in a training loop:

    dump = GradientDump("gradients.h5", model)      # after DistributedDataParallel(model), where there is one
    ...
        loss.backward()
        dump.step(loss=loss.item())                 # before gradient clipping and optimizer.step()
    dump.close()

The file has a group for each step and in it one for each worker, with a data set for each parameter in its own shape:
`layer1.0.weight` of worker 2 in the first step is /step000/worker2/layer1/0/weight. Shapes are what low-rank methods and scale
contexts live on; a flat vector is not. What is dumped is what a worker would send: with DistributedDataParallel the
gradient before it is averaged, which `dump` takes in the communication hook, and rank 0 writes for all. `only` limits the
steps, `dump.step()` counts all of them:

    dump = GradientDump("gradients.h5", model, only={10, 1000, 20000})

With a GradScaler call `scaler.unscale_(optimizer)` before `dump.step()`; a hook of your own (register_comm_hook) and this one
exclude each other. Then:

    jsq analyze --noise gradients.h5::/step000/worker0
    jsq replay -m topk -t ratio=100 gradients.h5

    dump_gradients.py FILE.h5    dumps three steps of a small model as a demonstration

Needs PyTorch and h5py (Debian: python3-torch, python3-h5py).
"""
import sys

import h5py
import torch
import torch.distributed as dist


def as_numpy(gradient):
    """A C-ordered array on the CPU; sparse becomes dense, bfloat16, which numpy lacks, float32, which holds it exactly."""
    gradient = gradient.to_dense() if gradient.is_sparse else gradient
    gradient = gradient.float() if gradient.dtype == torch.bfloat16 else gradient
    return gradient.detach().contiguous().cpu().numpy()


class GradientDump:
    """Writes the gradients of `model` to the HDF5 file `path`, step by step.

    Args:
        path: of the file, which is replaced.
        model: a module, or a DistributedDataParallel of one.
        only: numbers of the steps to dump, from 0; all of them without it.
        attributes: of the file's root group, beside the framework and the number of workers.
    """

    def __init__(self, path, model, /, only=None, **attributes):
        self._only, self._steps, self._local = only, 0, {}
        distributed = isinstance(model, torch.nn.parallel.DistributedDataParallel)
        module = model.module if distributed else model
        self._names = {parameter: name for name, parameter in module.named_parameters()}
        self._workers = dist.get_world_size() if distributed else 1
        self._distributed = distributed
        if distributed:
            model.register_comm_hook(self, GradientDump._keep_and_average)
        self._file = None
        if not distributed or dist.get_rank() == 0:
            self._file = h5py.File(path, "w")
            self._file.attrs.update(framework="pytorch", workers=self._workers, **attributes)

    def _keep_and_average(self, bucket):
        """The communication hook: keeps this worker's gradients and averages as DistributedDataParallel does."""
        if self._wanted():
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients()):
                self._local[self._names[parameter]] = gradient.clone()
        averaged = dist.all_reduce(bucket.buffer().div_(self._workers), async_op=True).get_future()
        return averaged.then(lambda future: future.value()[0])

    def _wanted(self):
        return self._only is None or self._steps in self._only

    def step(self, **attributes):
        """Writes the gradients of the step that was just computed; `attributes` go to the step's group."""
        if self._wanted():
            self._write(attributes)
        self._local = {}
        self._steps += 1

    def _write(self, attributes):
        """All workers come here together; a parameter without a gradient is left out."""
        if not self._distributed:
            self._local = {name: p.grad for p, name in self._names.items() if p.grad is not None}
        if not self._local:
            raise ValueError("no parameter has a gradient: call step() after loss.backward()")
        step = None
        if self._file is not None:
            step = self._file.create_group(f"step{self._steps:03}")
            step.attrs.update(step=self._steps, **attributes)
        for name in self._names.values():
            if name not in self._local:
                continue
            for worker, gradient in enumerate(self._gathered(self._local[name])):
                step.create_dataset(f"worker{worker}/{name.replace('.', '/')}", data=as_numpy(gradient))

    def _gathered(self, gradient):
        """On rank 0 the gradient of every worker, elsewhere nothing."""
        if not self._distributed:
            return [gradient]
        mine = gradient.to_dense() if gradient.is_sparse else gradient.contiguous()
        everyones = [torch.empty_like(mine) for _ in range(self._workers)] if self._file is not None else None
        dist.gather(mine, everyones, 0)
        return everyones or []

    def close(self):
        """Completes the file."""
        if self._file is not None:
            self._file.close()


def demonstrate(path):
    """Three steps of a small classifier on random data."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dump = GradientDump(path, model)
    for _ in range(3):
        inputs, labels = torch.randn(128, 64), torch.randint(10, (128,))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        dump.step(loss=loss.item())
        optimizer.step()
    dump.close()


def main(arguments):
    if len(arguments) != 1 or not arguments[0].endswith(".h5"):
        return __doc__
    demonstrate(arguments[0])
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

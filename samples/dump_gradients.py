#!/usr/bin/env python3
"""How to dump the gradients of a PyTorch model so that jsq can compress and analyse them.

Copy `dump_npy` or `dump_hdf5` into a training loop and call it after `loss.backward()` and before `optimizer.step()`,
gradient clipping and weight decay, since those change what workers would send:

    loss.backward()
    if step in (10, 1000, 20000):
        dump_hdf5(model, f"step{step}.h5", step=step, loss=loss.item())
    optimizer.step()

With DistributedDataParallel `.grad` holds the average over the workers by then. For what each worker would send, run
that step's forward and backward inside `with model.no_sync():`, and give each rank its own file, as in
f"step{step}.rank{rank}.h5". With a GradScaler call `scaler.unscale_(optimizer)` first. Then:

    jsq compress step10.h5
    jsq analyze --noise step10.h5

    dump_gradients.py FILE.npy|FILE.h5    dumps one step of a small model as a demonstration

Needs PyTorch; `dump_npy` also numpy, `dump_hdf5` also h5py.
"""
import sys


def gradients(model):
    """(name, gradient) of every parameter that has one, in model order; sparse gradients become dense."""
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is None:
            continue
        yield name, (gradient.to_dense() if gradient.is_sparse else gradient).detach()


def as_numpy(tensor):
    """A C-ordered numpy array on the CPU; bfloat16, which numpy lacks, becomes float32, which holds it exactly."""
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.contiguous().cpu().numpy()


def dump_npy(model, path):
    """The whole gradient as one flat float32 vector, parameters in model order; layer borders are lost."""
    import numpy as np

    flat = [as_numpy(gradient).astype(np.float32, copy=False).reshape(-1) for _, gradient in gradients(model)]
    if not flat:
        raise ValueError("no parameter has a gradient: call this after loss.backward()")
    np.save(path, np.concatenate(flat))


def dump_hdf5(model, path, **attributes):
    """A dataset for each parameter, `layer1.0.weight` as /layer1/0/weight; `attributes` go to the root group."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update(framework="pytorch", **attributes)
        for name, gradient in gradients(model):
            file.create_dataset(name.replace(".", "/"), data=as_numpy(gradient))


def demonstrate(path):
    """One backward pass of a small classifier on random data, dumped by the extension of `path`."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    inputs, labels = torch.randn(128, 64), torch.randint(10, (128,))
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    if path.endswith(".npy"):
        dump_npy(model, path)
    else:
        dump_hdf5(model, path, step=1, loss=loss.item())


def main(arguments):
    if len(arguments) != 1 or not arguments[0].endswith((".npy", ".h5")):
        return __doc__
    demonstrate(arguments[0])
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

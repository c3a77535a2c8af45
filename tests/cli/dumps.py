"""Dumps of known values for the suites, and numbers measured on dumps by numpy and h5py."""

import sys

import h5py
import numpy as np


def gradient(elements, seed=7):
    """Heavy-tailed values like those of a gradient, many of them small."""
    rng = np.random.default_rng(seed)
    return (rng.laplace(scale=1e-3, size=elements) * rng.exponential(size=elements)).astype("<f4")


def make(kind, path):
    if kind == "npy":
        np.save(path, gradient(100_000).reshape(100, 1000))
    elif kind == "small":
        np.save(path, gradient(2_000, seed=3))
    elif kind == "fortran":
        np.save(path, np.asfortranarray(gradient(60_000).reshape(200, 300)))
    elif kind == "f16":
        np.save(path, (gradient(80_000) * 100).astype("<f2"))
    elif kind == "f64":
        np.save(path, gradient(80_000).astype("<f8"))
    elif kind == "zeros":
        np.save(path, np.zeros(50_000, "<f4"))
    elif kind == "large":
        np.save(path, gradient(20_000_000))
    elif kind == "nonfinite":
        values = gradient(60_000).reshape(3, 4, 50, 100)
        values[0, 2, 5, 1] = np.nan
        values[1, 0, 0, 0] = np.frombuffer(np.uint32(0x7FC12345).tobytes(), "<f4")[0]
        values[2, 3, 49, 99] = np.inf
        np.save(path, values)
    elif kind == "npz":
        np.savez(path, conv1=gradient(30_000, 1).reshape(30, 10, 100), fc=gradient(40_000, 2), step=np.int64(17))
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file.attrs["step"] = 100
            layer = file.create_group("layer1")
            layer.attrs["kind"] = "conv"
            layer.create_dataset("weight", data=gradient(50_000, 4).reshape(50, 1000))
            layer.create_dataset("bias", data=gradient(5_000, 5))
            file.create_dataset("fc/weight", data=gradient(20_000, 6).reshape(20, 1000), compression="gzip")
            file.create_dataset("labels", data=np.arange(10))
    elif kind == "hostile-names":
        with h5py.File(path, "w") as file:
            file.create_dataset("red\x1b[31m\nnext", data=gradient(5_000, 1))
            file.create_dataset("back\u202ewards", data=gradient(5_000, 2))
    else:
        sys.exit(f"no dump is called {kind}")


def tensors(path):
    """Name -> array, in f64 where a floating type allows."""
    if path.endswith(".npy"):
        return {"": np.load(path)}
    if path.endswith(".npz"):
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def floats(path):
    chosen = {name: value for name, value in tensors(path).items() if value.dtype.kind == "f"}
    return np.concatenate([value.ravel().astype("f8") for value in chosen.values()])


def nmse(original, decoded):
    a, b = floats(original), floats(decoded)
    print(repr(float(np.sum((b - a) ** 2) / np.sum(a**2))))


def cosine(original, decoded):
    a, b = floats(original), floats(decoded)
    print(repr(float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))))


def same_structure(original, decoded):
    """Equal names, shapes, dtypes; equal values of what is not a gradient; equal HDF5 attributes."""
    a, b = tensors(original), tensors(decoded)
    assert list(a) == list(b), (list(a), list(b))
    for name, value in a.items():
        assert value.shape == b[name].shape, (name, value.shape, b[name].shape)
        assert value.dtype == b[name].dtype, (name, value.dtype, b[name].dtype)
        assert np.isfortran(value) == np.isfortran(b[name]), name
        if value.dtype.kind != "f":
            assert np.array_equal(value, b[name]), name
    if original.endswith(".h5"):
        with h5py.File(original) as x, h5py.File(decoded) as y:
            assert dict(x.attrs) == dict(y.attrs)
            for group in x:
                assert dict(x[group].attrs) == dict(y[group].attrs)


if __name__ == "__main__":
    {"make": make, "nmse": nmse, "cosine": cosine, "same-structure": same_structure}[sys.argv[1]](*sys.argv[2:])

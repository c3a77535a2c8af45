#!/usr/bin/python3
"""Reads a frame into numpy arrays through the C interface of libjsq (jsq/jsq.h); needs numpy and nothing else.

    read_with_python.py FRAME.jsq [TENSOR]

Prints a line for each tensor, or the values of one. The library is looked for in JSQ_LIBRARY (a path), then as the
installed libjsq.so.0. As a module: `Frame(path).read("layer1.weight")` is a float32 array of the tensor's shape.
"""
import ctypes
import os
import sys

import numpy as np

DTYPES = {1: "f16", 2: "bf16", 3: "f32", 4: "f64"}


class Tensor(ctypes.Structure):
    """struct jsq_tensor."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("fortran_order", ctypes.c_int),
        ("rank", ctypes.c_size_t),
        ("shape", ctypes.POINTER(ctypes.c_uint64)),
        ("elements", ctypes.c_uint64),
        ("coded_bytes", ctypes.c_uint64),
    ]


class JsqError(Exception):
    """An error of libjsq, with its name ("damaged") in `code`."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def load_library():
    library = ctypes.CDLL(os.environ.get("JSQ_LIBRARY", "libjsq.so.0"))
    frame, index, count = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64
    library.jsq_last_error.restype = ctypes.c_char_p
    library.jsq_error_name.restype = ctypes.c_char_p
    library.jsq_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(frame)]
    library.jsq_close.argtypes = [frame]
    library.jsq_close.restype = None
    library.jsq_tensor_count.argtypes = [frame, ctypes.POINTER(index)]
    library.jsq_find_tensor.argtypes = [frame, ctypes.c_char_p, ctypes.POINTER(index)]
    library.jsq_describe_tensor.argtypes = [frame, index, ctypes.POINTER(Tensor)]
    library.jsq_read.argtypes = [frame, index, count, count, ctypes.c_void_p]
    return library


class Frame:
    """An open frame file. Use as a context manager, or call close()."""

    def __init__(self, path):
        self._library = load_library()
        self._frame = ctypes.c_void_p()
        self._check(self._library.jsq_open(os.fsencode(path), ctypes.byref(self._frame)))

    def _check(self, code):
        if code != 0:
            name = self._library.jsq_error_name(code).decode()
            raise JsqError(name, self._library.jsq_last_error().decode("utf-8", "replace"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._library.jsq_close(self._frame)
        self._frame = ctypes.c_void_p()

    def __len__(self):
        count = ctypes.c_size_t()
        self._check(self._library.jsq_tensor_count(self._frame, ctypes.byref(count)))
        return count.value

    def describe(self, index):
        tensor = Tensor()
        self._check(self._library.jsq_describe_tensor(self._frame, index, ctypes.byref(tensor)))
        return tensor

    def find(self, name):
        index = ctypes.c_size_t()
        self._check(self._library.jsq_find_tensor(self._frame, name.encode(), ctypes.byref(index)))
        return index.value

    def read(self, tensor):
        """The tensor with this index or name, decoded: float32, in its logical shape."""
        index = self.find(tensor) if isinstance(tensor, str) else tensor
        described = self.describe(index)
        values = np.empty(described.elements, np.float32)
        self._check(self._library.jsq_read(self._frame, index, 0, values.size, values.ctypes.data))
        shape = described.shape[: described.rank]
        return values.reshape(shape, order="F" if described.fortran_order else "C")


def main(arguments):
    if len(arguments) not in (1, 2):
        return __doc__
    try:
        with Frame(arguments[0]) as frame:
            if len(arguments) == 2:
                print(frame.read(arguments[1]))
                return None
            for index in range(len(frame)):
                tensor = frame.describe(index)
                norm = np.linalg.norm(frame.read(index).astype(np.float64))
                name = tensor.name.decode("utf-8", "replace")
                kind = f"{DTYPES[tensor.dtype]} {tensor.shape[: tensor.rank]}"
                print(f"{name!r} {kind} {tensor.coded_bytes} bytes, norm {norm:.6g}")
    except JsqError as error:
        return f"{error} ({error.code})"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

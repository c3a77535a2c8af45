"""numpy arrays as the library sees them, without copies where their elements lie together."""
from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Union

import numpy as np

from . import _library, errors

Tensors = Union[np.ndarray, Mapping[str, np.ndarray]]

F16, BF16, F32, F64 = 1, 2, 3, 4
STORED_NAMES = {F16: "f16", BF16: "bf16", F32: "f32", F64: "f64"}
_CODES = {"float16": F16, "bfloat16": BF16, "float32": F32, "float64": F64}


def _code_of(array: np.ndarray, label: str, bfloat16: bool) -> int:
    name = array.dtype.name
    if bfloat16 and name == "uint16":
        return BF16
    if name in _CODES:
        return _CODES[name]
    hint = "; bits of bfloat16 in uint16 need bfloat16=True" if name == "uint16" else ""
    raise errors.UnsupportedDtypeError(
        f"{label}: elements are {name}; expected float16, bfloat16, float32 or float64{hint}"
    )


class Arrays:
    """struct jsq_array for each of `tensors`, and what keeps their memory alive.

    Arrays whose elements lie together in C or Fortran order, in either byte order, writable or not, are used where
    they are; others are copied.
    """

    def __init__(self, tensors: Tensors, bfloat16: bool = False) -> None:
        named = tensors if isinstance(tensors, Mapping) else {"": tensors}
        self.structures = (_library.Array * len(named))()
        self._kept = []
        for structure, (name, tensor) in zip(self.structures, named.items()):
            self._fill(structure, name, np.asarray(tensor), bfloat16)

    def __len__(self) -> int:
        return len(self.structures)

    def _fill(self, structure: _library.Array, name: str, array: np.ndarray, bfloat16: bool) -> None:
        structure.dtype = _code_of(array, f"tensor '{name}'" if name else "array", bfloat16)
        structure.fortran_order = array.flags.f_contiguous and not array.flags.c_contiguous
        if not (array.flags.c_contiguous or array.flags.f_contiguous):
            array = np.ascontiguousarray(array)
        structure.big_endian = array.dtype.byteorder == ">"
        structure.rank = array.ndim
        shape = (ctypes.c_uint64 * max(array.ndim, 1))(*array.shape)
        encoded = _library.utf8(name)
        structure.shape, structure.name = shape, encoded
        structure.data = array.ctypes.data
        self._kept.append((array, shape, encoded))

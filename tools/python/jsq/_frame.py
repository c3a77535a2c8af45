"""A frame as a mapping of names to arrays that are read when they are asked for."""
from __future__ import annotations

import ctypes
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Union

import numpy as np

from . import _library, errors
from ._arrays import BF16, STORED_NAMES

Source = Union[str, os.PathLike, bytes, bytearray, memoryview, np.ndarray]

_NUMPY = {1: np.dtype("<f2"), 2: np.dtype("<f4"), 3: np.dtype("<f4"), 4: np.dtype("<f8")}


class _Handle:
    """An open frame of the library. Whoever reads holds a reference, so that it is closed after the last reader."""

    def __init__(self, source: Source, threads: int) -> None:
        self.pointer = ctypes.c_void_p()
        if isinstance(source, (str, os.PathLike)):
            opened = _library.library.jsq_open(_library.path_bytes(source), ctypes.byref(self.pointer))
        else:
            self._memory = np.frombuffer(source, np.uint8)  # refers to the caller's bytes and keeps them alive
            opened = _library.library.jsq_open_memory(
                self._memory.ctypes.data, self._memory.size, ctypes.byref(self.pointer)
            )
        _library.check(opened)
        _library.check(_library.library.jsq_set_threads(self.pointer, threads))

    def __del__(self) -> None:
        if self.pointer:
            _library.library.jsq_close(self.pointer)

    def count(self) -> int:
        count = ctypes.c_size_t()
        _library.check(_library.library.jsq_tensor_count(self.pointer, ctypes.byref(count)))
        return count.value

    def describe(self, index: int) -> _library.Tensor:
        tensor = _library.sized(_library.Tensor)
        _library.check(_library.library.jsq_describe_tensor(self.pointer, index, ctypes.byref(tensor)))
        return tensor

    def metadata(self) -> dict[str, str]:
        count = ctypes.c_size_t()
        _library.check(_library.library.jsq_metadata_count(self.pointer, ctypes.byref(count)))
        entries = {}
        for index in range(count.value):
            key, value = ctypes.c_char_p(), ctypes.c_char_p()
            _library.check(
                _library.library.jsq_metadata(self.pointer, index, ctypes.byref(key), ctypes.byref(value))
            )
            entries[_library.text(key.value)] = _library.text(value.value)
        return entries


class Entry:
    """One tensor of a frame: described at once, decoded when its values are asked for.

    Attributes:
        name: of the tensor; "" for a plain array.
        dump: path of the dump that it was compressed from.
        shape: extents in elements.
        stored_dtype: "f16", "bf16", "f32" or "f64": what it was compressed from.
        dtype: of the arrays that reading gives: the stored one; float32 for bfloat16, which it holds exactly.
        method: method and options that the frame records for it; "" where these are damaged, and then reading it fails.
        coded_bytes: bytes of its blocks in the frame.
        fortran_order: whether its elements are stored in Fortran order.
    """

    def __init__(self, handle: _Handle, index: int) -> None:
        tensor = handle.describe(index)
        self._handle, self._index, self._code = handle, index, tensor.dtype
        self.name = _library.text(tensor.name)
        self.dump = _library.text(tensor.dump)
        self.shape = tuple(tensor.shape[: tensor.rank])
        self.stored_dtype = STORED_NAMES[tensor.dtype]
        self.dtype = _NUMPY[tensor.dtype]
        self.method = _library.text(tensor.method)
        self.coded_bytes = tensor.coded_bytes
        self.fortran_order = bool(tensor.fortran_order)

    def __repr__(self) -> str:
        return f"<jsq.Entry {self.name!r} {self.stored_dtype} {list(self.shape)} {self.method}>"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes before compression: elements times the bytes of their stored dtype."""
        return self.size * (2 if self._code == BF16 else self.dtype.itemsize)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a scalar")
        return self.shape[0]

    def read_flat(self, first: int = 0, count: int | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """Elements [first, first + count) in storage order, decoded from the blocks that hold them alone.

        Args:
            first, count: in elements; without `count` all that follow `first`.
            out: a contiguous float32 array of `count` elements to decode into, whatever the stored dtype; its shape
                does not matter.

        Returns:
            `out`, or a new one-dimensional array of `dtype`.

        Raises:
            UsageError (a range beyond the tensor, an unfit `out`), DamagedError, ReadFailedError, LimitError.
        """
        first = int(first)
        count = max(self.size - first, 0) if count is None else int(count)
        if first < 0 or count < 0 or first + count > self.size:
            raise errors.UsageError(
                f"tensor '{self.name}': {count} elements from {first} on of {self.size}; give a range within it"
            )
        if out is not None:
            fit = out.dtype == np.float32 and out.dtype.isnative and out.flags.writeable and out.size == count
            if not fit or not (out.flags.c_contiguous or out.flags.f_contiguous):
                raise errors.UsageError(
                    f"tensor '{self.name}': out must be a writable, contiguous float32 array of {count} elements"
                )
            self._decode(first, count, out)
            return out
        values = np.empty(count, self.dtype)
        if self._code == BF16:
            self._decode(first, count, values)
        else:
            self._stored(first, count, values)
        return values

    def read(self) -> np.ndarray:
        """All of it: an array of `dtype` and `shape`.  Raises as `read_flat`."""
        return self._shaped(self.read_flat())

    def read_bits(self) -> np.ndarray:
        """The stored elements of a bfloat16 tensor, bit for bit: uint16 of `shape`. Raises UsageError for another dtype."""
        if self._code != BF16:
            raise errors.UsageError(f"tensor '{self.name}' is {self.stored_dtype}, not bf16; read() gives it exactly")
        bits = np.empty(self.size, "<u2")
        self._stored(0, self.size, bits)
        return self._shaped(bits)

    def __array__(self, dtype=None) -> np.ndarray:
        return self.read() if dtype is None else self.read().astype(dtype, copy=False)

    def __getitem__(self, key) -> np.ndarray:
        """As numpy would index the array; an integer or a range of the first axis decodes its blocks alone."""
        first_axis, rest = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        if not self.shape or self.fortran_order or not isinstance(first_axis, (int, np.integer, slice)):
            return self.read()[key]
        row = math.prod(self.shape[1:])
        if isinstance(first_axis, slice):
            begin, end, step = first_axis.indices(self.shape[0])
            if step != 1:
                return self.read()[key]
            rows = self.read_flat(begin * row, max(end - begin, 0) * row)
            array = rows.reshape((max(end - begin, 0), *self.shape[1:]))
            return array[(slice(None), *rest)] if rest else array
        at = first_axis + self.shape[0] if first_axis < 0 else first_axis
        if not 0 <= at < self.shape[0]:
            raise IndexError(f"index {first_axis} of a tensor with {self.shape[0]} along its first axis")
        array = self.read_flat(at * row, row).reshape(self.shape[1:])
        return array[rest]

    def _shaped(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(self.shape, order="F" if self.fortran_order else "C")

    def _decode(self, first: int, count: int, out: np.ndarray) -> None:
        handle = self._handle
        _library.check(_library.library.jsq_read(handle.pointer, self._index, first, count, out.ctypes.data))

    def _stored(self, first: int, count: int, out: np.ndarray) -> None:
        handle = self._handle
        _library.check(
            _library.library.jsq_read_stored(
                handle.pointer, self._index, first, count, out.ctypes.data, out.nbytes
            )
        )


def _key(entry: Entry, distinct: bool, tensors: int) -> str:
    if entry.name == "" and tensors > 1:
        return entry.dump
    return entry.name if distinct else f"{entry.dump}::{entry.name}"


class Frame(Mapping):
    """An open frame: `frame["layer1.weight"]` decodes that tensor alone, and nothing else is read.

    Keys are the tensors' names, in the frame's order; "DUMP::NAME" where several dumps hold the name. A plain array has the
    key "" where it is alone, otherwise its dump's path; a key that an earlier tensor has already gets "#" and the
    tensor's number behind it. Safe to read from several threads at once. Use as a context manager, or call close(); arrays that were
    read stay valid.
    """

    def __init__(self, source: Source, threads: int = 0) -> None:
        handle = _Handle(source, threads)
        entries = [Entry(handle, index) for index in range(handle.count())]
        holders = Counter(entry.name for entry in entries)
        self._entries: dict[str, Entry] | None = {}
        for index, entry in enumerate(entries):
            key = _key(entry, holders[entry.name] == 1, len(entries))
            self._entries[f"{key}#{index}" if key in self._entries else key] = entry
        self.metadata: dict[str, str] = handle.metadata()

    def _open_entries(self) -> dict[str, Entry]:
        if self._entries is None:
            raise errors.UsageError("the frame is closed; open it again")
        return self._entries

    def __getitem__(self, name: str) -> np.ndarray:
        return self.entry(name).read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._open_entries())

    def __len__(self) -> int:
        return len(self._open_entries())

    def __contains__(self, name: object) -> bool:
        return name in self._open_entries()

    def __repr__(self) -> str:
        return "<jsq.Frame, closed>" if self._entries is None else f"<jsq.Frame of {len(self)} tensors>"

    def entry(self, name: str) -> Entry:
        """The tensor without its values: shape, dtype, method, and slices of it.  Raises UnknownNameError."""
        entries = self._open_entries()
        if name not in entries:
            known = ", ".join(repr(key) for key in list(entries)[:5])
            raise errors.UnknownNameError(f"no tensor {name!r}; the frame has {len(entries)}: {known}")
        return entries[name]

    def entries(self) -> list[Entry]:
        """All tensors, in the frame's order."""
        return list(self._open_entries().values())

    def __enter__(self) -> Frame:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file or memory, after reads that are under way."""
        self._entries = None


def open(source: Source, *, threads: int = 0) -> Frame:  # noqa: A001 - the name that users know
    """Opens a frame and reads its directory.

    Args:
        source: path of a frame, or its bytes (any contiguous buffer, which is not copied and must not change).
        threads: that a read uses; 0 means all cores.

    Raises:
        NotFoundError, ReadFailedError, UnsupportedFormatError, DamagedError, NewerFormatError, LimitError.
    """
    return Frame(source, threads)


def decompress(source: Source, *, threads: int = 0) -> np.ndarray | dict[str, np.ndarray]:
    """Decodes a whole frame.

    Args:
        source, threads: as for `open`.

    Returns:
        The array, where the frame holds a single tensor without a name, as `compress(array)` makes it; otherwise a
        dict of names to arrays. Shapes and dtypes are those that went in; bfloat16 comes as float32.

    Raises:
        As `open` and `Entry.read_flat`.
    """
    with Frame(source, threads) as frame:
        if list(frame) == [""]:
            return frame[""]
        return dict(frame)

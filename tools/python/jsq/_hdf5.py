"""The parameters of HDF5's jsq filter."""
from __future__ import annotations

from . import errors
from ._compress import target_text

HDF5_FILTER_ID = 405
"""From the range that HDF5 leaves for tests, until one is registered."""


def hdf5_filter(method: str = "jointsq", *, ratio: float | None = None, target: str | None = None) -> dict:
    """What h5py needs to write a data set through libh5jsq, the HDF5 filter plugin: h5jsq(7).

        file.create_dataset("grad", data=gradient, chunks=(65536,), **jsq.hdf5_filter("rdoq", ratio=100))

    The plugin must be in a folder of HDF5_PLUGIN_PATH when HDF5 starts, or be named with `h5py.h5pl.prepend`. Each chunk is
    a frame of its own, with a budget of its own.

    Args:
        method: METHOD of jsq(1), such as "qsgd:bits=4".
        ratio: chunk bytes / frame bytes. Without it and without `target`: 32, or the method's own size.
        target: TARGET of jsq(1) instead, such as "nmse=1e-3".

    Returns:
        {"compression": 405, "compression_opts": numbers}, keyword arguments of `h5py.Group.create_dataset`.

    Raises:
        UsageError: both targets, or letters beyond ASCII. What is wrong with METHOD and TARGET is found when the data set is made.
    """
    wanted = target_text(ratio, target)
    text = method if wanted is None else f"{method} {wanted}"
    if not text.isascii():
        raise errors.UsageError(f"'{text}': expected ASCII")
    octets = text.encode("ascii")
    octets += bytes(-len(octets) % 4)
    numbers = tuple(int.from_bytes(octets[at : at + 4], "little") for at in range(0, len(octets), 4))
    return {"compression": HDF5_FILTER_ID, "compression_opts": numbers}

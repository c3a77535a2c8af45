"""Gradient compression, measured honestly: libjsq for Python, numpy in and out.

    import jsq

    frame = jsq.compress(gradient, ratio=32)            # bytes; frame.report has size and error
    gradient = jsq.decompress(frame)

    jsq.save("step.jsq", {"fc.weight": w, "fc.bias": b}, "rdoq", ratio=100)
    with jsq.open("step.jsq") as step:                  # a mapping of names to arrays, read lazily
        rows = step.entry("fc.weight")[10:20]

    feedback = jsq.ErrorFeedback()
    frame = feedback.compress(gradient, "topk", ratio=100)

    jsq.noise(gradient, ratio=32, bound=True)           # h', what coding really lost, rate-distortion bounds
    jsq.compare(gradient, ["jointsq", "topk"], ratios=[32, 1000])

Frames are those of the program `jsq`, byte for byte. Calls release the interpreter's lock. Every error is a
`jsq.Error` whose `exit_code` is the program's.
"""
from . import errors
from ._compress import Compressed, Report, compress, save
from ._feedback import ErrorFeedback
from ._frame import Entry, Frame, decompress, open
from ._hdf5 import HDF5_FILTER_ID, hdf5_filter
from ._library import version
from ._measure import Bounds, Noise, Row, compare, noise
from .errors import Error

__version__ = version()
__all__ = [
    "Bounds",
    "Compressed",
    "Entry",
    "Error",
    "ErrorFeedback",
    "Frame",
    "HDF5_FILTER_ID",
    "Noise",
    "Report",
    "Row",
    "compare",
    "compress",
    "decompress",
    "errors",
    "hdf5_filter",
    "noise",
    "open",
    "save",
    "version",
]

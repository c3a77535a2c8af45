"""Arrays in, a frame out."""
from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Mapping

from . import _library, errors
from ._arrays import Arrays, Tensors


@dataclasses.dataclass(frozen=True)
class Report:
    """What a compression came to. Errors are of the values as they will be read back.

    Attributes:
        elements: of all tensors.
        input_bytes: elements times the bytes of their dtype.
        file_bytes: of the frame, everything included.
        payload_bits: what the method's paper counts.
        nmse: |g^ - g|^2 / |g|^2.
        cosine: of g and g^.
        max_error: largest |g^ - g|.
        mean_error: mean of g^ - g.
        expected_nmse: expectation of nmse over the rounding; NaN where it has no closed form.
        hprime: JointSQ's model noise h' per element; NaN for methods without width classes.
        seconds: that the compression took.
    """

    elements: int
    input_bytes: int
    file_bytes: int
    payload_bits: int
    nmse: float
    cosine: float
    max_error: float
    mean_error: float
    expected_nmse: float
    hprime: float
    seconds: float

    @property
    def ratio(self) -> float:
        """input_bytes / file_bytes."""
        return self.input_bytes / self.file_bytes

    @property
    def bits_per_element(self) -> float:
        """8 file_bytes / elements; 0 without elements."""
        return 8 * self.file_bytes / self.elements if self.elements else 0.0


class Compressed(bytes):
    """The bytes of a frame: what `jsq compress` writes to a file. `report` says what the compression came to."""

    report: Report


def fields_of(structure: ctypes.Structure) -> dict:
    """The members of a structure of the library but for its size."""
    return {name: getattr(structure, name) for name, *_ in structure._fields_ if name != "size"}


def target_text(ratio: float | None, target: str | None) -> str | None:
    """TARGET of jsq(1). Raises UsageError when both are given."""
    if ratio is not None and target is not None:
        raise errors.UsageError(f"ratio={ratio} and target='{target}' are two targets; give one of them")
    return target if ratio is None else f"ratio={float(ratio)!r}"


class Options:
    """struct jsq_options, and what keeps its strings alive."""

    def __init__(
        self,
        method: str = "jointsq",
        *,
        ratio: float | None = None,
        target: str | None = None,
        seed: int = 0,
        rounding: str = "auto",
        scope: str = "archive",
        ratio_kind: str = "file",
        nonfinite: str = "error",
        threads: int = 0,
        metadata: Mapping[str, str] | None = None,
        dump: str | None = None,
        state: ctypes.c_void_p | None = None,
        feedback: str | None = None,
        worker: int = 0,
    ) -> None:
        for name, value, most in (("seed", seed, 2**64), ("threads", threads, 2**32), ("worker", worker, 2**32)):
            if not 0 <= value < most:
                raise errors.UsageError(f"{name} is {value}; expected a whole number of 0..{most - 1}")
        self.structure = structure = _library.sized(_library.Options)
        texts = {
            "method": method,
            "target": target_text(ratio, target),
            "nonfinite": nonfinite,
            "rounding": rounding,
            "scope": scope,
            "ratio_kind": ratio_kind,
            "dump": dump,
            "feedback": feedback,
        }
        for name, value in texts.items():
            setattr(structure, name, None if value is None else _library.utf8(value))
        structure.seed, structure.threads, structure.worker = seed, threads, worker
        structure.state = state
        pairs = [_library.utf8(part) for pair in (metadata or {}).items() for part in pair]
        structure.metadata = (ctypes.c_char_p * max(len(pairs), 1))(*pairs)
        structure.metadata_count = len(pairs) // 2


def compress(
    tensors: Tensors,
    method: str = "jointsq",
    *,
    ratio: float | None = None,
    target: str | None = None,
    seed: int = 0,
    rounding: str = "auto",
    scope: str = "archive",
    ratio_kind: str = "file",
    nonfinite: str = "error",
    threads: int = 0,
    metadata: Mapping[str, str] | None = None,
    dump: str | None = None,
    bfloat16: bool = False,
) -> Compressed:
    """Compresses an array, or several by name, into a frame in memory.

    Args:
        tensors: an array of any shape, or a mapping of names to arrays, all under one budget. float16, float32 or
            float64 in either byte order, ml_dtypes' bfloat16, or bits of bfloat16 in uint16 with `bfloat16=True`.
            Read where they lie, unless they are not contiguous.
        method: METHOD of jsq(1), such as "qsgd:bits=4".
        ratio: input bytes / frame bytes. Without it and without `target`: 32, or the method's own size.
        target: TARGET of jsq(1) instead: "bpw=1", "bytes=64KiB", "nmse=1e-3", "maxabs=1e-4", "hprime=0.1", "native".
        seed: of all random numbers, 0 to 2**64 - 1.
        rounding: "auto" (as the method is defined), "nearest" or "stochastic".
        scope: "archive" (one budget for all tensors) or "tensor" (each its own).
        ratio_kind: what a size target counts, "file" or "payload".
        nonfinite: NaN and infinities are an "error", become "zero", or are kept exactly ("keep").
        threads: 0 means all cores. The bytes do not depend on it.
        metadata: text that the frame keeps.
        dump: what `jsq decompress` writes the tensors as: a relative path that ends in .npy (one array) or .npz.

    Returns:
        The frame, with `report`. The same tensors, options and seed give the same bytes, those of `jsq compress`.

    Raises:
        UsageError, UnknownNameError, UnsupportedDtypeError, NonFiniteError, UnreachableTargetError, LimitError.
    """
    options = Options(
        method,
        ratio=ratio,
        target=target,
        seed=seed,
        rounding=rounding,
        scope=scope,
        ratio_kind=ratio_kind,
        nonfinite=nonfinite,
        threads=threads,
        metadata=metadata,
        dump=dump,
    )
    return compressed(Arrays(tensors, bfloat16), options)


def compressed(arrays: Arrays, options: Options) -> Compressed:
    """The frame of `arrays`."""
    report = _library.sized(_library.Report)
    memory, size = ctypes.c_void_p(), ctypes.c_size_t()
    _library.check(
        _library.library.jsq_compress(
            arrays.structures,
            len(arrays),
            ctypes.byref(options.structure),
            ctypes.byref(memory),
            ctypes.byref(size),
            ctypes.byref(report),
        )
    )
    try:
        frame = Compressed((ctypes.c_char * size.value).from_address(memory.value))
    finally:
        _library.library.jsq_free(memory)
    frame.report = Report(**fields_of(report))
    return frame


def save(
    path: str | os.PathLike, tensors: Tensors, method: str = "jointsq", *, bfloat16: bool = False, **options
) -> Report:
    """Compresses into a file, which appears, or is replaced, only when it is complete.

    Args:
        path: of the frame.
        tensors, method, options: as for `compress`.

    Returns:
        What the compression came to.

    Raises:
        WriteFailedError, and what `compress` raises.
    """
    report = _library.sized(_library.Report)
    arrays, chosen = Arrays(tensors, bfloat16), Options(method, **options)
    _library.check(
        _library.library.jsq_compress_file(
            arrays.structures,
            len(arrays),
            ctypes.byref(chosen.structure),
            _library.path_bytes(path),
            ctypes.byref(report),
        )
    )
    return Report(**fields_of(report))

"""What coding loses: JointSQ's models, measured errors, rate-distortion bounds, and methods side by side."""
from __future__ import annotations

import ctypes
import dataclasses
import math
import time
from collections.abc import Iterable, Sequence

from . import _library, errors
from ._arrays import Arrays, Tensors
from ._compress import Options, Report, compressed, fields_of
from ._frame import open as open_frame

BOUND_MODELS = ("pooled", "tensors", "scales", "shannon")


class Bounds:
    """The least error that any code of a size can have (the rate-distortion function), for the values of tensors.

    Models of what the decoder knows for free, each a lower bound than the one before: "pooled" (one distribution for all
    elements), "tensors" (one for each tensor), "scales" (one for each half octave of row times column scale). "shannon" is the
    closed form below "pooled". They are bounds for the models, not for the tensors: see jsq-analyze(1).
    """

    def __init__(self, tensors: Tensors, *, threads: int = 0, bfloat16: bool = False) -> None:
        """Reads the tensors twice and keeps histograms.  Raises UnsupportedDtypeError, LimitError."""
        self._bounds = ctypes.c_void_p()
        arrays = Arrays(tensors, bfloat16)
        _library.check(
            _library.library.jsq_bounds_new(arrays.structures, len(arrays), threads, ctypes.byref(self._bounds))
        )

    def __del__(self) -> None:
        if getattr(self, "_bounds", None):
            _library.library.jsq_bounds_free(self._bounds)

    def nmse_at(self, bits_per_element: float, model: str = "tensors") -> float:
        """The least |g^ - g|^2 / |g|^2 at a size.  Raises UsageError, UnknownNameError."""
        return self._asked(_library.library.jsq_bounds_nmse, model, bits_per_element)

    def bits_at(self, nmse: float, model: str = "tensors") -> float:
        """The least bits an element for an error: the inverse.  Raises UsageError, UnknownNameError."""
        return self._asked(_library.library.jsq_bounds_bits, model, nmse)

    def _asked(self, function, model: str, value: float) -> float:
        answer = ctypes.c_double()
        _library.check(function(self._bounds, _library.utf8(model), value, ctypes.byref(answer)))
        return answer.value


@dataclasses.dataclass(frozen=True)
class Noise:
    """A row of `jsq analyze --noise`: an allocator's models at one cost, and what coding with it to the target lost.

    Attributes:
        allocator: "exact", "literal", "sampled" or "reallocated".
        payload_bits: that the allocator spends; at most what the method as given spends.
        hprime: h' per element in units of |g|^2 (Xie et al., Eqs. 8, 11).
        hprime_eq6, hprime_eq6_nonzero: h' of Eq. 6 literally, and with the size of the 0-bit class taken as 1.
        h_uniform, uniform_bits: h of Eq. 3 for the best uniform co-compressor of the same payload, and its width.
        exchange_gain, exchange_loss: Eq. 9 from that co-compressor to this allocation.
        elements, input_bytes: of all tensors.
        file_bytes, coded_payload_bits, coded_hprime: of the frame that was coded.
        expected_nmse: expectation of nmse over the rounding; NaN where it has no closed form.
        nmse, cosine, max_error, mean_error: measured, as in `Report`.
        bound_nmse: least nmse at this size by model ("pooled", "tensors", "scales", "shannon"), where asked for.
    """

    allocator: str
    payload_bits: int
    hprime: float
    hprime_eq6: float
    hprime_eq6_nonzero: float
    h_uniform: float
    uniform_bits: int
    exchange_gain: float
    exchange_loss: float
    elements: int
    input_bytes: int
    file_bytes: int
    coded_payload_bits: int
    coded_hprime: float
    expected_nmse: float
    nmse: float
    cosine: float
    max_error: float
    mean_error: float
    bound_nmse: dict[str, float] | None = None

    @property
    def ratio(self) -> float:
        """input_bytes / file_bytes."""
        return self.input_bytes / self.file_bytes

    @property
    def bits_per_element(self) -> float:
        """8 file_bytes / elements."""
        return 8 * self.file_bytes / self.elements


def noise(
    tensors: Tensors,
    method: str = "jointsq",
    *,
    allocator: str = "exact",
    bound: bool = False,
    bfloat16: bool = False,
    **options,
) -> Noise:
    """h' of an allocator and the noise that coding with it really makes.

    Args:
        tensors, method, options: as for `compress`; the method must allocate bits (jointsq).
        allocator: "exact", "literal" (greedy), "sampled", or "reallocated" (the paper's greedy with reallocation); all are
            given the payload bits that the method spends at its target.
        bound: also the rate-distortion bounds at the coded size.

    Raises:
        UsageError (a method without allocators), UnknownNameError, and what `compress` raises.
    """
    arrays, chosen = Arrays(tensors, bfloat16), Options(method, **options)
    report = _library.sized(_library.NoiseReport)
    _library.check(
        _library.library.jsq_noise(
            arrays.structures,
            len(arrays),
            ctypes.byref(chosen.structure),
            _library.utf8(allocator),
            ctypes.byref(report),
        )
    )
    found = Noise(allocator=allocator, **fields_of(report))
    if not bound:
        return found
    bounds = Bounds(tensors, threads=options.get("threads", 0), bfloat16=bfloat16)
    at = {model: bounds.nmse_at(found.bits_per_element, model) for model in BOUND_MODELS}
    return dataclasses.replace(found, bound_nmse=at)


@dataclasses.dataclass(frozen=True)
class Row:
    """A method at a target: a row of `jsq compare`, from true bytes and a real decode.

    Attributes:
        method, target: as they were asked for.
        reached: whether the target was met. If not, the figures are those of the nearest point, `nearest`.
        nearest: the target that was met instead, or None.
        report: size and error; None where there is not even a nearest point.
        decode_seconds: that reading the whole frame took; NaN without a frame.
        bound_nmse: least nmse at this size (model "tensors"), where asked for.
        problem: why the target was not met; "".
    """

    method: str
    target: str
    reached: bool
    nearest: str | None
    report: Report | None
    decode_seconds: float
    bound_nmse: float | None
    problem: str

    @property
    def bound_db(self) -> float | None:
        """Decibels of nmse above the bound; None without both."""
        if self.report is None or not self.bound_nmse or self.report.nmse <= 0:
            return None
        return 10 * math.log10(self.report.nmse / self.bound_nmse)


def compare(
    tensors: Tensors,
    methods: Sequence[str] = ("jointsq",),
    *,
    ratios: Iterable[float] = (),
    targets: Iterable[str] = (),
    bound: bool = False,
    threads: int = 0,
    seed: int = 0,
    bfloat16: bool = False,
) -> list[Row]:
    """Every method at every target, encoded and decoded for real.

    Args:
        tensors: as for `compress`.
        methods: METHODs of jsq(1).
        ratios, targets: what to aim at; without either ratio 32.
        bound: also the rate-distortion bound at each size.
        threads, seed, bfloat16: as for `compress`.

    Returns:
        Rows in the order of methods, then of targets: ratios first.

    Raises:
        What `compress` raises, but for UnreachableTargetError.
    """
    texts = [f"ratio={float(ratio)!r}" for ratio in ratios] + list(targets)
    arrays = Arrays(tensors, bfloat16)
    bounds = Bounds(tensors, threads=threads, bfloat16=bfloat16) if bound else None
    return [
        _row(arrays, method, target, bounds, threads, seed)
        for method in methods
        for target in texts or ["ratio=32.0"]
    ]


def _row(
    arrays: Arrays, method: str, target: str, bounds: Bounds | None, threads: int, seed: int
) -> Row:
    nearest, problem = None, ""
    try:
        frame = compressed(arrays, Options(method, target=target, seed=seed, threads=threads))
    except errors.UnreachableTargetError as error:
        nearest, problem = error.nearest, str(error)
        if nearest is None:
            return Row(method, target, False, None, None, math.nan, None, problem)
        frame = compressed(arrays, Options(method, target=nearest, seed=seed, threads=threads))
    start = time.perf_counter()
    with open_frame(frame, threads=threads) as opened:
        for entry in opened.entries():
            entry.read_flat()
    decode_seconds = time.perf_counter() - start
    bound_nmse = bounds.nmse_at(frame.report.bits_per_element) if bounds and frame.report.elements else None
    return Row(method, target, not problem, nearest, frame.report, decode_seconds, bound_nmse, problem)

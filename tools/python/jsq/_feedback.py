"""What a worker keeps from step to step."""
from __future__ import annotations

import ctypes
import os

import numpy as np

from . import _library
from ._arrays import Arrays, Tensors
from ._compress import Compressed, Options, compressed


class ErrorFeedback:
    """Error feedback of one worker: what was not sent is added to the next gradient.

        feedback = jsq.ErrorFeedback()
        for gradient in steps:
            send(feedback.compress(gradient, "topk", ratio=100))

    It takes over the method and the tensors (names and shapes) of its first step and wants the same ones from then on. Low-rank
    methods keep their factors here as well. Pickles, and saves as a frame that `jsq compress --state` reads.
    Not to be used by two threads at once.
    """

    def __init__(self, kind: str = "auto", *, worker: int = 0) -> None:
        """
        Args:
            kind: "auto" (what the method's paper prescribes), "none", "plain" (residual) or "momentum:M" (momentum
                correction and masking, as DGC has it).
            worker: number of the worker, which gives it random numbers of its own.
        """
        self.kind, self.worker = kind, worker
        self._state = ctypes.c_void_p()
        _library.check(_library.library.jsq_state_new(ctypes.byref(self._state)))

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            _library.library.jsq_state_free(self._state)

    def compress(self, tensors: Tensors, method: str = "jointsq", *, bfloat16: bool = False, **options) -> Compressed:
        """Codes a gradient with feedback and keeps what it left out; the state is unchanged where it raises.

        Args:
            tensors, method, options: as for `jsq.compress`. Reported errors are those of what was coded: gradient and
                feedback together.

        Raises:
            UsageError (another method, other names or shapes than before), and what `jsq.compress` raises.
        """
        chosen = Options(method, state=self._state, feedback=self.kind, worker=self.worker, **options)
        return compressed(Arrays(tensors, bfloat16), chosen)

    def _described(self) -> tuple[int, str]:
        steps, method = ctypes.c_uint64(), ctypes.c_char_p()
        _library.check(_library.library.jsq_state_describe(self._state, ctypes.byref(steps), ctypes.byref(method)))
        return steps.value, _library.text(method.value)

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return self._described()[0]

    @property
    def method(self) -> str:
        """The method that it belongs to, without options; "" before the first step."""
        return self._described()[1]

    def array(self, tensor: str = "", kind: str = "e") -> np.ndarray:
        """A copy of what is kept for a tensor: float32, flat, in storage order.

        Args:
            tensor: its name; "" for a plain array.
            kind: "e" the residual, "u" and "v" of momentum correction, "m" of Signum, "q" of low rank.

        Raises:
            UnknownNameError: nothing of that kind is kept for it.
        """
        values, count = ctypes.POINTER(ctypes.c_float)(), ctypes.c_uint64()
        _library.check(
            _library.library.jsq_state_array(
                self._state, _library.utf8(tensor), _library.utf8(kind), ctypes.byref(values), ctypes.byref(count)
            )
        )
        return np.array(values[: count.value], np.float32) if count.value == 0 else np.ctypeslib.as_array(
            values, (count.value,)
        ).copy()

    def to_bytes(self) -> bytes:
        """The state as a frame.  Raises LimitError."""
        return _library.take_bytes(_library.library.jsq_state_save_memory, self._state)

    @classmethod
    def from_bytes(cls, frame: bytes, kind: str = "auto", *, worker: int = 0) -> ErrorFeedback:
        """What `to_bytes` gave.  Raises UsageError, UnsupportedFormatError, DamagedError, NewerFormatError."""
        feedback, state = cls(kind, worker=worker), ctypes.c_void_p()
        memory = np.frombuffer(frame, np.uint8)
        _library.check(
            _library.library.jsq_state_open_memory(memory.ctypes.data, memory.size, ctypes.byref(state))
        )
        feedback._adopt(state)
        return feedback

    def save(self, path: str | os.PathLike) -> None:
        """Writes the state to a file, as `jsq compress --state-out` does.  Raises WriteFailedError."""
        _library.check(_library.library.jsq_state_save(self._state, _library.path_bytes(path)))

    @classmethod
    def load(cls, path: str | os.PathLike, kind: str = "auto", *, worker: int = 0) -> ErrorFeedback:
        """What `save` or `jsq compress --state-out` wrote.  Raises NotFoundError, and as `from_bytes`."""
        feedback, state = cls(kind, worker=worker), ctypes.c_void_p()
        _library.check(_library.library.jsq_state_open(_library.path_bytes(path), ctypes.byref(state)))
        feedback._adopt(state)
        return feedback

    def _adopt(self, state: ctypes.c_void_p) -> None:
        _library.library.jsq_state_free(self._state)
        self._state = state

    def __reduce__(self):
        return _restored, (self.to_bytes(), self.kind, self.worker)


def _restored(frame: bytes, kind: str, worker: int) -> ErrorFeedback:
    return ErrorFeedback.from_bytes(frame, kind, worker=worker)

"""What goes wrong in jsq, as exceptions: one class for each error code of `jsq/jsq.h`.

Each is an `Error` and the exception of Python that fits, so that `except FileNotFoundError` works as well.
"""
from __future__ import annotations


class Error(Exception):
    """Any error of jsq. Its text says what, where, what was expected and found, and what to do next.

    Attributes:
        code: number of the error, `enum jsq_error`; never reused.
        name: its name, such as "unreachable_target".
        exit_code: what the program `jsq` exits with for it (jsq(1), EXIT STATUS).
    """

    code = 120
    name = "internal"
    exit_code = 70

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class UsageError(Error, ValueError):
    """An argument, method or target is malformed or contradictory."""

    code, name, exit_code = 10, "usage", 2


class UnknownNameError(Error, KeyError):
    """There is no such method, method option, tensor or array."""

    code, name, exit_code = 11, "unknown_name", 2


class NotFoundError(Error, FileNotFoundError):
    """The file does not exist or cannot be opened."""

    code, name, exit_code = 20, "not_found", 3


class ReadFailedError(Error, OSError):
    """Reading the file failed."""

    code, name, exit_code = 21, "read_failed", 3


class UnsupportedFormatError(Error, ValueError):
    """The file or the bytes are not a frame."""

    code, name, exit_code = 30, "unsupported_format", 4


class UnsupportedDtypeError(Error, TypeError):
    """The elements are not float16, bfloat16, float32 or float64."""

    code, name, exit_code = 31, "unsupported_dtype", 4


class NonFiniteError(Error, ValueError):
    """NaN or infinity met, and `nonfinite` does not say what to do with it."""

    code, name, exit_code = 32, "non_finite", 4


class DamagedError(Error, ValueError):
    """The frame is truncated, inconsistent or fails a checksum."""

    code, name, exit_code = 40, "damaged", 5


class WriteFailedError(Error, OSError):
    """A file could not be written; what was there before is unchanged."""

    code, name, exit_code = 60, "write_failed", 7


class UnreachableTargetError(Error, ValueError):
    """The method cannot meet the target on these tensors.

    Attributes:
        nearest: the nearest target that it can meet ("bytes=1078"), or None where that is not known.
    """

    code, name, exit_code = 70, "unreachable_target", 8
    nearest: str | None = None


class LimitError(Error, MemoryError):
    """Out of memory, or a declared size is beyond what this machine can address."""

    code, name, exit_code = 80, "limit", 9


class BackendUnavailableError(Error, RuntimeError):
    """The backend cannot run here."""

    code, name, exit_code = 90, "backend_unavailable", 10


class NewerFormatError(Error, ValueError):
    """The frame needs a newer jsq."""

    code, name, exit_code = 110, "newer_format", 12


class InternalError(Error, RuntimeError):
    """A bug in jsq."""


BY_CODE = {
    kind.code: kind
    for kind in (
        UsageError,
        UnknownNameError,
        NotFoundError,
        ReadFailedError,
        UnsupportedFormatError,
        UnsupportedDtypeError,
        NonFiniteError,
        DamagedError,
        WriteFailedError,
        UnreachableTargetError,
        LimitError,
        BackendUnavailableError,
        NewerFormatError,
        InternalError,
    )
}

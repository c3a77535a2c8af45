"""libjsq through ctypes: where it is, its structures and functions, and its error codes as exceptions.

The library is the one that JSQ_LIBRARY names (a path), else the one that was installed with this module, else the
system's libjsq.so.0. ctypes releases the interpreter's lock during every call.
"""
from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p

from . import errors


class Array(ctypes.Structure):
    """struct jsq_array."""

    _fields_ = [
        ("data", c_void_p),
        ("dtype", c_int),
        ("rank", c_size_t),
        ("shape", POINTER(c_uint64)),
        ("name", c_char_p),
        ("fortran_order", c_int),
        ("big_endian", c_int),
    ]


class Options(ctypes.Structure):
    """struct jsq_options."""

    _fields_ = [
        ("size", c_size_t),
        ("method", c_char_p),
        ("target", c_char_p),
        ("nonfinite", c_char_p),
        ("seed", c_uint64),
        ("threads", c_uint),
        ("rounding", c_char_p),
        ("scope", c_char_p),
        ("ratio_kind", c_char_p),
        ("dump", c_char_p),
        ("metadata", POINTER(c_char_p)),
        ("metadata_count", c_size_t),
        ("state", c_void_p),
        ("feedback", c_char_p),
        ("worker", c_uint32),
    ]


class Report(ctypes.Structure):
    """struct jsq_report."""

    _fields_ = [
        ("size", c_size_t),
        ("elements", c_uint64),
        ("input_bytes", c_uint64),
        ("file_bytes", c_uint64),
        ("payload_bits", c_uint64),
        ("nmse", c_double),
        ("cosine", c_double),
        ("max_error", c_double),
        ("mean_error", c_double),
        ("expected_nmse", c_double),
        ("hprime", c_double),
        ("seconds", c_double),
    ]


class NoiseReport(ctypes.Structure):
    """struct jsq_noise_report."""

    _fields_ = [
        ("size", c_size_t),
        ("payload_bits", c_uint64),
        ("hprime", c_double),
        ("hprime_eq6", c_double),
        ("hprime_eq6_nonzero", c_double),
        ("h_uniform", c_double),
        ("uniform_bits", c_uint32),
        ("exchange_gain", c_double),
        ("exchange_loss", c_double),
        ("elements", c_uint64),
        ("input_bytes", c_uint64),
        ("file_bytes", c_uint64),
        ("coded_payload_bits", c_uint64),
        ("coded_hprime", c_double),
        ("expected_nmse", c_double),
        ("nmse", c_double),
        ("cosine", c_double),
        ("max_error", c_double),
        ("mean_error", c_double),
    ]


class Tensor(ctypes.Structure):
    """struct jsq_tensor."""

    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("dtype", c_int),
        ("fortran_order", c_int),
        ("rank", c_size_t),
        ("shape", POINTER(c_uint64)),
        ("elements", c_uint64),
        ("coded_bytes", c_uint64),
        ("method", c_char_p),
        ("dump", c_char_p),
    ]


def sized(structure):
    """A new structure of this class that says how large it is."""
    return structure(size=ctypes.sizeof(structure))


# Arguments of every function; those that are not listed in RESULTS return an error code.
ARGUMENTS = {
    "jsq_version": [],
    "jsq_error_name": [c_int],
    "jsq_exit_code": [c_int],
    "jsq_last_error": [],
    "jsq_last_nearest_target": [],
    "jsq_compress": [
        POINTER(Array),
        c_size_t,
        POINTER(Options),
        POINTER(c_void_p),
        POINTER(c_size_t),
        POINTER(Report),
    ],
    "jsq_compress_file": [POINTER(Array), c_size_t, POINTER(Options), c_char_p, POINTER(Report)],
    "jsq_free": [c_void_p],
    "jsq_noise": [POINTER(Array), c_size_t, POINTER(Options), c_char_p, POINTER(NoiseReport)],
    "jsq_bounds_new": [POINTER(Array), c_size_t, c_uint, POINTER(c_void_p)],
    "jsq_bounds_nmse": [c_void_p, c_char_p, c_double, POINTER(c_double)],
    "jsq_bounds_bits": [c_void_p, c_char_p, c_double, POINTER(c_double)],
    "jsq_bounds_free": [c_void_p],
    "jsq_state_new": [POINTER(c_void_p)],
    "jsq_state_open": [c_char_p, POINTER(c_void_p)],
    "jsq_state_open_memory": [c_void_p, c_size_t, POINTER(c_void_p)],
    "jsq_state_save": [c_void_p, c_char_p],
    "jsq_state_save_memory": [c_void_p, POINTER(c_void_p), POINTER(c_size_t)],
    "jsq_state_describe": [c_void_p, POINTER(c_uint64), POINTER(c_char_p)],
    "jsq_state_array": [c_void_p, c_char_p, c_char_p, POINTER(POINTER(c_float)), POINTER(c_uint64)],
    "jsq_state_free": [c_void_p],
    "jsq_open": [c_char_p, POINTER(c_void_p)],
    "jsq_open_memory": [c_void_p, c_size_t, POINTER(c_void_p)],
    "jsq_close": [c_void_p],
    "jsq_set_threads": [c_void_p, c_uint],
    "jsq_tensor_count": [c_void_p, POINTER(c_size_t)],
    "jsq_find_tensor": [c_void_p, c_char_p, POINTER(c_size_t)],
    "jsq_describe_tensor": [c_void_p, c_size_t, POINTER(Tensor)],
    "jsq_metadata_count": [c_void_p, POINTER(c_size_t)],
    "jsq_metadata": [c_void_p, c_size_t, POINTER(c_char_p), POINTER(c_char_p)],
    "jsq_read": [c_void_p, c_size_t, c_uint64, c_uint64, c_void_p],
    "jsq_read_stored": [c_void_p, c_size_t, c_uint64, c_uint64, c_void_p, c_size_t],
}
RESULTS = {
    "jsq_version": c_char_p,
    "jsq_error_name": c_char_p,
    "jsq_last_error": c_char_p,
    "jsq_last_nearest_target": c_char_p,
    "jsq_free": None,
    "jsq_bounds_free": None,
    "jsq_state_free": None,
    "jsq_close": None,
}


def library_path() -> str:
    """What is handed to the dynamic linker."""
    chosen = os.environ.get("JSQ_LIBRARY")
    if chosen:
        return chosen
    try:
        from ._location import LIBRARY  # written when the module is installed
    except ImportError:
        return "libjsq.so.0"
    beside = pathlib.Path(__file__).resolve().parent / LIBRARY
    return str(beside) if beside.exists() else "libjsq.so.0"


def _load() -> ctypes.CDLL:
    path = library_path()
    try:
        library = ctypes.CDLL(path)
        for name, arguments in ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = RESULTS.get(name, c_int)
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"cannot use libjsq at '{path}': {error}; install jsq of this version, or name its libjsq.so.0 in JSQ_LIBRARY"
        ) from error
    return library


library = _load()


def text(value: bytes | None) -> str:
    """A string of the library; names from files may hold anything."""
    return (value or b"").decode("utf-8", "surrogateescape")


def utf8(value: str) -> bytes:
    """A string for the library. Raises UsageError for one with a NUL, at which C would end it."""
    encoded = value.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise errors.UsageError(f"{value!r}: has a NUL character; give text without it")
    return encoded


def path_bytes(path: str | bytes | os.PathLike) -> bytes:
    """A path for the library."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise errors.UsageError(f"{path!r}: has a NUL character; give a path without it")
    return encoded


def check(code: int) -> None:
    """Raises the exception of an error code that a function returned on this thread."""
    if code == 0:
        return
    kind = errors.BY_CODE.get(code, errors.InternalError)
    error = kind(text(library.jsq_last_error()))
    if isinstance(error, errors.UnreachableTargetError):
        error.nearest = text(library.jsq_last_nearest_target()) or None
    raise error


def take_bytes(function, *arguments) -> bytes:
    """The bytes that `function(*arguments, &memory, &size)` gives out."""
    memory, size = c_void_p(), c_size_t()
    check(function(*arguments, ctypes.byref(memory), ctypes.byref(size)))
    try:
        return ctypes.string_at(memory, size.value)
    finally:
        library.jsq_free(memory)


def version() -> str:
    """Version of libjsq, "MAJOR.MINOR.PATCH"."""
    return text(library.jsq_version())

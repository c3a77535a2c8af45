#!/usr/bin/python3
"""Reads a frame into numpy arrays with the module jsq.

    read_with_python.py FRAME.jsq [TENSOR]

Prints a line for each tensor, or the values of one. From a build that is not installed:
PYTHONPATH=tools/python JSQ_LIBRARY=build/lib/libjsq.so.0.
"""
import sys

import numpy as np

import jsq


def main(arguments):
    if len(arguments) not in (1, 2):
        return __doc__
    try:
        with jsq.open(arguments[0]) as frame:
            if len(arguments) == 2:
                print(frame[arguments[1]])
                return None
            for name, entry in zip(frame, frame.entries()):
                norm = np.linalg.norm(entry.read().astype(np.float64))
                print(f"{name!r} {entry.stored_dtype} {list(entry.shape)} {entry.coded_bytes} bytes, norm {norm:.6g}")
    except jsq.Error as error:
        print(f"{error} ({error.name})", file=sys.stderr)
        return error.exit_code
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

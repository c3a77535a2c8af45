#!/usr/bin/python3
"""Writes expected.tsv: what samples/decode_frame.py makes of the golden frames. libjsq has no part in it.

    make_expected.py GOLDEN_FOLDER

A line for each tensor of frames/ and synthetic/: frame, tensor number, element type as numpy writes it, shape, storage
order, sha256 of the little-endian stored elements, and sha256 of the npy file that the tensor was or would be.
"""
import hashlib
import pathlib
import sys

from frame_writer import decode_frame


def expectations(folder):
    """The lines of expected.tsv, without newlines."""
    lines = []
    for path in sorted(folder.glob("frames/*.jsq")) + sorted(folder.glob("synthetic/*.jsq")):
        name = path.relative_to(folder).as_posix()
        tensors = decode_frame.decode(path.read_bytes())
        if not tensors:
            lines.append(f"{name}\tnone")
        for tensor in tensors:
            shape = ",".join(map(str, tensor.shape)) or "scalar"
            digests = [hashlib.sha256(data).hexdigest() for data in (tensor.stored, tensor.npy())]
            fields = [name, str(tensor.number), tensor.descr, shape, "F" if tensor.fortran else "C", *digests]
            lines.append("\t".join(fields))
    return lines


def main(arguments):
    if len(arguments) != 1:
        return __doc__
    folder = pathlib.Path(arguments[0])
    (folder / "expected.tsv").write_text("".join(line + "\n" for line in expectations(folder)))
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

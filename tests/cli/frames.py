"""Frames changed on purpose, with their checksums made right again, and JSON held against the shipped schemas."""

import json
import pathlib
import struct
import sys

import xxhash
import zstandard

HEADER, FOOTER = 8, 12


def read(path):
    return pathlib.Path(path).read_bytes()


def with_footer(header, blocks, directory):
    size = struct.pack("<I", len(directory))
    check = xxhash.xxh3_64_intdigest(header + directory + size)
    return header + blocks + directory + size + struct.pack("<Q", check)


def parts(frame):
    stored = struct.unpack_from("<I", frame, len(frame) - FOOTER)[0]
    at = len(frame) - FOOTER - stored
    return frame[:HEADER], frame[HEADER:at], frame[at : at + stored]


def unpacked(directory):
    if directory[0] == 0:
        return directory[1:]
    at = 1
    while directory[at] & 0x80:
        at += 1
    return zstandard.ZstdDecompressor().decompress(directory[at + 1 :])


def rename(source, target, old, new):
    """Exchanges a path or name in the directory for one of the same length."""
    old, new = old.encode(), new.encode().decode("unicode_escape").encode("latin-1")
    assert len(old) == len(new), "the lengths differ"
    header, blocks, directory = parts(read(source))
    raw = unpacked(directory)
    assert old in raw, "the name is not there"
    pathlib.Path(target).write_bytes(with_footer(header, blocks, b"\0" + raw.replace(old, new)))


def newer(source, target):
    """A frame of the next format version."""
    frame = bytearray(read(source))
    frame[4] += 1
    frame[6:8] = struct.pack("<H", xxhash.xxh3_64_intdigest(bytes(frame[:6])) & 0xFFFF)
    header, blocks, directory = parts(bytes(frame))
    pathlib.Path(target).write_bytes(with_footer(header, blocks, directory))


def flip(source, target, offset):
    """One bit of one byte, checksums left as they are."""
    frame = bytearray(read(source))
    frame[int(offset)] ^= 1
    pathlib.Path(target).write_bytes(frame)


def validate(schema, document):
    """Each line, or the whole, of a JSON text."""
    import jsonschema

    rules = json.loads(read(schema))
    jsonschema.Draft202012Validator.check_schema(rules)
    text = read(document).decode()
    try:
        documents = [json.loads(text)]
    except json.JSONDecodeError:
        documents = [json.loads(line) for line in text.splitlines()]
    assert documents, "no JSON was printed"
    for found in documents:
        jsonschema.validate(found, rules, cls=jsonschema.Draft202012Validator)


if __name__ == "__main__":
    {"rename": rename, "newer": newer, "flip": flip, "validate": validate}[sys.argv[1]](*sys.argv[2:])

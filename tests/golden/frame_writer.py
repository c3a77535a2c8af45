"""Writes frames field by field after formats/SPEC.md, checksums included, so that a test can put any value into any field.
Only the normalisation of tables is taken from samples/decode_frame.py; nothing from libjsq. Section numbers are SPEC.md's.
"""
import dataclasses
import pathlib
import struct
import sys

import xxhash
import zstandard

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "samples"))
import decode_frame  # noqa: E402

RUN = 32


def uvarint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def string(data):
    return uvarint(len(data)) + data


class Bits:
    """A bit stream (1)."""

    def __init__(self):
        self.fields = []

    def put(self, value, count):
        if count:
            self.fields.append(format(value, f"0{count}b"))
        return self

    def unary(self, ones):
        self.fields.append("1" * ones + "0")
        return self

    def align(self, padding="0"):
        text = "".join(self.fields)
        text += padding * (-len(text) % 8)
        return int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:]


@dataclasses.dataclass
class Tensor:
    """A tensor record (2.4) with the payloads of its blocks; a field that is set stands for what would follow from others."""

    shape: tuple = (12,)
    payloads: tuple = ()
    name: bytes = b""
    dtype: int = 3
    flags: int = 0
    rank: int = None
    attachment: bytes = None
    parameter_set: int = 0
    block_log2: int = 16
    sizes: tuple = None
    treatment: int = None
    nonfinite: int = 0
    exceptions: bytes = b""
    exception_size: int = None

    def record(self):
        flags = self.dtype | self.flags | (64 if self.attachment is not None else 0) | (128 if self.treatment else 0)
        out = string(self.name) + bytes([flags]) + uvarint(len(self.shape) if self.rank is None else self.rank)
        out += b"".join(map(uvarint, self.shape))
        if self.attachment is not None:
            out += string(self.attachment)
        out += uvarint(self.parameter_set)
        if 0 not in self.shape:
            sizes = [len(p) for p in self.payloads] if self.sizes is None else self.sizes
            out += bytes([self.block_log2]) + b"".join(map(uvarint, sizes))
        if self.treatment:
            out += bytes([self.treatment]) + uvarint(self.nonfinite)
            if self.treatment == 2:
                out += uvarint(len(self.exceptions) if self.exception_size is None else self.exception_size)
        return out

    def blocks(self, number):
        """Blocks and exception record (2.5)."""
        records = list(self.payloads) + ([self.exceptions] if self.treatment == 2 else [])
        return [
            struct.pack("<I", xxhash.xxh3_64_intdigest(payload, (number << 32) + b) & 0xFFFFFFFF) + payload
            for b, payload in enumerate(records)
            if payload
        ]


def header(version=1, features=0):
    """2.1"""
    start = b"JSQ\x1a" + bytes([version, features])
    return start + struct.pack("<H", xxhash.xxh3_64_intdigest(start) & 0xFFFF)


def footer(head, stored):
    """2.2"""
    size = struct.pack("<I", len(stored))
    return size + struct.pack("<Q", xxhash.xxh3_64_intdigest(head + stored + size))


def seal(head, blocks, stored):
    """A frame of parts, with the footer's checksum over what is there (2)."""
    return head + blocks + stored + footer(head, stored)


def packed(directory, size=None):
    """A stored directory of coding 1 (2.3)."""
    return b"\1" + uvarint(len(directory) if size is None else size) + zstandard.ZstdCompressor(level=19).compress(directory)


def dump(tensors, path=b"grad.npy", dump_format=1, attachment=b"", count=None):
    """A dump record (2.4)."""
    records = b"".join(t.record() for t in tensors)
    return string(path) + bytes([dump_format]) + string(attachment) + uvarint(len(tensors) if count is None else count) + records


def directory(dumps, sets, seed=b"\0", metadata=((b"k", b"v"),), entries=None):
    """2.4"""
    out = seed + uvarint(len(metadata) if entries is None else entries)
    out += b"".join(string(key) + string(value) for key, value in metadata)
    out += uvarint(len(sets)) + b"".join(uvarint(method) + string(parameters) for method, parameters in sets)
    return out + uvarint(len(dumps)) + b"".join(dumps)


def frame(tensors, sets, blocks=None, zstd=False, **fields):
    """A frame of one dump. `sets` are (method, parameters), or parameters of method 1."""
    sets = [s if isinstance(s, tuple) else (1, s) for s in sets]
    if blocks is None:
        blocks = [record for number, t in enumerate(tensors) for record in t.blocks(number)]
    content = directory([dump(tensors)], sets, **fields)
    return seal(header(), b"".join(blocks), packed(content) if zstd else b"\0" + content)


# --- 4. Class blocks ------------------------------------------------------------------------------------------------


def parameters(widths, quantizer=0, packer=0, lanes_log2=0, coded=0, by_activity=0, allocator=0, members=None, ranges=(), tables=b""):
    """Class parameters (4.1): `widths` a list or the bits of a set, `ranges` the f32 in order, `tables` aligned bytes."""
    bits = widths if isinstance(widths, int) else sum(1 << w for w in widths)
    members = (1 << len(widths)) - 1 if members is None else members
    fixed = struct.pack("<HBBBBBH", bits, quantizer, packer | lanes_log2 << 4, coded, by_activity, allocator, members)
    return fixed + b"".join(struct.pack("<f", r) for r in ranges) + tables


def put_table(bits, weights):
    """A table (4.4); None if absent. Weights are of four significant bits."""
    bits.put(weights is not None, 1)
    for weight in weights or ():
        length = weight.bit_length()
        bits.put(length, 4)
        mantissa = min(3, max(0, length - 1))
        bits.put(weight >> max(0, length - 1 - mantissa) & (1 << mantissa) - 1, mantissa)


def rans(sections, lanes, final=1 << 16):
    """The stream (4.6) of sections of (table, symbol): the steps of a decoder, undone from the last to the first."""
    states, words = [final] * lanes, []
    for section in reversed(sections):
        for i in reversed(range(len(section))):
            table, symbol = section[i]
            frequency, first = table.frequency[symbol], table.first[symbol]
            x = states[i % lanes]
            if x >= frequency << 20:
                words.append(x & 0xFFFF)
                x >>= 16
            states[i % lanes] = (x // frequency << 12) + x % frequency + first
    return struct.pack(f"<{lanes}I", *states) + struct.pack(f"<{len(words)}H", *reversed(words))


def plane(words, width):
    """A plane of code words, or a raw class map."""
    bits = Bits()
    for word in words:
        bits.put(word, width)
    return bits.align()


def block(parameter_bytes, classes, signs, magnitudes, activities=None):
    """The payload (4.3) of a block given each element's class, sign bit and magnitude index. `activities`: those to code,
    where they are not those of the classes."""
    p = decode_frame.ClassParameters(parameter_bytes)
    count, last = len(classes), len(p.widths) - 1
    out = b""
    if p.packer == decode_frame.RAW:
        out = plane(classes, last.bit_length())
    elif p.packer == decode_frame.BITMAP:
        kept = Bits()
        for c in filter(None, classes):
            kept.put((1 << c - 1) - 1, c - 1) if c == last else kept.unary(c - 1)
        out = plane([c > 0 for c in classes], 1) + kept.align()
    elif p.packer == decode_frame.RICE:
        bits = Bits().put(1, 8).put(sum(c > 0 for c in classes), 32)
        previous = -1
        for i, c in enumerate(classes):
            if c:
                gap, previous = i - previous - 1, i
                bits.unary(gap >> 1).put(gap & 1, 1)
                bits.put((1 << c - 1) - 1, c - 1) if c == last else bits.unary(c - 1)
        out = bits.align()
    if activities is None:
        activities = [sum(classes[first : first + RUN]).bit_length() for first in range(0, count, RUN)]
    raw_bits = [w - 1 - min(w - 1, 4) for w in p.widths]
    coded = [i for i in range(count) if p.coded[classes[i]]]
    if p.packer == decode_frame.ENTROPY or any(p.coded):
        sections = []
        if p.packer == decode_frame.ENTROPY:
            sections.append([(p.next_activity[a], b) for a, b in zip([0] + activities, activities)])
            sections.append(tokens(p, classes, activities))
        symbols = []
        for i in coded:
            tables, at = p.magnitudes[classes[i]], activities[i // RUN] - 1 if p.by_activity[classes[i]] else 0
            symbols.append((tables[at] if at < len(tables) else decode_frame.ABSENT, magnitudes[i] >> raw_bits[classes[i]]))
        out += string(rans(sections + [symbols], p.lanes))
    for j, width in enumerate(p.widths):
        members = [i for i in range(count) if classes[i] == j]
        if width and members and not p.coded[j]:
            out += plane([code_word(p.quantizer, width, signs[i], magnitudes[i]) for i in members], width)
    if any(p.coded):
        bits = Bits()
        for i in coded:
            r = raw_bits[classes[i]]
            bits.put(signs[i], 1).put(magnitudes[i] & (1 << r) - 1, r)
        out += bits.align()
    return out


def tokens(p, classes, activities):
    """Section 2 of 4.6."""
    section = []
    for run, activity in enumerate(activities):
        mine = classes[run * RUN : (run + 1) * RUN]
        mine = mine + [0] * (-len(mine) % p.group)
        if activity:
            for at in range(0, len(mine), p.group):
                symbol = sum(c * len(p.widths) ** k for k, c in enumerate(mine[at : at + p.group]))
                section.append((p.tokens[activity], symbol))
    return section


def code_word(quantizer, width, sign, magnitude):
    """4.2"""
    h = 1 << (width - 1)
    if quantizer == decode_frame.MID:
        return h - 1 - magnitude if sign else h + magnitude
    if quantizer == decode_frame.SYM:
        return 2 * h - magnitude if sign and magnitude else magnitude
    return sign * h + magnitude

#!/usr/bin/python3
"""Decodes a jsq frame with formats/SPEC.md alone: independent of libjsq, in the order of that page.

    decode_frame.py FRAME [--list] [--tensor NAME] [-o OUT.npy | --npz OUT.npz]

Without output options it prints a line for each tensor. Needs numpy, xxhash and zstandard (Debian: python3-numpy,
python3-xxhash, python3-zstandard). As a module: `decode(data)` is a list of Tensor. It restores tensors, not whole dump
files: attachments (sections 7 and 8) are skipped. Section numbers in the comments are those of SPEC.md.
"""
import argparse
import dataclasses
import hashlib
import math
import struct
import sys
import zipfile

import numpy as np
import xxhash
import zstandard


class FrameError(Exception):
    """Any refusal."""


class NotAFrame(FrameError):
    """The file does not start as a frame does."""


class DamagedFrame(FrameError):
    """The file is not what its writer wrote."""


class NewerFrame(FrameError):
    """The file needs a newer reader."""


class LimitExceeded(FrameError):
    """The file asks for more memory than a reader gives."""


# --- 1. Conventions -------------------------------------------------------------------------------------------------


class ByteReader:
    """Takes integers, strings and bit fields off the front of `data`, and refuses to go beyond its end."""

    def __init__(self, data, what):
        self.data, self.what, self.at = data, what, 0

    def damaged(self, found):
        raise DamagedFrame(f"{self.what} is damaged at offset {self.at}: {found}")

    def raw(self, count):
        if count > len(self.data) - self.at:
            self.damaged(f"expected {count} more bytes, found {len(self.data) - self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self, size):
        return int.from_bytes(self.raw(size), "little")

    def f32(self):
        return np.frombuffer(self.raw(4), "<f4")[0]

    def uvarint(self, least=0, most=2**64 - 1):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.integer(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        if byte >= 0x80 or value >= 2**64:
            self.damaged("integer of more than 64 bits")
        if byte == 0 and shift > 0:
            self.damaged("integer not in its shortest form")
        if not least <= value <= most:
            self.damaged(f"{value} is outside {least}..{most}")
        return value

    def string(self, most=2**64 - 1):
        return self.raw(self.uvarint(0, most))

    def bits(self, count):
        """`count` bits, aligned, as an array of 0 and 1."""
        bits = np.unpackbits(np.frombuffer(self.raw((count + 7) // 8), np.uint8))
        if bits[count:].any():
            self.damaged("padding is not zero")
        return bits[:count]

    def expect_end(self):
        if self.at != len(self.data):
            self.damaged(f"{len(self.data) - self.at} bytes follow the end")


class BitReader:
    """Bit fields of varying size from where `reader` stands; align() moves `reader` behind them."""

    def __init__(self, reader):
        self.reader, self.at = reader, 0
        self.bits = np.unpackbits(np.frombuffer(reader.data[reader.at :], np.uint8)).tobytes()

    def take(self, count):
        field = self.bits[self.at : self.at + count]
        if len(field) < count:
            self.reader.damaged("bits end early")
        self.at += count
        return int("0" + "".join(map(str, field)), 2)

    def ones(self, most):
        """How many one bits stand here, up to `most`; the zero bit after fewer than `most` is taken too."""
        count = 0
        while count < most and self.take(1):
            count += 1
        return count

    def align(self):
        self.reader.bits(self.at)


def xxh3(data, seed=0):
    return xxhash.xxh3_64_intdigest(data, seed)


# --- 2. Frame -------------------------------------------------------------------------------------------------------

DTYPES = {1: "f16", 2: "bf16", 3: "f32", 4: "f64"}
DTYPE_BYTES = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}
HEADER_BYTES, FOOTER_BYTES = 8, 12


@dataclasses.dataclass
class Tensor:
    """A tensor record of section 2.4; decode() fills in `stored`."""

    dump: str
    name: str
    dtype: str
    big_endian: bool
    fortran: bool
    shape: tuple
    number: int  # through the whole directory
    parameters: "ParameterSet" = None
    block_log2: int = 0
    block_bytes: list = dataclasses.field(default_factory=list)
    treatment: int = 0  # of non-finite elements
    nonfinite: int = 0
    exception_bytes: int = 0
    first_byte: int = 0  # of its first block in the file
    stored: bytes = b""  # elements in storage order, element type `dtype`, little-endian

    @property
    def elements(self):
        return math.prod(self.shape)

    @property
    def size(self):
        """Bytes in the file: its blocks and its exception record with their checksums."""
        return sum(size + 4 for size in [*self.block_bytes, self.exception_bytes] if size)

    @property
    def descr(self):
        """The element type as numpy writes it; bf16 is V2, as ml_dtypes writes it."""
        return (">" if self.big_endian else "<") + {"f16": "f2", "bf16": "V2", "f32": "f4", "f64": "f8"}[self.dtype]

    def dump_bytes(self):
        """The elements as the dump held them, in its byte order (2.7)."""
        if not self.big_endian:
            return self.stored
        return np.frombuffer(self.stored, f"u{DTYPE_BYTES[self.dtype]}").byteswap().tobytes()

    def npy(self):
        """The tensor as an npy file."""
        text = f"{{'descr': '{self.descr}', 'fortran_order': {self.fortran}, 'shape': {self.shape}, }}"
        if self.shape:
            text += " " * max(0, 21 - len(str(self.shape[-1 if self.fortran else 0])))
        text += " " * (64 - (10 + len(text) + 1) % 64) + "\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + self.dump_bytes()


@dataclasses.dataclass
class Directory:
    seed: int
    metadata: list
    dumps: list  # (path, format, number of tensors)
    tensors: list


def text(data):
    return data.decode("utf-8", "surrogateescape")


def read_header(data):
    """2.1"""
    magic = b"JSQ\x1a"
    if data[:4] != magic[: len(data)]:
        raise NotAFrame("not a jsq frame")
    if len(data) < HEADER_BYTES + FOOTER_BYTES:
        raise DamagedFrame("file is too short")
    version, features, checksum = struct.unpack("<BBH", data[4:8])
    if checksum != xxh3(data[:6]) & 0xFFFF:
        raise DamagedFrame("header: wrong checksum")
    if version != 1 or features != 0:
        raise NewerFrame(f"frame version {version}, features {features:#x}: needs a newer jsq")


def read_footer(data):
    """2.2; returns where the stored directory begins."""
    size, checksum = struct.unpack("<IQ", data[-FOOTER_BYTES:])
    begin = len(data) - FOOTER_BYTES - size
    if begin < HEADER_BYTES:
        raise DamagedFrame("footer: the directory is larger than the file")
    if checksum != xxh3(data[:HEADER_BYTES] + data[begin : -FOOTER_BYTES + 4]):
        raise DamagedFrame("directory: wrong checksum")
    return begin


def unpack_directory(stored):
    """2.3"""
    reader = ByteReader(stored, "stored directory")
    coding = reader.integer(1)
    if coding == 0:
        return stored[1:]
    if coding != 1:
        reader.damaged(f"coding {coding}")
    size = reader.uvarint()
    packed = stored[reader.at :]
    if size > max(32 << 20, 64 * len(packed)):
        raise LimitExceeded(f"directory of {size} bytes in a zstd frame of {len(packed)}")
    try:
        if packed[:4] != b"\x28\xb5\x2f\xfd" or zstandard.get_frame_parameters(packed).content_size != size:
            reader.damaged("not a zstd frame of the stated size")
        unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        return unpacker.decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        reader.damaged(str(error))


def read_directory(data):
    """2.4, and where the blocks of 2.5 stand."""
    read_header(data)
    begin = read_footer(data)
    reader = ByteReader(unpack_directory(data[begin:-FOOTER_BYTES]), "directory")
    directory = Directory(reader.uvarint(), [], [], [])
    for _ in range(reader.uvarint(0, 4096)):
        directory.metadata.append((text(reader.string()), text(reader.string())))
    parameter_sets = [ParameterSet(reader) for _ in range(reader.uvarint())]
    for _ in range(reader.uvarint()):
        path, dump_format = text(reader.string(65535)), reader.integer(1)
        if not 1 <= dump_format <= 3:
            reader.damaged(f"dump format {dump_format}")
        reader.string()  # attachment
        tensors = reader.uvarint()
        directory.dumps.append((path, dump_format, tensors))
        for _ in range(tensors):
            directory.tensors.append(read_tensor_record(reader, path, len(directory.tensors), parameter_sets))
    reader.expect_end()
    at = HEADER_BYTES
    for tensor in directory.tensors:
        tensor.first_byte = at
        at += tensor.size
    if at != begin:
        raise DamagedFrame(f"the blocks end at byte {at}, the directory begins at {begin}")
    return directory


class ParameterSet:
    """A parameter set of 2.4. Its method (3) and its parameters (4.1) matter only where a block uses them."""

    def __init__(self, reader):
        self.method, self.data, self.parsed = reader.uvarint(0, 2**32 - 1), reader.string(), None

    def decode_block(self, reader, count):
        if self.method != 1:
            raise NewerFrame(f"method {self.method}: needs a newer jsq")
        if self.parsed is None:
            self.parsed = ClassParameters(self.data)
        return decode_block(self.parsed, reader, count)


def read_tensor_record(reader, path, number, parameter_sets):
    """A tensor record of 2.4."""
    name, flags = text(reader.string(65535)), reader.integer(1)
    dtype = DTYPES.get(flags & 15)
    if dtype is None:
        reader.damaged(f"element type {flags & 15}")
    shape = tuple(reader.uvarint() for _ in range(reader.uvarint(0, 32)))
    if math.prod(extent for extent in shape if extent) > 2**62:
        reader.damaged("shape of more than 2^62 elements")
    tensor = Tensor(path, name, dtype, bool(flags & 16), bool(flags & 32), shape, number)
    if flags & 64 and not reader.string():
        reader.damaged("empty attachment")
    index = reader.uvarint()
    if index >= len(parameter_sets):
        reader.damaged(f"parameter set {index} of {len(parameter_sets)}")
    tensor.parameters = parameter_sets[index]
    if tensor.elements:
        tensor.block_log2 = reader.integer(1)
        if not 16 <= tensor.block_log2 <= 20:
            reader.damaged(f"blocks of 2^{tensor.block_log2} elements")
        for _ in range(-(-tensor.elements >> tensor.block_log2)):
            tensor.block_bytes.append(reader.uvarint(0, 2**32))
    if flags & 128:
        tensor.treatment = reader.integer(1)
        if tensor.treatment not in (1, 2):
            reader.damaged(f"non-finite treatment {tensor.treatment}")
        tensor.nonfinite = reader.uvarint(1, tensor.elements)
        tensor.exception_bytes = reader.uvarint(1) if tensor.treatment == 2 else 0
    return tensor


def decode(data, name=None, max_bytes=1 << 30):
    """Every tensor of a frame, or those named `name`, with its stored bytes. Refusals are FrameError."""
    tensors = [tensor for tensor in read_directory(data).tensors if name in (None, tensor.name)]
    if sum(tensor.elements * DTYPE_BYTES[tensor.dtype] for tensor in tensors) > max_bytes:
        raise LimitExceeded(f"tensors of more than {max_bytes} bytes")
    for tensor in tensors:
        decode_tensor(data, tensor)
    return tensors


def decode_tensor(data, tensor):
    """2.5"""
    reader = ByteReader(data, f"tensor {tensor.number}")
    reader.at = tensor.first_byte
    parts = []
    for block, size in enumerate(tensor.block_bytes):
        first = block << tensor.block_log2
        count = min(tensor.elements, first + (1 << tensor.block_log2)) - first
        if size == 0:
            parts.append(np.zeros(count, np.float32))
        else:
            payload = read_record(reader, tensor, block, size)
            parts.append(tensor.parameters.decode_block(ByteReader(payload, f"{reader.what}, block {block}"), count))
    bits = to_stored(np.concatenate(parts), tensor.dtype) if parts else np.zeros(0, f"<u{DTYPE_BYTES[tensor.dtype]}")
    if tensor.treatment == 2:
        restore_exceptions(read_record(reader, tensor, len(tensor.block_bytes), tensor.exception_bytes), tensor, bits)
    tensor.stored = bits.tobytes()


def read_record(reader, tensor, block, size):
    """A payload of 2.5 that has the right checksum."""
    checksum, payload = reader.integer(4), reader.raw(size)
    if checksum != xxh3(payload, (tensor.number << 32) + block) & 0xFFFFFFFF:
        reader.damaged(f"block {block}: wrong checksum")
    return payload


def restore_exceptions(payload, tensor, bits):
    """2.6"""
    reader = ByteReader(payload, f"exceptions of tensor {tensor.number}")
    index = -1
    for _ in range(tensor.nonfinite):
        index += 1 + reader.uvarint()
        if index >= tensor.elements:
            reader.damaged(f"element {index} of {tensor.elements}")
        bits[index] = reader.integer(DTYPE_BYTES[tensor.dtype])
    reader.expect_end()


def to_stored(values, dtype):
    """2.7: f32 values as the bits of `dtype`, little-endian unsigned integers."""
    finite = np.isfinite(values)
    if dtype == "f16":
        with np.errstate(over="ignore"):
            bits = values.astype(np.float16).view(np.uint16)
        largest = 0x7BFF
    elif dtype == "bf16":
        wide = values.view(np.uint32).astype(np.uint64)
        bits = ((wide + 0x7FFF + (wide >> 16 & 1)) >> 16).astype(np.uint16)
        largest = 0x7F7F
    else:
        return values.view("<u4").copy() if dtype == "f32" else values.astype("<f8").view("<u8")
    beyond = finite & ((bits & 0x7FFF) > largest)
    return np.where(beyond, bits & 0x8000 | largest, bits).astype("<u2")


# --- 4. Class blocks ------------------------------------------------------------------------------------------------

CELL, MID, OFFMAG, SYM = range(4)
RAW, BITMAP, RICE, ENTROPY = range(4)
RUN = 32  # elements


class ClassParameters:
    """4.1"""

    def __init__(self, data):
        reader = ByteReader(data, "class parameters")
        widths = reader.integer(2)
        if widths == 0 or widths >> 9:
            reader.damaged(f"width set {widths:#x}")
        self.widths = [w for w in range(9) if widths >> w & 1]
        quantizer, packer, coded, by_activity, allocator, members = *reader.raw(5), reader.integer(2)
        self.quantizer, self.packer, self.lanes = quantizer & 15, packer & 15, 1 << (packer >> 4)
        if quantizer >> 5 or self.quantizer > SYM or self.quantizer == SYM and 1 in self.widths:
            reader.damaged(f"quantizer {quantizer:#x}")
        if self.packer > ENTROPY or self.lanes > 16:
            reader.damaged(f"map packer {packer:#x}")
        if self.packer in (BITMAP, RICE) and (self.widths[0] != 0 or len(self.widths) == 1):
            reader.damaged("a map of kept elements without classes 0 and 1")
        if allocator & 15 > 2 or allocator >> 4 > 2:
            reader.damaged(f"allocator {allocator:#x}")
        classes = len(self.widths)
        self.coded = [j > 0 and bool(coded >> (j - 1) & 1) for j in range(classes)]
        self.by_activity = [j > 0 and bool(by_activity >> (j - 1) & 1) for j in range(classes)]
        if coded >> (classes - 1) or by_activity & ~coded:
            reader.damaged("entropy-coded magnitudes of a class that does not exist")
        if any(c and w < 2 for c, w in zip(self.coded, self.widths)):
            reader.damaged("entropy-coded magnitudes of a width below 2")
        if members >> classes:
            reader.damaged("members of a class that does not exist")
        self.values = []  # of each class, by sign bit and magnitude index
        for j, width in enumerate(self.widths):
            low = high = np.float32(0)
            if width and members >> j & 1:
                low = reader.f32() if self.quantizer in (CELL, OFFMAG) else low
                high = reader.f32()
                if not (np.isfinite(low) and np.isfinite(high) and 0 <= low <= high):
                    reader.damaged(f"range {low}..{high}")
            self.values.append(class_values(self.quantizer, width, low, high))
        self.read_tables(BitReader(reader))
        reader.expect_end()

    def read_tables(self, bits):
        """The order of the tables in 4.4."""
        classes = len(self.widths)
        self.activities = 0
        if self.packer == ENTROPY or any(self.by_activity):
            self.activities = bits.take(4)
            if self.activities > 10 or any(self.by_activity) and self.activities < 2:
                bits.reader.damaged(f"{self.activities} activities")
        if self.packer == ENTROPY:
            self.next_activity = [Table(read_weights(bits, self.activities)) for _ in range(self.activities)]
            self.group = 4 if classes <= 2 else 2 if classes <= 4 else 1
            self.tokens = [None] + [
                Table(token_weights(read_weights(bits, classes), self.group)) for _ in range(1, self.activities)
            ]
        self.magnitudes = {}  # by class: one table, or one for each activity from 1
        for j, width in enumerate(self.widths):
            if self.coded[j]:
                count = max(0, self.activities - 1) if self.by_activity[j] else 1
                self.magnitudes[j] = [Table(read_weights(bits, 1 << min(width - 1, 4))) for _ in range(count)]
        bits.align()


def class_values(quantizer, width, low, high):
    """4.2: the values of a class by sign bit and magnitude index. Every operation is rounded to binary32."""
    f32 = np.float32
    if width == 0:
        return None
    h = 1 << (width - 1)
    m = np.arange(h).astype(f32)
    with np.errstate(over="ignore"):
        if quantizer == CELL:
            step = (high - low) / f32(h)
            magnitude = low + (m + f32(0.5)) * step
        elif quantizer == OFFMAG:
            step = (high - low) / f32(h - 1) if h > 1 else f32(0)
            magnitude = low + m * step
        elif quantizer == MID:
            step = high / f32(2 * h - 1)
            magnitude = (f32(2) * m + f32(1)) * step
        else:
            step = high / f32(h - 1)
            magnitude = m * step
    magnitude = np.minimum(magnitude, high)
    negative = -magnitude
    if quantizer == SYM:
        negative[0] = 0
    return np.stack([magnitude, negative])


def split_code_words(quantizer, width, c):
    """4.2: the sign bits and magnitude indices of code words."""
    h = 1 << (width - 1)
    if quantizer == MID:
        return (c < h).astype(np.int64), np.where(c >= h, c - h, h - 1 - c)
    if quantizer == SYM:
        return c // h, np.where(c < h, c, (2 * h - c) % h)
    return c // h, c % h


def decode_block(parameters, reader, count):
    """4.3: the values of a block of `count` elements."""
    classes = read_class_map(parameters, reader, count) if parameters.packer != ENTROPY else None
    high_bits = np.zeros(0, np.int64)
    if parameters.packer == ENTROPY or any(parameters.coded):
        classes, high_bits = decode_stream(parameters, reader.string(), classes, count)
    values = np.zeros(count, np.float32)
    for j, width in enumerate(parameters.widths):
        if width > 0 and not parameters.coded[j]:
            members = np.flatnonzero(classes == j)
            plane = reader.bits(members.size * width).reshape(members.size, width)
            words = plane @ (1 << np.arange(width)[::-1])
            values[members] = parameters.values[j][split_code_words(parameters.quantizer, width, words)]
    if any(parameters.coded):
        read_signs_and_low_bits(parameters, reader, classes, high_bits, values)
    reader.expect_end()
    return values


def read_signs_and_low_bits(parameters, reader, classes, high_bits, values):
    """Part 4 of 4.3: fills in the values of the classes with entropy-coded magnitudes."""
    raw_bits = np.array([w - 1 - min(w - 1, 4) for w in parameters.widths])
    coded = np.flatnonzero(np.array(parameters.coded)[classes])
    sizes = 1 + raw_bits[classes[coded]]
    bits = np.append(reader.bits(int(sizes.sum())), np.zeros(8, np.uint8))
    at = np.cumsum(sizes) - sizes
    for j in parameters.magnitudes:
        mine = classes[coded] == j
        sign, magnitude = bits[at[mine]].astype(np.int64), high_bits[mine]
        for k in range(raw_bits[j]):
            magnitude = 2 * magnitude + bits[at[mine] + 1 + k]
        values[coded[mine]] = parameters.values[j][sign, magnitude]


class Table:
    """A table of 4.4, normalised: frequency and first slot of each symbol, and the symbol of each slot."""

    def __init__(self, weights):
        if weights is None:
            self.frequency, self.first, self.symbol = [4096], [0], bytes(4096)
            return
        total = sum(weights)
        f = [max(1, 4096 * w // total) if w else 0 for w in weights]
        while sum(f) != 4096:
            missing = 4096 - sum(f)
            f[f.index(max(f))] += missing if missing > 0 else -1
        self.frequency = f
        self.first = [sum(f[:s]) for s in range(len(f))]
        self.symbol = b"".join(bytes([s]) * n for s, n in enumerate(f))


ABSENT = Table(None)


def read_weights(bits, symbols):
    """A table of 4.4 as it stands in the parameters; None if absent."""
    if not bits.take(1):
        return None
    weights = []
    for _ in range(symbols):
        length = bits.take(4)
        if length > 13:
            bits.reader.damaged(f"table: L = {length}")
        mantissa = min(3, length - 1)
        weights.append(((1 << mantissa) + bits.take(mantissa)) << (length - 1 - mantissa) if length else 0)
    if not any(weights):
        bits.reader.damaged("a present table without weights")
    return weights


def token_weights(weights, group):
    """Tokens of 4.4: the weight of every `group` consecutive classes, the first class varying fastest."""
    if weights is None:
        return None
    products = [1]
    for _ in range(group):
        products = [product * weight for weight in weights for product in products]
    return products


def read_class_map(parameters, reader, count):
    """4.5"""
    last = len(parameters.widths) - 1
    if parameters.packer == RAW:
        width = last.bit_length()
        classes = reader.bits(count * width).reshape(count, width) @ (1 << np.arange(width)[::-1])
        if (classes > last).any():
            reader.damaged("class beyond the last")
        return classes.astype(np.int64)
    classes = np.zeros(count, np.int64)
    if parameters.packer == BITMAP:
        kept = np.flatnonzero(reader.bits(count))
        bits = BitReader(reader)
        p = None
    else:
        bits = BitReader(reader)
        p, number = bits.take(8), bits.take(32)
        if p > 31 or number > count:
            reader.damaged(f"parameter {p}, {number} kept elements of {count}")
        kept = range(number)
    index = -1
    for element in kept:
        if p is not None:
            index += 1 + (bits.ones(count + 1) << p) + bits.take(p)
            if index >= count:
                reader.damaged(f"element {index} of {count}")
            element = index
        classes[element] = 1 + bits.ones(last - 1)
    bits.align()
    return classes


class Stream:
    """4.6: interleaved rANS."""

    def __init__(self, data, lanes):
        self.reader = ByteReader(data, "entropy-coded stream")
        self.states = [self.reader.integer(4) for _ in range(lanes)]
        self.mask, self.lane = lanes - 1, 0

    def begin_section(self):
        self.lane = 0

    def take(self, table):
        x = self.states[self.lane]
        slot = x & 4095
        symbol = table.symbol[slot]
        x = table.frequency[symbol] * (x >> 12) + slot - table.first[symbol]
        if x < 1 << 16:
            x = x << 16 | self.reader.integer(2)
        self.states[self.lane] = x
        self.lane = self.lane + 1 & self.mask
        return symbol

    def finish(self):
        if any(x != 1 << 16 for x in self.states):
            self.reader.damaged("a state is wrong at the end")
        self.reader.expect_end()


def decode_stream(parameters, data, classes, count):
    """The sections of 4.6: the classes of all elements, and the coded part of the magnitude indices in index order."""
    stream = Stream(data, parameters.lanes)
    runs = range(0, count, RUN)
    if parameters.packer == ENTROPY:
        activities = decode_activities(parameters, stream, len(runs))
        classes = decode_classes(parameters, stream, activities, count)
    else:
        activities = [int(classes[first : first + RUN].sum()).bit_length() for first in runs]
    stream.begin_section()
    coded = np.flatnonzero(np.array(parameters.coded)[classes])
    high_bits = np.zeros(coded.size, np.int64)
    for i, element in enumerate(coded.tolist()):
        tables = parameters.magnitudes[int(classes[element])]
        at = activities[element // RUN] - 1 if parameters.by_activity[classes[element]] else 0
        high_bits[i] = stream.take(tables[at] if at < len(tables) else ABSENT)
    stream.finish()
    return classes, high_bits


def decode_activities(parameters, stream, runs):
    """Section 1 of 4.6."""
    if parameters.activities == 0:
        stream.reader.damaged("no activities")
    activities, activity = [], 0
    for _ in range(runs):
        activity = stream.take(parameters.next_activity[activity])
        activities.append(activity)
    return activities


def decode_classes(parameters, stream, activities, count):
    """Section 2 of 4.6."""
    stream.begin_section()
    base = len(parameters.widths)
    classes = np.zeros(len(activities) * RUN, np.int64)
    for run, activity in enumerate(activities):
        if activity == 0:
            continue
        for at in range(run * RUN, min(count, (run + 1) * RUN), parameters.group):
            token = stream.take(parameters.tokens[activity])
            for k in range(parameters.group):
                classes[at + k] = token % base
                token //= base
    if classes[count:].any():
        stream.reader.damaged("classes beyond the end of the block")
    return classes[:count]


# --- Command line ---------------------------------------------------------------------------------------------------


def write(arguments, tensors):
    if arguments.output:
        if len(tensors) != 1:
            raise FrameError(f"{len(tensors)} tensors: name one with --tensor, or use --npz")
        with open(arguments.output, "wb") as file:
            file.write(tensors[0].npy())
    else:
        with zipfile.ZipFile(arguments.npz, "w") as archive:
            for tensor in tensors:
                archive.writestr(f"{tensor.name or 'arr_0'}.npy", tensor.npy())


def main():
    parser = argparse.ArgumentParser(description="Decodes a jsq frame, independently of libjsq.")
    parser.add_argument("frame")
    parser.add_argument("--tensor", help="only tensors of this name")
    parser.add_argument("--list", action="store_true", help="read the directory only")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-o", dest="output", metavar="OUT.npy", help="write the only tensor")
    output.add_argument("--npz", metavar="OUT.npz", help="write all tensors")
    arguments = parser.parse_args()
    if arguments.list and (arguments.output or arguments.npz):
        parser.error("--list decodes nothing that could be written")
    try:
        with open(arguments.frame, "rb") as file:
            data = file.read()
        if arguments.list:
            tensors = [t for t in read_directory(data).tensors if arguments.tensor in (None, t.name)]
        else:
            tensors = decode(data, arguments.tensor)
        if arguments.tensor is not None and not tensors:
            raise FrameError(f"no tensor {arguments.tensor!r}")
        if arguments.output or arguments.npz:
            write(arguments, tensors)
            return 0
        for tensor in tensors:
            digest = "" if arguments.list else " sha256 " + hashlib.sha256(tensor.stored).hexdigest()
            order = " Fortran order" if tensor.fortran else ""
            print(f"{tensor.dump!r} {tensor.name!r} {tensor.descr} {tensor.shape}{order} {tensor.size} bytes{digest}")
    except (FrameError, OSError) as error:
        print(f"{arguments.frame}: {type(error).__name__}: {error}", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())

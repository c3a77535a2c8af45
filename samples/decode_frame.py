#!/usr/bin/python3
"""Decodes a jsq frame with formats/SPEC.md alone: independent of libjsq, in the order of that page.

    decode_frame.py FRAME [--list] [--tensor NAME] [-o OUT.npy | --npz OUT.npz]

Without output options it prints a line for each tensor. Needs numpy, xxhash and zstandard (Debian: python3-numpy,
python3-xxhash, python3-zstandard). As a module: `decode(data)` is a list of Tensor. It restores tensors, not whole dump
files: attachments (sections 7 and 8) are skipped. Section numbers in the comments are those of SPEC.md.
"""
import argparse
import copy
import dataclasses
import functools
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

    def scales(self, count):
        """f32 values that are all 0 or more and finite, without -0."""
        values = np.frombuffer(self.raw(4 * count), "<f4")
        if not (values.view("<u4") < 0x7F800000).all():
            self.damaged("a scale is negative or not finite")
        return values

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

    def numbers(self, count, width):
        """`count` numbers of `width` bits each, aligned."""
        return self.bits(count * width).reshape(count, width) @ (1 << np.arange(width, dtype=np.int64)[::-1])

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
    """2.3: the directory, and the parameters of all sets where they stand apart from it."""
    reader = ByteReader(stored, "stored directory")
    coding = reader.integer(1)
    if coding == 0:
        return stored[1:], None
    if coding not in (1, 2, 3):
        reader.damaged(f"coding {coding}")
    size = reader.uvarint(0, 65536 if coding == 3 else 2**64 - 1)
    if coding == 3:
        content = decode_mixed(reader.string(), size)
        if content is None:
            reader.damaged("not a code of mixed bytes")
        return content, stored[reader.at :]
    packed = reader.string() if coding == 2 else stored[reader.at :]
    apart = stored[reader.at :] if coding == 2 else None
    if size > max(32 << 20, 64 * len(packed)):
        raise LimitExceeded(f"directory of {size} bytes in a zstd frame of {len(packed)}")
    try:
        if packed[:4] != b"\x28\xb5\x2f\xfd" or zstandard.get_frame_parameters(packed).content_size != size:
            reader.damaged("not a zstd frame of the stated size")
        unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        return unpacker.decompress(packed, max_output_size=size, allow_extra_data=False), apart
    except zstandard.ZstdError as error:
        reader.damaged(str(error))


PRIMER = (
    b"Trained on 50,000 images of 10 classes (photographs and digits, 32x32x3) with random crops. Gradients of the l"
    b"oss by layer and step, learning rate 0.1, batch size 128, float32.\x00\x00\x01\x18x\x01\x0bweights.npz\x03\x80"
    b"transformer.h.0.attn.c_attn.bias transformer.h.0.attn.c_attn.weight transformer.h.0.attn.c_proj.bias transform"
    b"er.h.0.ln_1.bias transformer.h.0.ln_1.weight transformer.h.0.mlp.c_fc.bias transformer.h.0.mlp.c_proj.weight t"
    b"ransformer.ln_f.weight transformer.wpe.weight transformer.wte.weight model.layers.0.self_attn.q_proj.weight mo"
    b"del.layers.0.self_attn.k_proj.weight model.layers.0.self_attn.v_proj.weight model.layers.0.self_attn.o_proj.we"
    b"ight model.layers.0.mlp.gate_proj.weight model.layers.0.mlp.up_proj.weight model.layers.0.mlp.down_proj.weight"
    b" model.layers.0.input_layernorm.weight model.layers.0.post_attention_layernorm.weight model.norm.weight model."
    b"embed_tokens.weight lm_head.weight encoder.layer.0.attention.self.query.weight encoder.layer.0.attention.outpu"
    b"t.dense.bias encoder.layer.0.attention.output.LayerNorm.weight encoder.layer.0.intermediate.dense.bias embeddi"
    b"ngs.word_embeddings.weight classifier.weight rnn.weight_hh_l0 rnn.weight_ih_l0 rnn.bias_hh_l0 decoder.weight f"
    b"eatures.0.weight features.0.bias\x00\x00\x01\x18x\x01\x0cgradients.h5\x03\xf9\x01\x00\x01\x00\x00x\x10\x05\x0a"
    b"batch_size\x17\x00\x80\x00\x00\x00\x00\x00\x00\x00\x07dataset<\x00\x09CIFAR-10\x05dtype<\x00\x08float32\x05epo"
    b"ch\x17\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x09framework<\x00\x08pytorch\x0bglobal_step\x17\x00\xe8\x03\x00\x00"
    b"\x00\x00\x00\x00\x04loss$\x00\x00\x00\x00\x00\x00\x00\xe0?\x02lr$\x00\x9a\x99\x99\x99\x99\x99\xb9?\x05model<"
    b"\x00\x0aResNet-18\x09optimizer<\x00\x04SGD\x04rank\x17\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04seed\x17\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x04step\x17\x00d\x00\x00\x00\x00\x00\x00\x00\x0aworld_size\x17\x00\x08\x00\x00"
    b"\x00\x00\x00\x00\x00\x1e\x13blocks/0/norm1/bias\x03\x01\x80\x01\x00\x14\x00\x15blocks/0/norm1/weight\x03\x01"
    b"\x80\x01\x00\x14\x00\x16blocks/0/attn/qkv/bias\x03\x01\x80\x03\x00\x14\x00\x18blocks/0/attn/qkv/weightC\x02"
    b"\x80\x03\x80\x01\x04\x8d\x06\x00\x00\x00\x14\x00\x17blocks/0/attn/proj/bias\x03\x01\x80\x01\x00\x14\x00\x19blo"
    b"cks/0/attn/proj/weightC\x02\x80\x01\x80\x01\x04\x8d\x06\x00\x00\x00\x14\x00\x15blocks/0/mlp/fc1/bias\x03\x01"
    b"\x80\x04\x00\x14\x00\x17blocks/0/mlp/fc1/weightC\x02\x80\x04\x80\x01\x04\x8d\x06\x00\x00\x00\x14\x00\x17blocks"
    b"/0/mlp/fc2/weightC\x02\x80\x01\x80\x04\x04\x8d\x06\x00\x00\x00\x14\x00\x09head/bias\x03\x01\x0a\x00\x14\x00"
    b"\x0bhead/weightC\x02\x0a\x80\x01\x04\x8d\x06\x00\x00\x00\x14\x00\x17layers/0/attn/norm/bias\x03\x01\x80\x01"
    b"\x00\x14\x00\x1blayers/0/attn/to_out/weightC\x02\x80\x01\x80\x01\x04\x8d\x06\x00\x00\x00\x14\x00\x1blayers/0/a"
    b"ttn/to_qkv/weightC\x02\x80\x03\x80\x01\x04\x8d\x06\x00\x00\x00\x14\x00\x16layers/0/ff/net/0/bias\x03\x01\x80"
    b"\x01\x00\x14\x00\x18layers/0/ff/net/1/weightC\x02\x80\x02\x80\x01\x04\x8d\x06\x00\x00\x00\x14\x00\x18layers/1/"
    b"ff/net/3/weightC\x02\x80\x01\x80\x02\x04\x8d\x06\x00\x00\x00\x14\x00\x09norm/bias\x03\x01\x80\x01\x00\x14\x00"
    b"\x17patch_embed/proj/weightC\x04\x80\x01\x03\x04\x04\x06\x8d\x06\x00\x00\x00\x00\x00\x14\x00\x09pos_embedC\x03"
    b"\x01A\x80\x01\x05\x8d\x06\x00\x00\x00\x00\x14\x00\x1bto_patch_embedding/1/weightC\x02\x80\x010\x04\x8d\x06\x00"
    b"\x00\x00\x14\x00\x00\x00\x01\x18x\x01\x07grad.h5\x03\xb5\x01\x00\x01\x00\x07worker0\x11\x10\x01\x04loss$\x00"
    b"\x00\x00\x00\x00\x00\x00\xf8?\x01\x06\x011\x11\x10\x01\x04loss$\x00\x00\x00\x00\x00\x00\x00\x02@\x01\x00\x00x"
    b"\x10\x05\x04data<\x00\x09ImageNet\x05dtype<\x00\x08float32\x09framework<\x00\x0epytorch 2.1.0\x04loss$\x00\x00"
    b"\x00\x00\x00\x00\x00\x02@\x05model<\x00\x0aResNet-50\x04step\x17\x00\xc8\x00\x00\x00\x00\x00\x00\x00\x07worker"
    b"s\x17\x00\x04\x00\x00\x00\x00\x00\x00\x00;\x10worker0/bn1/bias\x03\x01@\x00\x14\x00\x12worker0/bn1/weight\x03"
    b"\x01@\x00\x14\x00\x14worker0/conv1/weightC\x04@\x03\x03\x03\x06\x8d\x06\x00\x00\x00\x00\x00\x14\x00\x0fworker0"
    b"/fc/bias\x03\x01\x0a\x00\x14\x00\x11worker0/fc/weightC\x02\x0a@\x04\x8d\x06\x00\x00\x00\x14\x00\x19worker0/lay"
    b"er1/0/bn1/bias\x03\x01@\x00\x14\x00\x1bworker0/layer1/0/bn1/weight\x03\x01@\x00\x14\x00\x19worker0/layer1/0/bn"
    b"2/bias\x03\x01@\x00\x14\x00\x1bworker0/layer1/0/bn2/weight\x03\x01@\x00\x14\x00\x1dworker0/layer1/0/conv1/weig"
    b"htC\x04@@\x03\x03\x06\x8d\x06\x00\x00\x00\x00\x00\x14\x00\x1dworker0/layer1/0/conv2/weightC\x04@@\x03\x03\x06"
    b"\x8d\x06\x00\x00\x00\x00\x00\x14\x00\x19worker0/layer1/1/bn1/bias\x03\x01@\x00\x14\x00$worker0/layer2/0/downsa"
    b"mple/0/weightC\x04\x80\x01@\x01\x01\x06\x8d\x06\x00\x00\x00\x00\x00\x14\x00\x22worker0/layer2/0/downsample/1/b"
    b"ias\x03\x01\x80\x01\x00\x14\x00\x22worker0/layer2/0/shortcut/0/weightC\x04\x80\x01@\x01\x01\x06\x8d\x06\x00"
    b"\x00\x00\x00\x00\x14\x00\x15worker0/linear/weightC\x02\x0a@\x04\x8d\x06\x00\x00\x00\x14\x00"
)


class Average:
    """2.9: how often a bit was 1."""

    def __init__(self, value, most):
        self.value, self.times, self.most = value, 0, most

    def probability(self):
        return min(max(self.value >> 6, 16), 65520)

    def follow(self, bit):
        self.times = min(self.times + 1, self.most)
        self.value += toward_zero(65535 * 64 * bit - self.value, self.times + 1)


class Match:
    """2.9: the byte that followed the last time the last bytes were the same."""

    def __init__(self, least):
        self.least, self.places, self.place, self.length, self.expected = least, {}, 0, 0, None
        self.averages = [Average((65536 - 65536 // (2 + 2 * i)) * 64, 255) for i in range(32)]

    def input(self, seen, partial):
        self.expected = None
        if self.length == 0:
            return 0
        byte, known = seen[self.place] | 256, partial.bit_length() - 1
        if byte >> (8 - known) != partial:
            return 0
        self.expected = byte >> (7 - known) & 1
        odds = log_odds(self.averages[min(self.length, 31)].probability())
        return odds if self.expected else -odds

    def end_bit(self, bit):
        if self.expected is not None:
            self.averages[min(self.length, 31)].follow(self.expected == bit)
            if self.expected != bit:
                self.length = 0

    def end_byte(self, seen):
        if self.length > 0:
            self.place, self.length = self.place + 1, min(self.length + 1, 32)
        if len(seen) < self.least:
            return
        index = order_hash(seen, self.least) >> 16
        if self.length == 0 and index in self.places:
            self.place = self.places[index]
            while self.length < min(32, self.place) and seen[self.place - 1 - self.length] == seen[-1 - self.length]:
                self.length += 1
            if self.length < self.least:
                self.length = 0
        self.places[index] = len(seen)


def toward_zero(a, b):
    return a // b if a >= 0 else -(-a // b)


def log_odds(p):
    if p < 32768:
        return -log_odds(65536 - p)
    ratio = (p << 16) // (65536 - p)
    top = ratio.bit_length() - 1
    return 256 * top + (ratio * 256 >> top) - 256 - 4096


def probability(odds):
    if odds < 0:
        return 65536 - probability(-odds)
    odds = min(odds, 4000)
    ratio = (256 + odds % 256) << odds // 256
    return min(65535, (ratio << 16) // (ratio + 256))


def order_hash(seen, order):
    value = order * 0x9E3779B1
    for k in range(1, order + 1):
        value = (value + (seen[-k] if k <= len(seen) else 0) + 1) * 0x2F0B4C47 & 0xFFFFFFFF
    return value & 0xFFFFFFFF


def word_hashes(seen):
    end = len(seen)

    def take_word(value):
        nonlocal end
        least = max(0, end - 20)
        while end > least and 97 <= seen[end - 1] | 32 <= 122:
            value = (value + seen[end - 1] + 1) * 0x2F0B4C47 & 0xFFFFFFFF
            end -= 1
        return value

    word = take_word(77)
    before = seen[end - 1] if end > 0 else 0
    least = max(0, end - 20)
    while end > least and not 97 <= seen[end - 1] | 32 <= 122:
        end -= 1
    return [(word + before) * 0x9E3779B1 & 0xFFFFFFFF, (word * 31 + take_word(99)) * 0x9E3779B1 & 0xFFFFFFFF]


class Mixer:
    """2.9: the model of a byte string."""

    def __init__(self):
        self.seen, self.partial = bytearray(), 1
        self.recent = [bytearray(b"\1") * (1 << 18) for _ in range(9)]
        starts = [65536 * (10 * (r.bit_count() - 1) + 4) // (10 * (r.bit_length() - 1) + 8) * 64 for r in range(1, 128)]
        self.averages = [[Average(value, 127) for value in [0, *starts]] for _ in range(9)]
        self.matches = [Match(4), Match(8)]
        self.weights = [[19660] * 12 for _ in range(16)]
        self.begin_byte()
        self.predict()

    def begin_byte(self):
        self.contexts = [order_hash(self.seen, order) for order in (0, 1, 2, 3, 4, 5, 7)] + word_hashes(self.seen)

    def predict(self):
        self.slots = [((h + self.partial * 0x9E3779B1) * 0x2545F491 & 0xFFFFFFFF) >> 14 for h in self.contexts]
        self.inputs = []
        for recent, averages, slot in zip(self.recent, self.averages, self.slots):
            self.inputs.append(0 if recent[slot] == 1 else log_odds(averages[recent[slot]].probability()))
        self.inputs += [match.input(self.seen, self.partial) for match in self.matches] + [256]
        four, eight = self.matches
        matched = 0 if four.expected is None else 1 + (four.length >= 8) + (four.length >= 20)
        sets = (matched + 4 * (eight.expected is not None), 8 + self.partial.bit_length() - 1)
        self.used, total = [], 0
        for weights in (self.weights[s] for s in sets):
            odds = sum(w * x for w, x in zip(weights, self.inputs)) >> 16
            odds = min(max(odds, -4000), 4000)
            self.used.append((weights, probability(odds)))
            total += odds
        self.probability = min(max(probability(total >> 1), 16), 65520)

    def update(self, bit):
        for weights, p in self.used:
            error = 65536 * bit - p
            for i, x in enumerate(self.inputs):
                weights[i] += x * error >> 15
        for recent, averages, slot in zip(self.recent, self.averages, self.slots):
            averages[recent[slot]].follow(bit)
            joined = recent[slot] * 2 + bit
            recent[slot] = joined if joined < 128 else joined & 63 | 64
        for match in self.matches:
            match.end_bit(bit)
        self.partial = self.partial * 2 + bit
        if self.partial >= 256:
            self.seen.append(self.partial & 255)
            self.partial = 1
            for match in self.matches:
                match.end_byte(self.seen)
            self.begin_byte()
        self.predict()


@functools.cache
def primed_mixer():
    mixer = Mixer()
    for byte in PRIMER:
        for place in range(7, -1, -1):
            mixer.update(byte >> place & 1)
    return mixer


def decode_mixed(code, size):
    """2.9: `size` bytes, or None."""
    mixer = copy.deepcopy(primed_mixer())
    low, high, window, taken, known = 0, 2**32 - 1, int.from_bytes((code + bytes(4))[:4], "big"), 4, 0
    content = bytearray()
    while len(content) < size and known <= len(code):
        byte = 0
        for _ in range(8):
            p, width = mixer.probability, high - low
            cut = low + p * (width >> 16) + (p * (width & 0xFFFF) >> 16)
            bit = int(window <= cut)
            low, high = (low, cut) if bit else (cut + 1, high)
            mixer.update(bit)
            byte = byte * 2 + bit
            while low >> 24 == high >> 24:
                low, high = low << 8 & 0xFFFFFFFF, (high << 8 & 0xFFFFFFFF) | 255
                window = (window << 8 & 0xFFFFFFFF) | (code[taken] if taken < len(code) else 0)
                taken, known = taken + 1, known + 1
        content.append(byte)
    end = b""
    for kept in range(1, 5) if low > 0 else ():
        unit = 1 << (32 - 8 * kept)
        rounded = -(-low // unit) * unit
        if rounded <= high:
            end = rounded.to_bytes(4, "big")[:kept]
            break
    return bytes(content) if len(content) == size and code[known:] == end else None


def read_directory(data):
    """2.4, and where the blocks of 2.5 stand."""
    read_header(data)
    begin = read_footer(data)
    content, apart = unpack_directory(data[begin:-FOOTER_BYTES])
    reader = ByteReader(content, "directory")
    apart = None if apart is None else ByteReader(apart, "parameters of the sets")
    directory = Directory(reader.uvarint(), [], [], [])
    for _ in range(reader.uvarint(0, 4096)):
        directory.metadata.append((text(reader.string()), text(reader.string())))
    parameter_sets = [ParameterSet(reader, apart) for _ in range(reader.uvarint())]
    if apart is not None:
        apart.expect_end()
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


@dataclasses.dataclass
class BlockPlace:
    """Which elements a block holds: `count` from storage index `first` of `tensor`; and the directory's seed."""

    seed: int
    tensor: Tensor
    first: int
    count: int


class ParameterSet:
    """A parameter set of 2.4. Its method and its parameters (3) matter only where a block uses them."""

    def __init__(self, reader, apart):
        self.method, self.parsed, self.tensors = reader.uvarint(0, 2**32 - 1), None, []
        self.data = reader.string() if apart is None else apart.raw(reader.uvarint())

    def parse(self):
        if self.parsed is None:
            self.parsed = parameters_of(self.method)(self.data)
            self.parsed.tensors = self.tensors

    def decode_empty(self, place):
        """The f32 values of a block without bytes."""
        if self.method != 24:
            return np.zeros(place.count, np.float32)
        self.parse()
        return self.parsed.decode_empty(place)

    def decode_block(self, reader, place):
        """The f32 values of the block that `reader` holds."""
        self.parse()
        values = self.parsed.decode_block(reader, place)
        reader.expect_end()
        return values


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
    tensor.parameters.tensors.append(tensor)
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
    directory = read_directory(data)
    tensors = [tensor for tensor in directory.tensors if name in (None, tensor.name)]
    if sum(tensor.elements * DTYPE_BYTES[tensor.dtype] for tensor in tensors) > max_bytes:
        raise LimitExceeded(f"tensors of more than {max_bytes} bytes")
    for tensor in tensors:
        decode_tensor(data, tensor, directory.seed)
    return tensors


def decode_tensor(data, tensor, seed):
    """2.5"""
    reader = ByteReader(data, f"tensor {tensor.number}")
    reader.at = tensor.first_byte
    parts = []
    for block, size in enumerate(tensor.block_bytes):
        first = block << tensor.block_log2
        count = min(tensor.elements, first + (1 << tensor.block_log2)) - first
        place = BlockPlace(seed, tensor, first, count)
        if size == 0:
            parts.append(tensor.parameters.decode_empty(place))
        else:
            payload = read_record(reader, tensor, block, size)
            parts.append(tensor.parameters.decode_block(ByteReader(payload, f"{reader.what}, block {block}"), place))
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


# --- 3. Methods -----------------------------------------------------------------------------------------------------


class Parameters:
    """A method's parameters: read(reader) takes them, decode_block(reader, place) gives the values of a block."""

    def __init__(self, data):
        reader = ByteReader(data, "parameter set")
        self.read(reader)
        reader.expect_end()


def parameters_of(method):
    """The class of the method's parameters."""
    classes = {1: ClassParameters, 2: Fp32Parameters, 3: Fp16Parameters, 4: Bf16Parameters, 9: SignParameters}
    classes |= {10: SignParameters, 11: MeanParameters, 17: SampleCountParameters, 20: RotationParameters}
    classes |= {21: FactorParameters, 22: DrawnFactorParameters}
    classes |= dict.fromkeys((5, 6, 7, 8, 18, 19), GridParameters)
    classes |= dict.fromkeys((12, 13, 14, 15, 16), SparseParameters)
    classes[24] = ContextParameters
    if method == 23:  # 19: its frames hold the sets of the method that it sizes
        raise DamagedFrame("no parameter set has method 23")
    if method not in classes:
        raise NewerFrame(f"method {method}: needs a newer jsq")
    return classes[method]


# --- 4. Class blocks ------------------------------------------------------------------------------------------------

CELL, MID, OFFMAG, SYM = range(4)
RAW, BITMAP, RICE, ENTROPY, INDEX32, PACKED = range(6)
RUN = 32  # elements


class ClassModel:
    """What a class block needs to know: `widths`, `quantizer`, map `packer`, `lanes`, which classes have entropy-coded
    magnitudes (`coded`, `by_activity`) and the tables of 4.4."""

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


class ClassParameters(Parameters, ClassModel):
    """4.1"""

    def read(self, reader):
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
                low, high = read_range(reader, self.quantizer)
            self.values.append(class_values(self.quantizer, width, low, high))
        self.read_tables(BitReader(reader))

    def decode_block(self, reader, place):
        classes, signs, magnitudes = decode_classes_and_codes(self, reader, place.count)
        values = np.zeros(place.count, np.float32)
        for j, of_class in enumerate(self.values):
            if of_class is not None:
                mine = classes == j
                values[mine] = of_class[signs[mine], magnitudes[mine]]
        return values


def read_range(reader, quantizer):
    """`low` and `high` of a class, as 4.1 has them."""
    low = reader.f32() if quantizer in (CELL, OFFMAG) else np.float32(0)
    high = reader.f32()
    if not (np.isfinite(low) and np.isfinite(high) and 0 <= low <= high):
        reader.damaged(f"range {low}..{high}")
    return low, high


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


def decode_classes_and_codes(model, reader, count):
    """4.3: the class, the sign bit and the magnitude index of each of the block's `count` elements."""
    classes = read_class_map(model, reader, count) if model.packer != ENTROPY else None
    high_bits = np.zeros(0, np.int64)
    if model.packer == ENTROPY or any(model.coded):
        classes, high_bits = decode_stream(model, reader.string(), classes, count)
    signs, magnitudes = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for j, width in enumerate(model.widths):
        if width > 0 and not model.coded[j]:
            members = np.flatnonzero(classes == j)
            words = reader.numbers(members.size, width)
            signs[members], magnitudes[members] = split_code_words(model.quantizer, width, words)
    if any(model.coded):
        read_signs_and_low_bits(model, reader, classes, high_bits, signs, magnitudes)
    return classes, signs, magnitudes


def read_signs_and_low_bits(model, reader, classes, high_bits, signs, magnitudes):
    """Part 4 of 4.3: fills in the codes of the classes with entropy-coded magnitudes."""
    raw_bits = np.array([w - 1 - min(w - 1, 4) if w else 0 for w in model.widths])
    coded = np.flatnonzero(np.array(model.coded)[classes])
    sizes = 1 + raw_bits[classes[coded]]
    bits = np.append(reader.bits(int(sizes.sum())), np.zeros(8, np.uint8))
    at = np.cumsum(sizes) - sizes
    signs[coded], magnitudes[coded] = bits[at], high_bits
    for j in model.magnitudes:
        mine = classes[coded] == j
        for k in range(raw_bits[j]):
            magnitudes[coded[mine]] = 2 * magnitudes[coded[mine]] + bits[at[mine] + 1 + k]


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


def read_class_map(model, reader, count):
    """4.5"""
    last = len(model.widths) - 1
    if model.packer == RAW:
        classes = reader.numbers(count, last.bit_length())
        if (classes > last).any():
            reader.damaged("class beyond the last")
        return classes
    classes = np.zeros(count, np.int64)
    if model.packer == BITMAP:
        kept = np.flatnonzero(reader.bits(count))
        bits = BitReader(reader)
    else:
        bits = BitReader(reader)
        p = bits.take(8) if model.packer == RICE else 0
        number = bits.take(32)
        if p > 31 or number > count:
            reader.damaged(f"parameter {p}, {number} kept elements of {count}")
        kept = range(number)
    index_bits = {INDEX32: 32, PACKED: (count - 1).bit_length()}
    index = -1
    for element in kept:
        before = index
        if model.packer == BITMAP:
            index = element
        elif model.packer == RICE:
            index += 1 + (bits.ones(count + 1) << p) + bits.take(p)
        else:
            index = bits.take(index_bits[model.packer])
        if not before < index < count:
            reader.damaged(f"element {index} of {count} after {before}")
        classes[index] = 1 + bits.ones(last - 1)
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


def decode_stream(model, data, classes, count):
    """The sections of 4.6: the classes of all elements, and the coded part of the magnitude indices in index order."""
    stream = Stream(data, model.lanes)
    runs = range(0, count, RUN)
    if model.packer == ENTROPY:
        activities = decode_activities(model, stream, len(runs))
        classes = decode_classes(model, stream, activities, count)
    else:
        activities = [int(classes[first : first + RUN].sum()).bit_length() for first in runs]
    stream.begin_section()
    coded = np.flatnonzero(np.array(model.coded)[classes])
    high_bits = np.zeros(coded.size, np.int64)
    for i, element in enumerate(coded.tolist()):
        tables = model.magnitudes[int(classes[element])]
        at = activities[element // RUN] - 1 if model.by_activity[classes[element]] else 0
        high_bits[i] = stream.take(tables[at] if at < len(tables) else ABSENT)
    stream.finish()
    return classes, high_bits


def decode_activities(model, stream, runs):
    """Section 1 of 4.6."""
    if model.activities == 0:
        stream.reader.damaged("no activities")
    activities, activity = [], 0
    for _ in range(runs):
        activity = stream.take(model.next_activity[activity])
        activities.append(activity)
    return activities


def decode_classes(model, stream, activities, count):
    """Section 2 of 4.6."""
    stream.begin_section()
    base = len(model.widths)
    classes = np.zeros(len(activities) * RUN, np.int64)
    for run, activity in enumerate(activities):
        if activity == 0:
            continue
        for at in range(run * RUN, min(count, (run + 1) * RUN), model.group):
            token = stream.take(model.tokens[activity])
            for k in range(model.group):
                classes[at + k] = token % base
                token //= base
    if classes[count:].any():
        stream.reader.damaged("classes beyond the end of the block")
    return classes[:count]


# --- 5. Random numbers ----------------------------------------------------------------------------------------------

POSITIONS, ROTATION_SIGNS, INNER_FACTOR = 3, 4, 5  # purposes


def random_words(seed, tensor, first, count, purpose):
    """The words of `count` elements from storage index `first` of a tensor: Philox4x32-10."""
    quads = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    c = [quads & low, quads >> np.uint64(32), np.full_like(quads, tensor), np.full_like(quads, purpose)]
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            product1 >> np.uint64(32) ^ c[1] ^ np.uint64(key0),
            product1 & low,
            product0 >> np.uint64(32) ^ c[3] ^ np.uint64(key1),
            product0 & low,
        ]
        key0, key1 = key0 + 0x9E3779B9 & 0xFFFFFFFF, key1 + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[first % 4 :][:count].astype(np.int64)


# --- 10. Level blocks -----------------------------------------------------------------------------------------------

FIXED, BASE243, ELIAS_SPARSE, ELIAS_DENSE, ENTROPY_CODED = range(5)


def read_level_block(reader, count, low, high, scale_count=0):
    """The scales of a level block, and its `count` levels, each in low..high. It lasts to the end of `reader`."""
    packer = reader.integer(1)
    allowed = {
        FIXED: True,
        BASE243: high - low + 1 == 3,
        ELIAS_SPARSE: low <= 0 <= high,
        ELIAS_DENSE: low <= 0 <= high,
        ENTROPY_CODED: -16383 <= low <= 0 <= high <= 16383,
    }
    if not allowed.get(packer, False):
        reader.damaged(f"packer {packer} for levels {low}..{high}")
    scales = reader.scales(scale_count)
    if count == 0:
        levels = np.zeros(0, np.int64)
    elif packer == FIXED:
        levels = low + reader.numbers(count, (high - low).bit_length())
    elif packer == BASE243:
        levels = low + read_trits(reader, count)
    elif packer == ELIAS_SPARSE:
        levels = read_elias_sparse(reader, count)
    elif packer == ELIAS_DENSE:
        levels = read_elias_dense(reader, count)
    else:
        levels = read_entropy_coded_levels(reader, count, low, high)
    if ((levels < low) | (levels > high)).any():
        reader.damaged(f"a level is outside {low}..{high}")
    reader.expect_end()
    return scales, levels


def read_trits(reader, count):
    """base243"""
    numbers = np.frombuffer(reader.raw(-(-count // 5)), np.uint8).astype(np.int64)
    if (numbers > 242).any():
        reader.damaged("a byte of five trits above 242")
    trits = (numbers[:, None] // [81, 27, 9, 3, 1] % 3).reshape(-1)
    if trits[count:].any():
        reader.damaged("padding is not zero")
    return trits[:count]


def take_omega(bits):
    """Elias' recursive code of an integer of 1 or more."""
    value = 1
    while bits.take(1):
        if value >= 32:
            bits.reader.damaged("an omega code of more than 32 bits")
        value = 1 << value | bits.take(value)
    return value


def read_elias_sparse(reader, count):
    bits, levels, index = BitReader(reader), np.zeros(count, np.int64), -1
    number = take_omega(bits) - 1
    if number > count:
        reader.damaged(f"{number} levels of {count} are not 0")
    for _ in range(number):
        index += take_omega(bits)
        if index >= count:
            reader.damaged(f"level {index} of {count}")
        negative, magnitude = bits.take(1), take_omega(bits)
        levels[index] = -magnitude if negative else magnitude
    bits.align()
    return levels


def read_elias_dense(reader, count):
    bits, levels = BitReader(reader), np.zeros(count, np.int64)
    for i in range(count):
        magnitude = take_omega(bits) - 1
        levels[i] = -magnitude if magnitude and bits.take(1) else magnitude
    bits.align()
    return levels


def read_entropy_coded_levels(reader, count, low, high):
    """Tokens, signs and low bits."""
    head = BitReader(reader)
    scheme, lanes_log2, symbols = head.take(2), head.take(2), head.take(4) + 1
    if scheme == 3:
        reader.damaged("scheme 3")
    weights = read_weights(head, symbols)
    if weights is None:
        reader.damaged("an absent table")
    head.align()
    used = [t for t, weight in enumerate(weights) if weight]
    if len(used) == 1:
        if lanes_log2 != 0:
            reader.damaged("lanes without a stream")
        tokens = np.full(count, used[0], np.int64)
    else:
        words, lanes = reader.uvarint(), 1 << lanes_log2
        stream, table = Stream(reader.raw(4 * lanes + 2 * words), lanes), Table(weights)
        tokens = np.array([stream.take(table) for _ in range(count)], np.int64)
        stream.finish()

    small, first_bits = [(16, 4), (8, 3), (4, 2)][scheme]  # D and d
    bits, levels = BitReader(reader), tokens
    for i in np.flatnonzero(tokens).tolist():
        token = int(tokens[i])
        negative = bits.take(1) if low < 0 < high else high == 0
        if token >= small:
            low_bits = token - small + first_bits
            token = 1 << low_bits | bits.take(low_bits)
        levels[i] = -token if negative else token
    bits.align()
    return levels


# --- 11. Dithering --------------------------------------------------------------------------------------------------

UNIFORM, EXPONENTIAL, NATURAL, PAIRS, UNDIVIDED, SHARED_EXPONENTIAL = range(6)
LARGEST = np.finfo(np.float32).max


def finite(values):
    """Values beyond the largest finite number become that number with their sign."""
    return np.clip(values, -LARGEST, LARGEST)


def power_of_two(exponents):
    """Exact, subnormal numbers included."""
    return np.ldexp(1.0, exponents).astype(np.float32)


class GridParameters(Parameters):
    """11.1"""

    def read(self, reader):
        self.grid = reader.integer(1)
        if self.grid > SHARED_EXPONENTIAL:
            reader.damaged(f"grid {self.grid}")
        self.bucket, self.scale = 0, None
        if self.grid == NATURAL:
            lowest = reader.uvarint(0, 276)
            highest = reader.uvarint(lowest, 276)
            self.levels, self.highest = highest - lowest + 1, highest - 149
            return
        least, most = {EXPONENTIAL: (0, 126), PAIRS: (0, 126), SHARED_EXPONENTIAL: (1, 127)}.get(self.grid, (1, 2**20))
        self.steps, self.workers = reader.uvarint(least, most), 1
        if self.grid in (UNIFORM, UNDIVIDED, SHARED_EXPONENTIAL):
            self.workers = reader.uvarint(1, 2**20)
        if self.grid == UNIFORM and self.steps * self.workers > 2**20:
            reader.damaged(f"{self.steps} steps for {self.workers} workers")
        self.bucket = reader.uvarint(0, 65536)
        if self.bucket == 0:
            self.scale = reader.scales(1)[0]

    def level_range(self):
        """The first column of the table in 11.2."""
        if self.grid == NATURAL:
            return -self.levels, self.levels
        most = self.steps
        if self.grid == UNIFORM:
            most = self.steps * self.workers
        elif self.grid in (EXPONENTIAL, PAIRS):
            most = self.steps + 1
        return -most, self.steps if self.grid == PAIRS else most

    def decode_block(self, reader, place):
        """11.2"""
        buckets = -(-place.count // self.bucket) if self.bucket else 0
        scales, levels = read_level_block(reader, place.count, *self.level_range(), buckets)
        n = np.repeat(scales, self.bucket)[: place.count] if self.bucket else self.scale
        with np.errstate(over="ignore", under="ignore"):
            return self.values(levels, n)

    def values(self, levels, n):
        """The second column of the table in 11.2; `n` is the scale, or the scale of each element."""
        f32 = np.float32
        l, sign, magnitude = levels.astype(f32), np.sign(levels).astype(f32), np.abs(levels)
        if self.grid == PAIRS:
            exponents = np.where(levels >= 0, levels, -levels - 1) - self.steps
            positive = n * power_of_two(exponents)
            return np.where(levels >= 0, positive, -positive)
        if self.grid == NATURAL:
            values = sign * power_of_two(self.highest + 1 - np.maximum(magnitude, 1))
        elif self.grid == EXPONENTIAL:
            values = sign * (n * power_of_two(magnitude - 1 - self.steps))
        elif self.grid == UNIFORM:
            values = n * (l / f32(self.steps))
        elif self.grid == UNDIVIDED:
            values = n * (l / (f32(self.steps) / f32(self.workers)))
        else:
            values = n * (f32(2 * self.workers) * (sign * power_of_two(-magnitude)))
        return np.where(levels == 0, f32(0), finite(values))


# --- 12. Signs ------------------------------------------------------------------------------------------------------


class SignParameters(Parameters):
    """12"""

    def read(self, reader):
        self.magnitude = reader.scales(1)[0]

    def decode_block(self, reader, place):
        return np.where(reader.bits(place.count), -self.magnitude, self.magnitude)


# --- 13. Signs with class means -------------------------------------------------------------------------------------

TENSOR, ROW, COLUMN, BUCKET = range(4)


def read_mean_pairs(reader, count):
    """An array of `count` rows: the mean of bits 1, the mean of bits 0."""
    pairs = np.frombuffer(reader.raw(8 * count), "<f4").reshape(count, 2)
    if not (np.isfinite(pairs).all() and (pairs[:, 0] <= 0).all() and (pairs[:, 1] >= 0).all()):
        reader.damaged("a mean is not finite or has the wrong sign")
    return pairs


class MeanParameters(Parameters):
    """13"""

    def read(self, reader):
        self.kind = reader.integer(1)
        if self.kind > BUCKET:
            reader.damaged(f"group {self.kind}")
        if self.kind == BUCKET:
            self.bucket = reader.uvarint(1, 65536)
        else:
            self.pairs = read_mean_pairs(reader, reader.uvarint(1, 2**20))

    def decode_block(self, reader, place):
        index = np.arange(place.count)
        if self.kind == BUCKET:
            pairs, group = read_mean_pairs(reader, -(-place.count // self.bucket)), index // self.bucket
        else:
            pairs, group = self.pairs, self.group(reader, place, place.first + index)
        bits = reader.bits(place.count)
        return np.where(bits, pairs[group, 0], pairs[group, 1])

    def group(self, reader, place, index):
        """The group of each element with storage index `index`."""
        shape = place.tensor.shape
        kind = self.kind if len(shape) > 1 else TENSOR
        rows = shape[0] if len(shape) > 1 else 1
        columns = place.tensor.elements // rows
        if len(self.pairs) != {TENSOR: 1, ROW: rows, COLUMN: columns}[kind]:
            reader.damaged(f"{len(self.pairs)} groups for a tensor of shape {shape}")
        if kind == TENSOR:
            return np.zeros_like(index)
        if place.tensor.fortran:
            return index % rows if kind == ROW else index // rows
        return index // columns if kind == ROW else index % columns


# --- 14. Dense values -----------------------------------------------------------------------------------------------


def from_bits(bits, dtype):
    """f32 values from the bits of elements of `dtype`."""
    if dtype == "f16":
        return bits.astype("<u2").view("<f2").astype(np.float32)
    return (bits.astype("<u4") << np.uint32(16 if dtype == "bf16" else 0)).view("<f4")


class Fp32Parameters(Parameters):
    """14: none."""

    dtype = "f32"

    def read(self, reader):
        pass

    def decode_block(self, reader, place):
        size = DTYPE_BYTES[self.dtype]
        values = from_bits(np.frombuffer(reader.raw(size * place.count), f"<u{size}"), self.dtype)
        if not np.isfinite(values).all():
            reader.damaged("a value is not finite")
        return values


class Fp16Parameters(Fp32Parameters):
    dtype = "f16"


class Bf16Parameters(Fp32Parameters):
    dtype = "bf16"


# --- 15. Sparse methods ---------------------------------------------------------------------------------------------

F32, F16, BF16, CODE_WORDS, LEVELS = range(5)
FLOATS = {F32: ("f32", 0x7F7FFFFF), F16: ("f16", 0x7BFF), BF16: ("bf16", 0x7F7F)}  # and their largest finite number


class SparseParameters(Parameters, ClassModel):
    """15.1. With stored positions it is also the model of their class blocks."""

    def read(self, reader):
        flags = reader.integer(1)
        self.kind, self.random = flags & 15, bool(flags & 16)
        if flags >> 5 or self.kind > LEVELS or self.random and self.kind == CODE_WORDS:
            reader.damaged(f"values {flags:#x}")
        self.widths, self.quantizer = [0, 1], CELL  # code words of width 1 are the sign bits
        if self.kind in FLOATS:
            self.read_floats(reader)
        elif self.kind == CODE_WORDS:
            self.read_quantizer(reader)
        else:
            self.steps = reader.uvarint(1, 2**20)
        if self.random:
            self.threshold = reader.integer(4), reader.uvarint(0, 2**32 - 1), reader.uvarint()
            if self.kind in FLOATS:
                self.gain = reader.f32()
                if not (np.isfinite(self.gain) and self.gain >= 1):
                    reader.damaged(f"gain {self.gain}")
        else:
            self.read_packers(reader)

    def read_floats(self, reader):
        self.dtype, self.largest = FLOATS[self.kind]
        self.shift = reader.integer(1)
        if self.shift > (16 if self.kind == F32 else 0):
            reader.damaged(f"shift {self.shift}")
        self.base, self.magnitude_bits = reader.uvarint(0, self.largest >> self.shift), reader.integer(1)
        if self.magnitude_bits > 31:
            reader.damaged(f"magnitudes of {self.magnitude_bits} bits")

    def read_quantizer(self, reader):
        width, quantizer = reader.raw(2)
        self.widths, self.quantizer = [0, width], quantizer & 15
        if not 1 <= width <= 8:
            reader.damaged(f"width {width}")
        if quantizer >> 5 or self.quantizer > SYM or self.quantizer == SYM and width == 1:
            reader.damaged(f"quantizer {quantizer:#x}")
        self.values = class_values(self.quantizer, width, *read_range(reader, self.quantizer))

    def read_packers(self, reader):
        packer, coded = reader.raw(2)
        self.packer, self.lanes = packer & 15, 1 << (packer >> 4)
        if not BITMAP <= self.packer <= PACKED or self.lanes > 16:
            reader.damaged(f"map packer {packer:#x}")
        if coded not in (0, 1, 3) or coded and (self.kind != CODE_WORDS or self.widths[1] < 2):
            reader.damaged(f"entropy-coded magnitudes {coded:#x}")
        self.coded, self.by_activity = [False, bool(coded & 1)], [False, bool(coded & 2)]
        self.read_tables(BitReader(reader))

    def decode_block(self, reader, place):
        """15.4"""
        values = np.zeros(place.count, np.float32)
        kept, kept_values = self.decode_random(reader, place) if self.random else self.decode_stored(reader, place)
        values[kept] = kept_values
        return values

    def decode_stored(self, reader, place):
        """Which elements are kept, and their values."""
        scale = reader.scales(1)[0] if self.kind == LEVELS else None
        if self.kind == CODE_WORDS:
            classes, signs, magnitudes = decode_classes_and_codes(self, reader, place.count)
            kept = np.flatnonzero(classes)
            return kept, self.values[signs[kept], magnitudes[kept]]
        part = ByteReader(reader.string(), reader.what)
        classes, signs, _ = decode_classes_and_codes(self, part, place.count)
        part.expect_end()
        kept = np.flatnonzero(classes)
        signs = signs[kept]
        if self.kind == LEVELS:
            _, less_one = read_level_block(reader, kept.size, 0, self.steps - 1)
            return kept, self.level_values(scale, np.where(signs, -1 - less_one, 1 + less_one))
        keys = self.base + reader.numbers(kept.size, self.magnitude_bits)
        if (keys == 0).any():
            reader.damaged("a kept element is zero")
        return kept, self.float_values(reader, signs, keys)

    def decode_random(self, reader, place):
        """Which elements are kept, and their values."""
        kept = self.random_positions(place)
        if self.kind == LEVELS:
            scales, levels = read_level_block(reader, kept.size, -self.steps, self.steps, 1)
            return kept, self.level_values(scales[0], levels)
        fields = reader.numbers(kept.size, 1 + self.magnitude_bits)
        signs, keys = fields >> self.magnitude_bits, self.base + (fields & (1 << self.magnitude_bits) - 1)
        if (signs & (keys == 0)).any():
            reader.damaged("a kept element is -0")
        with np.errstate(over="ignore"):
            return kept, finite(self.float_values(reader, signs, keys) * self.gain)

    def random_positions(self, place):
        """15.2"""
        number = place.tensor.number
        words = random_words(place.seed, number, place.first, place.count, POSITIONS)
        word, tensor, element = self.threshold
        before = min(max(element - place.first, 0), place.count) if number == tensor else place.count * (number < tensor)
        return np.flatnonzero((words < word) | (words == word) & (np.arange(place.count) < before))

    def float_values(self, reader, signs, keys):
        """15.3, values 0, 1 and 2."""
        bits = keys << self.shift
        if (bits > self.largest).any():
            reader.damaged("a value is not finite")
        return from_bits(bits | signs << (8 * DTYPE_BYTES[self.dtype] - 1), self.dtype)

    def level_values(self, scale, levels):
        """15.3, values 4."""
        with np.errstate(under="ignore"):
            return scale * (levels.astype(np.float32) / np.float32(self.steps))


# --- 16. Sample counts ----------------------------------------------------------------------------------------------


class SampleCountParameters(Parameters):
    """16"""

    def read(self, reader):
        self.samples, self.norm = reader.uvarint(1, 2**30), reader.scales(1)[0]
        self.largest = reader.uvarint(0, self.samples)

    def decode_block(self, reader, place):
        _, counts = read_level_block(reader, place.count, -self.largest, self.largest)
        with np.errstate(under="ignore"):
            return self.norm * (counts.astype(np.float32) / np.float32(self.samples))


# --- 17. Rotated tables ---------------------------------------------------------------------------------------------

TABLES = {
    30: [0, 3, 5, 7, 9, 11, 13, 14, 16, 17, 19, 21, 23, 25, 27, 30],
    34: [0, 3, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 31, 34],
    42: [0, 4, 7, 10, 13, 16, 18, 20, 22, 24, 26, 29, 32, 35, 38, 42],
}
CLAMPS = [  # t for c = 2..16
    1.150349380376008,
    1.5341205443525463,
    1.8627318674216515,
    2.1538746940614564,
    2.4175590162365053,
    2.6600674686174597,
    2.8856349124267573,
    3.0972690781987846,
    3.2971933456919635,
    3.4871041041144313,
    3.668329285121323,
    3.841930685501911,
    4.008772594168585,
    4.169569323349106,
    4.324919040826046,
]


def padded(length):
    """The smallest power of two that is not below `length`."""
    return 1 << (length - 1).bit_length()


def hadamard(v):
    """The Walsh-Hadamard transform of integers, without a factor."""
    h = 1
    while h < v.size:
        pairs = v.reshape(-1, 2, h)
        v = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        h *= 2
    return v


class RotationParameters(Parameters):
    """17, *Parameters*"""

    def read(self, reader):
        log2_length, self.bits, table, clamp, norm = reader.raw(5)
        self.length = 1 << log2_length  # B
        if log2_length > 16 or not 1 <= self.bits <= 8:
            reader.damaged(f"Hadamard blocks of 2^{log2_length}, indices of {self.bits} bits")
        if table not in (0, 30, 34, 42) or table and self.bits != 4:
            reader.damaged(f"table {table} for {self.bits} bits")
        if not 2 <= clamp <= 16 or norm > 1:
            reader.damaged(f"clamping at 2^-{clamp}, norm {norm}")
        self.table = np.array(TABLES.get(table, range(1 << self.bits)), np.int64)
        self.clamp = CLAMPS[clamp - 2]
        self.norm = None if norm else reader.scales(1)[0]  # of the tensor

    def decode_block(self, reader, place):
        """17, *Block* and *Values*"""
        parts = [min(self.length, place.count - at) for at in range(0, place.count, self.length)]
        half = 1 << (self.bits - 1)
        norms, levels = read_level_block(
            reader, sum(map(padded, parts)), -half, half - 1, len(parts) if self.norm is None else 0
        )
        indices, at, values = levels + half, 0, []
        for i, part in enumerate(parts):
            norm, whole = (norms[i], padded(part)) if self.norm is None else (self.norm, self.padded_length(place.tensor))
            values.append(self.rotate_back(indices[at : at + padded(part)], float(norm), whole)[:part])
            at += padded(part)
        values = np.concatenate(values)
        index = np.arange(place.first, place.first + place.count)
        first, last = index[0] // 32, index[-1] // 32
        words = random_words(place.seed, place.tensor.number, first, last - first + 1, ROTATION_SIGNS)
        return np.where(words[index // 32 - first].astype(np.int64) >> index % 32 & 1, -values, values)

    def padded_length(self, tensor):
        """d2"""
        rest = tensor.elements % self.length
        return tensor.elements - rest + (padded(rest) if rest else 0)

    def rotate_back(self, indices, norm, whole):
        """The values of a Hadamard block up to their change of sign; `whole` is D."""
        last = int(self.table[-1])  # g
        v = hadamard(2 * self.table[indices] - last)
        w = self.clamp / last * norm / math.sqrt(whole * len(indices))
        return finite(v * w).astype(np.float32)


# --- 18. Low-rank factors -------------------------------------------------------------------------------------------


class FactorParameters(Parameters):
    """18, *Parameters*"""

    most_flags = 1

    def read(self, reader):
        flags = reader.integer(1)
        if flags > self.most_flags:
            reader.damaged(f"flags {flags:#x}")
        self.dtype, self.from_seed = ("f16" if flags & 1 else "f32"), bool(flags & 2)
        self.rank = reader.uvarint(0, 65536)
        self.drawn = None  # the tensor that `inner` was drawn for
        if self.rank == 0:
            return
        self.exponent = reader.uvarint(0, 600) - 300
        if not self.from_seed:
            size = DTYPE_BYTES[self.dtype] * self.rank
            width = (len(reader.data) - reader.at) // size
            if width == 0:
                reader.damaged("no inner factor")
            self.inner = self.read_numbers(reader, self.rank * width).reshape(self.rank, width)

    def read_numbers(self, reader, count):
        size = DTYPE_BYTES[self.dtype]
        numbers = from_bits(np.frombuffer(reader.raw(size * count), f"<u{size}"), self.dtype)
        if not (np.abs(numbers) <= 65504).all():
            reader.damaged("a number beyond 65,504")
        return numbers

    def decode_block(self, reader, place):
        """18, *Block* and *Values*"""
        tensor = place.tensor
        if len(tensor.shape) < 2 or self.rank == 0:
            reader.damaged(f"a block of rank {self.rank} of a tensor of shape {tensor.shape}")
        width = tensor.shape[0] if tensor.fortran else tensor.elements // tensor.shape[0]
        if self.from_seed and self.drawn != tensor.number:
            self.inner, self.drawn = self.draw_inner(reader, place, width), tensor.number
        if self.inner.shape[1] != width:
            reader.damaged(f"an inner factor of width {self.inner.shape[1]} for runs of {width}")
        element = place.first + np.arange(place.count)
        first_run = place.first // width
        runs, at = element // width - first_run, element % width
        outer = self.read_numbers(reader, self.rank * (int(runs[-1]) + 1)).reshape(-1, self.rank)
        total = outer[runs, 0] * self.inner[0, at]
        for k in range(1, self.rank):
            total = total + outer[runs, k] * self.inner[k, at]
        return finite(np.ldexp(total.astype(np.float64), self.exponent)).astype(np.float32)

    def draw_inner(self, reader, place, width):
        """18, *An inner factor from the seed*"""
        if place.tensor.fortran or self.rank > width or self.rank * width > 1 << 22:
            reader.damaged(f"an inner factor from the seed, {self.rank} columns of {width}")
        columns = []
        for k in range(self.rank):
            words = random_words(place.seed, place.tensor.number, 6 * k * width, 6 * width, INNER_FACTOR)
            sums = (words % 65536 + words // 65536).reshape(width, 6).sum(axis=1)
            columns.append(orthonormal((sums - 393210) / 65536, columns))
        if self.dtype == "f32":
            return np.array(columns).astype(np.float32)
        return (np.array(columns) * 2**14).astype(np.float32).astype(np.float16).astype(np.float32)


class DrawnFactorParameters(FactorParameters):
    """Those of method 22, where the inner factor may be drawn from the seed."""

    most_flags = 3


def dot(a, b):
    """The dot product of two columns in binary64: eight lanes, each summed in order."""
    products = np.zeros((-(-a.size // 8) + 1, 8))  # the sums begin with the zeros of the first row
    products.reshape(-1)[8 : 8 + a.size] = a * b
    lanes = np.cumsum(products, axis=0)[-1]
    lanes = lanes[:4] + lanes[4:]
    lanes = lanes[:2] + lanes[2:]
    return lanes[0] + lanes[1]


def orthonormal(column, others):
    """`column` without its parts along the `others`, which are orthonormal, and of length 1; or zeros."""
    first_length = length = math.sqrt(dot(column, column))
    again = bool(others) and first_length > 0
    while again:
        for other in others:
            column = column - dot(other, column) * other
        before, length = length, math.sqrt(dot(column, column))
        again = 1e-16 * first_length < length < 0.5 * before
    return column / length if length > 1e-16 * first_length else np.zeros_like(column)


# --- 20. Context streams ----------------------------------------------------------------------------------------------


def signed_rice(bits, low, limit):
    """20.2"""
    u = bits.ones((2 * limit + 1 >> low) + 1) << low | bits.take(low)
    value = -(u + 1) // 2 if u & 1 else u // 2
    if abs(value) > limit:
        bits.reader.damaged(f"{value} is beyond its limit")
    return value


def odds_share(index):
    """p(o) of 20.2."""
    octave, h = index >> 2, (65536, 77936, 92682, 110218)[index & 3]
    share = (h << 16) // (h + (1 << 16 - octave)) if octave < 0 else (h << octave + 16) // ((h << octave) + 65536)
    return min(max(share, 1), 65535)


class Ladder:
    """20.2: stop weights of the rungs, and what lies beyond them."""

    def __init__(self, bits, before, low, most, lower=(4, 2)):
        self.rungs = (2 if before is None else before.rungs) + signed_rice(bits, 0, 64)
        if not 1 <= self.rungs <= most:
            bits.reader.damaged(f"{self.rungs} rungs")
        self.closed = bits.take(1)
        self.odds, self.stop, left = [], [], 1 << 24
        for k in range(self.rungs - self.closed):
            if before is not None and k < len(before.odds):
                predicted = max(-48, before.odds[k] - lower[k > 0])
            else:
                predicted = self.odds[k - 1] if k else 8
            self.odds.append(predicted + signed_rice(bits, low, 96))
            if abs(self.odds[k]) > 48:
                bits.reader.damaged(f"odds index {self.odds[k]}")
        for k in range(self.rungs):
            last = self.closed and k == self.rungs - 1
            self.stop.append(left if last else max(1, left * odds_share(self.odds[k]) >> 16))
            left = max(0, left - self.stop[k])
        self.beyond = 0 if self.closed else max(1, left)

    def level_table(self, signs):
        of_signs = {0: (1, 1), 64: (2, 0), 128: (0, 2)}[signs]
        weights = [2 * self.stop[0]] + [w * times for w in self.stop[1:] for times in of_signs]
        return Table(weights + [0] * (31 - len(weights)) + [2 * self.beyond])


class AdaptiveTable:
    """20.5"""

    def __init__(self, frequencies=(1040, 760, 760, 400, 400, 190, 190, 90, 90, 45, 45, 24, 24, 14, 14, 10), slows=False):
        self.first, self.seen, self.slows = [0], 0, slows
        for f in frequencies:
            self.first.append(self.first[-1] + f)

    def take(self, stream):
        slot = stream.states[stream.lane] & 4095
        symbol = max(s for s in range(16) if self.first[s] <= slot)
        stream.advance(self.first[symbol], self.first[symbol + 1] - self.first[symbol])
        rate = 4 if self.seen < 16 else 5 if self.seen < 64 or not self.slows else 6
        self.seen += 1
        for i in range(1, 16):
            self.first[i] += (i if i <= symbol else 4080 + i) - self.first[i] >> rate
        return symbol


class ContextStream(Stream):
    """The rANS part of 20.4."""

    def __init__(self, data):
        super().__init__(data, 16 if len(data) >= 12288 else 8 if len(data) >= 1024 else 1)
        self.tracks, self.layouts = [[[AdaptiveTable() for _ in range(3)], 0, 2] for _ in range(2)], AdaptiveTable()

    def advance(self, first, frequency):
        x = self.states[self.lane]
        x = frequency * (x >> 12) + (x & 4095) - first
        if x < 1 << 16:
            x = x << 16 | self.reader.integer(2)
        self.states[self.lane] = x
        self.lane = self.lane + 1 & self.mask

    def raw(self, bits):
        symbol = (self.states[self.lane] & 4095) >> 12 - bits
        self.advance(symbol << 12 - bits, 4096 >> bits)
        return symbol

    def nibble(self):
        return self.raw(4)

    def scales(self, count, columns):
        """20.5"""
        track, scales = self.tracks[columns], []
        for _ in range(count):
            tables, prediction, last = track
            f = tables[last].take(self)
            expected = prediction + 8 >> 4
            if f == 15:
                scale = 16 * self.nibble() - 64
                scale += self.nibble()
            else:
                scale = expected - (f + 1) // 2 if f & 1 else expected + f // 2
            scale = min(max(scale, -64), 191)
            track[1:] = prediction + (16 * scale - prediction >> 2), min(2, abs(scale - expected))
            scales.append(scale)
        return np.array(scales, np.int64)


def scale_view(shape, fortran):
    """The view of 20.1: rows, columns, inner."""
    extents = list(shape)[:: -1 if fortran else 1]
    while extents and extents[0] == 1:
        extents = extents[1:]
    if len(extents) < 2:
        return 1, 1, math.prod(extents)
    if fortran:
        return math.prod(extents[:-1]), extents[-1], 1
    return extents[0], extents[1], math.prod(extents[2:])


class FactorTables:
    """20.6: the adaptive state of factors."""

    kappas = (8, 13, 16, 19, 24, 30, 38, 48, 60, 76, 90, 112, 140, 176, 215, 255)
    begins = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512)
    bits = (0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 6, 7, 8, 15)
    first_classes = (
        (2986, 924, 90, 18, 12, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6),
        (2464, 1250, 274, 32, 10, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6),
        (2202, 1338, 384, 74, 30, 8, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6),
        (1700, 1394, 544, 220, 140, 34, 10, 6, 6, 6, 6, 6, 6, 6, 6, 6),
        (1486, 1030, 662, 340, 334, 118, 62, 16, 6, 6, 6, 6, 6, 6, 6, 6),
        (1094, 856, 522, 366, 486, 318, 264, 78, 62, 6, 14, 6, 6, 6, 6, 6),
        (352, 540, 406, 294, 594, 400, 628, 304, 350, 130, 56, 14, 10, 6, 6, 6),
        (176, 200, 174, 192, 314, 356, 650, 488, 732, 376, 272, 86, 58, 10, 6, 6),
        (106, 118, 122, 116, 236, 250, 384, 368, 626, 410, 622, 272, 396, 58, 6, 6),
        (26, 66, 74, 82, 124, 90, 292, 200, 318, 326, 650, 460, 980, 326, 76, 6),
        (40, 24, 24, 40, 18, 78, 78, 62, 194, 264, 330, 482, 842, 888, 632, 100),
        (8, 8, 44, 44, 52, 52, 68, 102, 184, 128, 266, 272, 778, 908, 788, 394),
        (6, 6, 6, 6, 12, 12, 48, 24, 46, 46, 160, 132, 558, 724, 754, 1556),
        (6, 6, 6, 6, 8, 8, 16, 16, 30, 60, 58, 56, 300, 480, 684, 2356),
        (6, 6, 6, 6, 6, 6, 10, 10, 20, 58, 38, 38, 144, 306, 532, 2904),
        (6, 6, 6, 6, 6, 6, 6, 6, 10, 10, 20, 20, 82, 158, 290, 3458),
    )

    def __init__(self):
        self.kappa, self.ranks = AdaptiveTable(16 * (256,), True), [AdaptiveTable(), AdaptiveTable()]
        self.classes = [[AdaptiveTable(first, True) for first in self.first_classes] for _ in range(2)]

    def read(self, stream, rows, columns):
        """kappa in sixteenths, left factors, right factors."""
        kappa = self.kappas[self.kappa.take(stream)]
        rank = 16 * self.ranks[0].take(stream) + 1
        rank += self.ranks[1].take(stream)
        if rank > 64 or rank * (rows + columns) > 2048 * len(stream.reader.data):
            raise DamagedFrame("an impossible rank")
        sides, running = [np.zeros((rank, rows), np.int64), np.zeros((rank, columns), np.int64)], [64, 64]
        for j in range(rank):
            for side, numbers in enumerate(sides):
                for i in range(numbers.shape[1]):
                    before = 16 * abs(int(numbers[j - 1, i])) if j else running[side]
                    context = min(15, (2 * running[side] + before >> 3).bit_length())
                    k = self.classes[side][context].take(stream)
                    magnitude = stream.raw(7) << 8 if k == 15 else 0
                    rest = stream.raw(min(self.bits[k], 8) + 1) if k else 0
                    magnitude += (rest >> 1) + self.begins[k]
                    if magnitude > 32767:
                        raise DamagedFrame("a factor beyond its limit")
                    numbers[j, i] = -magnitude if rest & 1 else magnitude
                    running[side] += 16 * magnitude - running[side] >> 3
        return kappa, *sides


def cosines(k):
    """B of 20.6."""
    table = [[math.sqrt((1 + (u > 0)) / k) * math.cos(math.pi * (2 * i + 1) * u / (2 * k)) for i in range(k)] for u in range(k)]
    return np.array([[round(65536 * b) for b in row] for row in table], np.int64)


class ContextParameters(Parameters):
    """20.1; decodes the blocks and the pack of 20.4."""

    def read(self, reader):
        flags, self.m = reader.integer(1), reader.integer(2)
        self.e = struct.unpack("<h", reader.raw(2))[0]
        if flags & 192 == 192 or flags & 8 and flags & 48 or self.m < 32768 or not -160 <= self.e <= 128:
            reader.damaged("flags or step")
        self.exact = None
        if flags & 8:
            self.exact = reader.integer(4), reader.integer(1)
            if self.exact[1] > 31 or self.exact[0] << self.exact[1] > 0x7F7FFFFF:
                reader.damaged("exact levels")
        self.dependent, self.signs = flags & 32, flags & 192
        self.read_tables(reader)
        self.layers, self.columns, self.packed_elements, self.packed = {}, {}, 0, None
        if flags & 1:
            self.read_layers(reader)
        if flags & 2:
            self.read_columns(reader)
        self.has_transforms, self.transforms = flags & 16, None
        if self.has_transforms:
            self.first_transformed, self.transform_stream = reader.uvarint(0, 2**32 - 1), reader.string()
        if flags & 4:
            self.packed_elements = reader.uvarint(1, 1 << 20)
            self.pack = reader.raw(len(reader.data) - reader.at)

    def read_tables(self, reader):
        bits = BitReader(reader)
        self.ladders, self.shifted, self.lowest, escapes = [], [], 0, None
        count = bits.take(5)
        if self.dependent and not count:
            reader.damaged("dependent levels without tables")
        if count:
            self.lowest = bits.take(5) - 16
            if self.lowest + count - 1 > 5 or self.lowest == 5:
                reader.damaged("contexts above 5")
            low = bits.take(2)
            for _ in range(count):
                self.ladders.append(Ladder(bits, self.ladders[-1] if self.ladders else None, low, 16))
            if self.dependent:
                self.shifted = [Ladder(bits, ladder, low, 16, (4, 0)) for ladder in self.ladders]
            if bits.take(1):
                escapes = Ladder(bits, None, 2, 32)
                if not escapes.closed:
                    reader.damaged("open table of escapes")
        for ladders in (self.ladders, self.shifted):
            for t, ladder in enumerate(ladders):
                if ladder.closed and self.lowest + t >= 4 or not ladder.closed and escapes is None:
                    reader.damaged("a table that is closed or open and must not be")
        self.tables = [[ladder.level_table(self.signs) for ladder in ladders] for ladders in (self.ladders, self.shifted)]
        self.escapes = escapes and Table(escapes.stop)
        self.offsets, present = [[], []], bits.take(1)
        for ladders, offsets in zip((self.ladders, self.shifted), self.offsets):
            before = [0, 0, 0]
            for ladder in ladders:
                for j in range(3 if present else 0):
                    if j + 1 < ladder.rungs:
                        before[j] += signed_rice(bits, 1, 62)
                        if abs(before[j]) > 31:
                            reader.damaged("offset")
                offsets.append(tuple(before))
        bits.align()

    def read_layers(self, reader):
        tensor = 0
        for i in range(reader.uvarint()):
            tensor += reader.uvarint(1 if i else 0, 2**32 - 1)
            shapes, count = [], reader.uvarint(1, 1 << 20)
            while len(shapes) < count:
                distance = reader.uvarint(0, len(shapes))
                if distance:
                    for _ in range(reader.uvarint(1, count - len(shapes))):
                        shapes.append(shapes[-distance])
                else:
                    shapes.append([reader.uvarint(1, 1 << 40) for _ in range(reader.uvarint(0, 32))])
            if sum(map(math.prod, shapes)) > 2**62:
                reader.damaged("layers of more than 2^62 elements")
            self.layers[tensor] = shapes

    def read_columns(self, reader):
        places, tensor = [], 0
        for _ in range(reader.uvarint()):
            tensor += reader.uvarint(0, 2**32 - 1)
            places.append(((tensor, reader.uvarint(0, 2**32 - 1)), reader.uvarint(0, 1 << 40)))
            if len(places) > 1 and places[-1][0] <= places[-2][0]:
                reader.damaged("entries do not ascend")
        data = reader.string()
        if sum(count for _, count in places) // 2048 > len(data):
            reader.damaged("too many scales")
        stream = ContextStream(data)
        for place, count in places:
            self.columns[place] = stream.scales(count, True)
        self.finish(stream, np.zeros(0, np.int64))

    def use(self, context):
        """Table and raw bits of a context (20.2)."""
        context, highest = min(context, 60), self.lowest + len(self.ladders) - 1
        if not self.ladders or context < self.lowest:
            return None, 0
        raw = (context - 2) // 2 if context >= 4 else 0
        if context <= highest:
            return context - self.lowest, raw
        return (highest - self.lowest, 0) if highest < 5 else (4 + context % 2 - self.lowest, raw)

    def value(self, table, raw, level, shifted=0):
        """20.3, and 20.7 for levels of the shifted quantizer."""
        if level == 0:
            return np.float32(0)
        if self.exact is not None:
            key = min(abs(level) - 1 + self.exact[0] << self.exact[1], 0x7F7FFFFF)
            return np.uint32(key | (level < 0) << 31).view(np.float32)
        units = 256 * abs(level) - 128 * shifted
        if raw == 0:
            units = max(0, units + 8 * self.offsets[shifted][table][min(abs(level), 3) - 1])
        if self.has_transforms:
            return np.float32(math.copysign(units, level))
        magnitude = min(math.ldexp(units * self.m, self.e - 8), float(np.finfo(np.float32).max))
        return np.float32(math.copysign(magnitude, level))

    def decode_block(self, reader, place):
        return self.decode_stream(reader.raw(len(reader.data)), [(place.tensor, place.first, place.count)])

    def decode_empty(self, place):
        packed = [tensor for tensor in self.tensors if 1 <= tensor.elements <= self.packed_elements]
        if place.tensor not in packed:
            zeros = np.zeros(place.count, np.float32)
            if not self.has_transforms:
                return zeros
            ranges = [(place.tensor, place.first, place.count)]
            return self.undo_transforms(zeros, [piece[:3] for piece in self.pieces(ranges)])
        if self.packed is None:
            if sum(tensor.elements for tensor in packed) > 1 << 20:
                raise DamagedFrame("more packed elements than 2^20")
            self.packed = self.decode_stream(self.pack, [(tensor, 0, tensor.elements) for tensor in packed])
        first = sum(tensor.elements for tensor in packed[: packed.index(place.tensor)]) + place.first
        return self.packed[first : first + place.count]

    def decode_stream(self, data, ranges):
        """20.4"""
        stream, contexts, pieces = ContextStream(data), [], []
        for place, low, high, view in self.pieces(ranges):
            contexts.append(self.read_contexts(stream, place, view, low, high))
            pieces.append((place, low, high))
        contexts = np.concatenate(contexts)
        if self.dependent:
            values = self.finish_dependent(stream, contexts, {sum(r[2] for r in ranges[:i]) for i in range(len(ranges))})
        else:
            values = self.finish(stream, contexts)
        return self.undo_transforms(values, pieces) if self.has_transforms else values

    def pieces(self, ranges):
        """20.5: (tensor number, part), first and last elements of the part, and its view."""
        if self.has_transforms and self.transforms is None:
            self.read_transforms()
        for tensor, first, count in ranges:
            shapes = self.layers.get(tensor.number)
            views = [scale_view(tensor.shape, tensor.fortran)] if shapes is None else [scale_view(s, False) for s in shapes]
            if sum(map(math.prod, views)) != tensor.elements:
                raise DamagedFrame(f"tensor {tensor.number}: its layers have another number of elements")
            begin = 0
            for part, view in enumerate(views):
                end = begin + math.prod(view)
                if begin < first + count and end > first:
                    yield (tensor.number, part), max(first, begin) - begin, min(first + count, end) - begin, view
                begin = end

    def read_transforms(self):
        """20.6"""
        stream, modes, same = ContextStream(self.transform_stream), [AdaptiveTable(), AdaptiveTable()], {}
        factors, unit, self.transforms = FactorTables(), None, {}
        for tensor in self.tensors:
            if tensor.number < self.first_transformed:
                continue
            shapes = self.layers.get(tensor.number)
            if shapes is not None and sum(map(math.prod, shapes)) != tensor.elements:
                continue
            for part, shape in enumerate([tensor.shape] if shapes is None else shapes):
                fortran = tensor.fortran and shapes is None
                rows, columns, inner = scale_view(shape, fortran)
                if min(rows, columns) < 2 or max(columns, rows * inner) >= 1 << 24:
                    continue
                extents = list(shape)
                while extents and extents[0] == 1:
                    extents = extents[1:]
                kernel = [] if fortran else [k for k in extents[2:] if k != 1]
                takes_dct = 1 <= len(kernel) <= 3 and max(kernel) <= 7
                mode = modes[takes_dct].take(stream)
                if mode > 7 or mode & 5 == 4 or mode & 1 and not takes_dct:
                    raise DamagedFrame("an unknown transform")
                if mode & 5 == 1:
                    same[inner] = stream.scales(inner, True)
                if mode & 1 and inner not in same:
                    raise DamagedFrame("frequency offsets that were not given")
                if mode & 2 and unit is None:
                    m, e = stream.raw(8) << 8 | stream.raw(8), stream.raw(8) << 8 | stream.raw(8)
                    unit = m, (e ^ 0x8000) - 0x8000
                    if m < 0x8000:
                        raise DamagedFrame("an impossible unit of factors")
                predicted = self.weigh(factors.read(stream, columns, rows * inner), unit) if mode & 2 else None
                if mode:
                    offsets = same[inner] if mode & 1 else np.zeros(inner, np.int64)
                    self.transforms[tensor.number, part] = kernel if mode & 1 else [], offsets, predicted, (columns, inner)
        self.finish(stream, np.zeros(0, np.int64))

    def weigh(self, stored, unit):
        """20.6: left factors and weighted right ones."""
        kappa16, left, right = stored
        shift = 16 + unit[1] - self.e
        kappa = (kappa16 * unit[0] << shift) // self.m if 0 <= shift <= 38 else 0
        if not 1 <= kappa <= 255 << 16:
            raise DamagedFrame("a unit of factors far from the step")
        weighted = []
        for vector in right.tolist():
            squares = sum(q * q for q in vector)
            e = 46 - squares.bit_length() >> 1
            root = math.isqrt(squares << 2 * e if e >= 0 else squares >> -2 * e)
            factor, divisor = kappa << 4 + max(e, 0), root << max(-e, 0)
            weighted.append([(2 * factor * q + divisor) // (2 * divisor) if root else 0 for q in vector])
        return left, np.array(weighted, np.int64)

    def undo_transforms(self, units, pieces):
        """20.6: values from 1/256 steps."""
        result, at = units.astype(np.int64), 0
        for place, low, high in pieces:
            own, at = result[at : at + high - low], at + high - low
            if place not in self.transforms:
                continue
            kernel, _, predicted, (columns, inner) = self.transforms[place]
            begin, end = -low % inner, (high // inner) * inner - low
            if begin < end and predicted:
                left, right = predicted
                element = np.arange(low + begin, low + end)
                row, column = element // (columns * inner), element // inner % columns
                own[begin:end] += (left[:, column] * right[:, row * inner + element % inner]).sum(0) + 32768 >> 16
            if begin < end and kernel:
                x = np.clip(own[begin:end], -(1 << 34), 1 << 34).reshape(-1, *kernel) * 256
                for axis, k in enumerate(kernel, 1):
                    x = np.moveaxis(np.tensordot(x, cosines(k), (axis, 0)) + 32768 >> 16, -1, axis)
                own[begin:end] = (x + 128 >> 8).ravel()
        scaled = np.clip(result, 1 - (1 << 37), (1 << 37) - 1).astype(np.float64) * math.ldexp(self.m, self.e - 8)
        largest = float(np.finfo(np.float32).max)
        return np.clip(scaled, -largest, largest).astype(np.float32)

    def read_contexts(self, stream, place, view, low, high):
        """20.5: the contexts of elements low..high - 1 of a part."""
        rows, columns, inner = view
        layout, element = stream.layouts.take(stream), np.arange(low, high)
        if layout == 2:
            if (low, high) == (0, rows * columns * inner):
                of_columns = stream.scales(columns, True)
            else:
                of_columns = self.columns.get(place, ())
                if len(of_columns) != columns:
                    raise DamagedFrame(f"tensor {place[0]}: column scales are missing")
        length = {0: high, 1: columns * inner, 2: columns * inner}.get(layout, 2 << layout)
        run = element // length - low // length if layout else np.zeros(high - low, np.int64)
        contexts = stream.scales(int(run[-1]) + 1, False)[run]
        if self.has_transforms and place in self.transforms:
            contexts = contexts + self.transforms[place][1][element % inner]
        return contexts + of_columns[element // inner % columns] if layout == 2 else contexts

    def sign_reader(self, bits):
        """What reads a sign that no symbol has (20.4)."""
        return (lambda: self.signs == 128) if self.signs else (lambda: bits.take(1))

    def finish(self, stream, contexts):
        """Sections 2 and 3 and the raw bits of 20.4."""
        values, symbols, uses = np.zeros(contexts.size, np.float32), [], {}
        for i, context in enumerate(contexts.tolist()):
            if context not in uses:
                uses[context] = self.use(context)
            table, raw = uses[context]
            if table is not None:
                stream.lane = i & stream.mask
                symbol = stream.take(self.tables[0][table])
                if symbol or raw:
                    symbols.append((i, symbol, table, raw))
        stream.begin_section()
        lengths = [stream.take(self.escapes) for _, symbol, _, _ in symbols if symbol == 31]
        if any(x != 1 << 16 for x in stream.states):
            stream.reader.damaged("a state is wrong at the end")
        bits = BitReader(stream.reader)
        lengths, sign = iter(lengths), self.sign_reader(bits)
        for i, symbol, table, raw in symbols:
            magnitude, negative = symbol + 1 >> 1, symbol and not symbol & 1
            if symbol == 31:
                negative, length = sign(), next(lengths)
                magnitude = self.ladders[table].rungs - 1 + (1 << length) + bits.take(length)
            if raw:
                if symbol == 0:
                    negative = sign()
                magnitude = magnitude << raw | bits.take(raw)
            if magnitude > 2147483632:
                stream.reader.damaged("level beyond its limit")
            values[i] = self.value(table, raw, -magnitude if negative else magnitude)
        bits.align()
        stream.reader.expect_end()
        return values

    def finish_dependent(self, stream, contexts, begins):
        """20.7: section 2 of a stream whose ranges begin at these elements, with the raw bits from its end."""
        values, uses, state = np.zeros(contexts.size, np.float32), {}, 0
        bits = BitReader(ByteReader(stream.reader.data[::-1], "raw bits"))
        sign = self.sign_reader(bits)
        for i, context in enumerate(contexts.tolist()):
            state = 0 if i in begins else state
            if context not in uses:
                uses[context] = self.use(context)
            table, raw = uses[context]
            if table is None:
                continue
            shifted = state & 1
            stream.lane = i & stream.mask
            symbol = stream.take(self.tables[shifted][table])
            magnitude, negative = symbol + 1 >> 1, symbol and not symbol & 1
            if symbol == 31:
                stream.lane = i & stream.mask
                length, negative = stream.take(self.escapes), sign()
                rungs = (self.shifted if shifted else self.ladders)[table].rungs
                magnitude = rungs - 1 + (1 << length) + bits.take(length)
            if raw:
                if symbol == 0:
                    negative = sign()
                magnitude = magnitude << raw | bits.take(raw)
            if magnitude > 2147483632:
                stream.reader.damaged("level beyond its limit")
            values[i] = self.value(table, raw, -magnitude if negative else magnitude, shifted)
            state = ((0, 2), (5, 7), (1, 3), (6, 4), (2, 0), (4, 6), (3, 1), (7, 5))[state][magnitude & 1]
        if any(x != 1 << 16 for x in stream.states):
            stream.reader.damaged("a state is wrong at the end")
        bits.align()
        if bits.reader.at + stream.reader.at != len(stream.reader.data):
            stream.reader.damaged("its raw bits end elsewhere")
        return values


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

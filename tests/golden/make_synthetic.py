#!/usr/bin/python3
"""Writes frames that the format allows and libjsq's encoder does not write: 16 lanes, activities that are not those of the
classes, absent tables, parameter sets that nothing uses, the ends of what grids and floats can hold. Each is made from the
values that it has to decode to.

    make_synthetic.py OUT_FOLDER
"""
import fractions
import math
import pathlib
import struct
import sys

import frame_writer as w
from frame_writer import decode_frame

CELL, MID, OFFMAG, SYM = range(4)
RAW, BITMAP, RICE, ENTROPY = range(4)


class Draws:
    """A linear congruential generator (Knuth's MMIX): the same draws everywhere."""

    def __init__(self, seed):
        self.state = seed

    def below(self, count):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % count


def draw_elements(widths, count, seed, classes=None):
    """Classes, sign bits and magnitude indices of `count` elements; runs get denser, so that all activities occur."""
    draws = Draws(seed)
    if classes is None:
        last = len(widths) - 1
        classes = []
        for i in range(count):
            density = (i // w.RUN) % 12
            classes.append(last if density == 11 else min(last, draws.below(last + 1)) if draws.below(11) < density else 0)
    signs = [draws.below(2) if widths[c] else 0 for c in classes]
    magnitudes = [draws.below(1 << widths[c] - 1) if widths[c] else 0 for c in classes]
    return classes, signs, magnitudes


def exact_ranges(quantizer, widths, step=fractions.Fraction(1, 8)):
    """A range for each class of a width above 0, such that all arithmetic on it is exact: (low, high, step)."""
    ranges = {}
    for j, width in enumerate(widths):
        if width:
            h, low = 1 << (width - 1), j * step if quantizer in (CELL, OFFMAG) else 0
            intervals = {CELL: h, OFFMAG: h - 1, MID: 2 * h - 1, SYM: h - 1}[quantizer]
            ranges[j] = (low, low + intervals * step, step)
    return ranges


def value(quantizer, scale, sign, magnitude):
    """4.2 in exact arithmetic."""
    low, _, step = scale
    m = {CELL: magnitude + fractions.Fraction(1, 2), OFFMAG: magnitude, MID: 2 * magnitude + 1, SYM: magnitude}[quantizer]
    result = float(low + m * step)
    return -result if sign and not (quantizer == SYM and magnitude == 0) else result


def stored_ranges(quantizer, ranges):
    return [float(x) for low, high, _ in ranges.values() for x in ((low, high) if quantizer in (CELL, OFFMAG) else (high,))]


def drawn_frame(widths, quantizer, packer, tables, count, seed, elements=None, activities=None, **fields):
    """A frame of one f32 tensor of drawn elements, and the stored bytes that it decodes to."""
    ranges = exact_ranges(quantizer, widths)
    bits = w.Bits()
    tables(bits)
    parameters = w.parameters(widths, quantizer, packer, ranges=stored_ranges(quantizer, ranges), tables=bits.align(), **fields)
    classes, signs, magnitudes = elements or draw_elements(widths, count, seed)
    payload = w.block(parameters, classes, signs, magnitudes, activities)
    values = [value(quantizer, ranges[c], s, m) if widths[c] else 0.0 for c, s, m in zip(classes, signs, magnitudes)]
    return w.frame([w.Tensor(shape=(count,), payloads=(payload,))], [parameters]), struct.pack(f"<{count}f", *values)


def full_tables(activities, classes, magnitude_tables):
    """Tables (4.4) without a symbol of weight 0. `magnitude_tables`: alphabet of each table of magnitude indices."""

    def put(bits):
        if activities is not None:
            bits.put(activities, 4)
            for a in range(activities if classes else 0):
                w.put_table(bits, [1 + 14 * (a == b) for b in range(activities)])
            for a in range(1, activities if classes else 0):
                w.put_table(bits, [max(1, 7680 >> j * (10 - a)) for j in range(classes)])
        for symbols in magnitude_tables:
            w.put_table(bits, [13 - s // 2 for s in range(symbols)])

    return put


def lanes_16():
    tables = full_tables(9, 4, [2] + [8] * 8 + [16] * 8)
    return drawn_frame([0, 2, 4, 8], CELL, ENTROPY, tables, 3001, 1, lanes_log2=4, coded=7, by_activity=6)


def nine_classes(packer, quantizer, lanes_log2):
    widths = list(range(9))
    alphabets = [1 << min(width - 1, 4) for width in range(2, 9)]
    tables = full_tables(10, 9 if packer == ENTROPY else 0, [s for s in alphabets for _ in range(9)])
    return drawn_frame(widths, quantizer, packer, tables, 777, 2, lanes_log2=lanes_log2, coded=0xFE, by_activity=0xFE)


def every_class_kept():
    return drawn_frame([2, 4, 5], MID, ENTROPY, full_tables(8, 3, [8, 16]), 500, 3, coded=3)


def one_class():
    """All classes are 0, and yet activities above 0 may be coded: their tokens hold nothing but zeros."""
    widths, count = [4], 130
    tables = full_tables(3, 1, [])
    return drawn_frame(widths, SYM, ENTROPY, tables, count, 4, elements=draw_elements(widths, count, 4, [0] * count),
                       activities=[0, 1, 2, 2, 1])


def coded_activities():
    """Where activities are coded, they choose the tables, whatever the classes add up to."""
    widths, count = [0, 3], 200
    tables = full_tables(10, 2, [4] * 9)
    return drawn_frame(widths, OFFMAG, ENTROPY, tables, count, 5, activities=[9, 8, 7, 1, 2, 3, 4], coded=1, by_activity=1)


def absent_tables():
    """An absent table has one symbol, 0, and so has an activity of K or above."""
    widths, count = [0, 3], 300

    def tables(bits):
        bits.put(4, 4)
        w.put_table(bits, [1, 2, 3, 4])
        w.put_table(bits, None)
        w.put_table(bits, None)

    classes = [1 if i % w.RUN < (1 << i // w.RUN >> 1) else 0 for i in range(count)]
    _, signs, magnitudes = draw_elements(widths, count, 6, classes)
    magnitudes = [m if i // w.RUN == 1 else 0 for i, m in enumerate(magnitudes)]
    return drawn_frame(widths, CELL, RAW, tables, count, 6, elements=(classes, signs, magnitudes), coded=1, by_activity=1)


def absent_map_tables():
    """After an activity without a table comes activity 0; classes without a table are 0."""
    widths, count = [0, 2], 96

    def tables(bits):
        bits.put(3, 4)
        w.put_table(bits, [0, 5, 5])
        w.put_table(bits, None)
        w.put_table(bits, [0, 0, 9])
        w.put_table(bits, [3, 1])
        w.put_table(bits, None)

    classes = [1 if i < w.RUN and i % 5 == 0 else 0 for i in range(count)]
    return drawn_frame(widths, CELL, ENTROPY, tables, count, 7, elements=draw_elements(widths, count, 7, classes),
                       activities=[1, 0, 2])


def planes(widths, quantizer, words, ranges, values, **fields):
    """A frame of a raw map of one class, with the given code words."""
    parameters = w.parameters(widths, quantizer, RAW, ranges=ranges)
    payload = w.plane(words, widths[0])
    return w.frame([w.Tensor(shape=(len(words),), payloads=(payload,), **fields)], [parameters]), values


def sym_unused_code_word():
    """Two's complement without its lowest number: code word h is zero."""
    words, values = [0, 1, 2, 3, 4, 5, 6, 7], [0.0, 1.0, 2.0, 3.0, 0.0, -3.0, -2.0, -1.0]
    return planes([3], SYM, words, [3.0], struct.pack("<8f", *values))


def negative_zeros():
    return planes([2], OFFMAG, [0, 1, 2, 3], [0.0, 0.0], struct.pack("<4f", 0.0, 0.0, -0.0, -0.0))


def clamped_to_the_range():
    """7 x (7340036 / 7) comes to 7340036.5 in binary32, and is brought back to the end of the range."""
    high, step = 7340036.0, 1048576.625
    values = [m * step for m in range(7)] + [high]
    return planes([4], OFFMAG, list(range(8)), [0.0, high], struct.pack("<8f", *values))


def f16_saturation():
    """65504 is the largest f16; between 65504 and infinity a finite value stays finite."""
    return planes([2], OFFMAG, [0, 1, 2, 3], [65504.0, 1e30], struct.pack("<4H", 0x7BFF, 0x7BFF, 0xFBFF, 0xFBFF), dtype=1)


def f16_ties():
    """2^-25 and 3 x 2^-25 lie between two f16 (multiples of 2^-24), and go to the even one."""
    return planes([2], OFFMAG, [0, 1, 2, 3], [2.0**-25, 3 * 2.0**-25], struct.pack("<4H", 0, 2, 0x8000, 0x8002), dtype=1)


def bf16_ties_and_saturation():
    """1 + 2^-8 is a tie and goes down to even; the largest f32 would round to infinity."""
    top = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
    return planes([2], OFFMAG, [0, 1, 2, 3], [1 + 2.0**-8, top], struct.pack("<4H", 0x3F80, 0x7F7F, 0xBF80, 0xFF7F), dtype=2)


def rice_parameter_31():
    bits = w.Bits().put(31, 8).put(2, 32).unary(0).put(3, 31).unary(0).put(7, 31)
    payload = bits.align() + w.plane([0, 1], 1)
    parameters = w.parameters([0, 1], OFFMAG, RICE, ranges=[2.0, 2.0])
    values = [0.0] * 12
    values[3], values[11] = 2.0, -2.0
    return w.frame([w.Tensor(payloads=(payload,))], [parameters]), struct.pack("<12f", *values)


def sets_that_nothing_reads():
    """Tensors of zeros do not need their parameter set, so that it may be of a method to come, or damaged."""
    parameters = w.parameters([2], OFFMAG, RAW, ranges=[1.0, 2.0])
    tensors = [
        w.Tensor(shape=(5,), name=b"new", payloads=(b"",), parameter_set=0),
        w.Tensor(shape=(4,), name=b"known", payloads=(w.plane([0, 1, 2, 3], 2),), parameter_set=1),
        w.Tensor(shape=(0, 2**40), name=b"empty", parameter_set=2),
    ]
    sets = [(2**32 - 1, b"new"), (1, parameters), (1, b"")]
    return w.frame(tensors, sets), b"\0" * 20 + struct.pack("<4f", 1.0, 2.0, -1.0, -2.0)


def nothing():
    """A frame without a dump."""
    return w.seal(w.header(), b"", b"\0" + w.directory([], [])), b""


def largest_fields():
    """Name and path of 65,535 bytes, 32 axes, 4,096 metadata entries, the largest seed."""
    parameters = w.parameters([2], OFFMAG, RAW, ranges=[1.0, 2.0])
    tensor = w.Tensor(shape=(1,) * 31 + (2,), name=b"n" * 65535, payloads=(w.plane([1, 2], 2),), block_log2=20)
    content = w.directory([w.dump([tensor], path=b"p" * 65535, dump_format=2)], [(1, parameters)], w.uvarint(2**64 - 1),
                          metadata=((b"", b""),) * 4096)
    return w.seal(w.header(), b"".join(tensor.blocks(0)), w.packed(content)), struct.pack("<2f", 2.0, -1.0)


def exceptions():
    """Exceptions at both ends, next to each other, in a block of zeros that takes no bytes."""
    bits = [0x7FF8000000000001, 0xFFF0000000000000, 0x7FF4DEADBEEF0000]
    record = b"".join(w.uvarint(gap) + struct.pack("<Q", b) for gap, b in zip((0, 0, 197), bits))
    tensor = w.Tensor(shape=(200,), payloads=(b"",), dtype=4, treatment=2, nonfinite=3, exceptions=record)
    return w.frame([tensor], [w.parameters([0])]), struct.pack("<200Q", *bits[:2], *[0] * 197, bits[2])


# --- 10 to 18: the other methods ------------------------------------------------------------------------------------

FIXED, BASE243, ELIAS_SPARSE, ELIAS_DENSE, ENTROPY_CODED = range(5)
LARGEST = float.fromhex("0x1.fffffep+127")


def frame_of(cases, **fields):
    """A frame of f32 tensors, for each its method, parameters, payload, values, and where they matter its other fields."""
    tensors = [
        w.Tensor(payloads=(case[2],), parameter_set=i, **{"shape": (len(case[3]),), **(case[4] if len(case) > 4 else {})})
        for i, case in enumerate(cases)
    ]
    values = [value for case in cases for value in case[3]]
    return w.frame(tensors, [case[:2] for case in cases], **fields), struct.pack(f"<{len(values)}f", *values)


def f32(*values):
    return struct.pack(f"<{len(values)}f", *values)


def f32_of(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def uniform_grid(steps, workers=1, scale=None):
    """11.1, grid 0, one scale for the tensor; without another one a level is its own value."""
    return b"\0" + w.uvarint(steps) + w.uvarint(workers) + w.uvarint(0) + f32(steps if scale is None else scale)


def fixed_levels(levels, low, high):
    """A level block without scales (10)."""
    return bytes([FIXED]) + w.plane([l - low for l in levels], (high - low).bit_length())


def put_omega(bits, value):
    """Elias' omega code, from its definition."""
    code = "0"
    while value > 1:
        code = format(value, "b") + code
        value = len(format(value, "b")) - 1
    return bits.put(int(code, 2), len(code))


def entropy_coded_levels(levels, scheme, lanes_log2, weights, signed=True):
    """10, entropy, in any scheme; `weights` are those of the tokens."""
    small, first_bits = [(16, 4), (8, 3), (4, 2)][scheme]
    tokens, fields = [], w.Bits()
    for level in levels:
        magnitude = abs(level)
        length = magnitude.bit_length() - 1
        tokens.append(magnitude if magnitude < small else small + length - first_bits)
        if magnitude and signed:
            fields.put(level < 0, 1)
        if magnitude >= small:
            fields.put(magnitude - (1 << length), length)
    head = w.Bits().put(scheme, 2).put(lanes_log2, 2).put(len(weights) - 1, 4)
    w.put_table(head, weights)
    table, lanes = decode_frame.Table(weights), 1 << lanes_log2
    stream = w.rans([[(table, token) for token in tokens]], lanes)
    return bytes([ENTROPY_CODED]) + head.align() + w.uvarint((len(stream) - 4 * lanes) // 2) + stream + fields.align()


def level_examples():
    """The examples of section 10."""
    mixed = [0, -1, 0, 2, 0, 0, 3, -4]
    examples = [
        (FIXED, 1, [-1, 0, 1, 0, 1], "19 80"),
        (BASE243, 1, [0, 0, 0, 1, 0, 0, 0, -1], "7C 6C"),
        (ELIAS_SPARSE, 4, mixed, "AA 51 33 34 00"),
        (ELIAS_DENSE, 4, mixed, "4B 0A 15 40"),
        (ENTROPY_CODED, 1, [0] * 100, "00 EF"),
        (ENTROPY_CODED, 1, [-1, -1, -1], "01 86 F0 E0"),
        (ENTROPY_CODED, 100, [-20], "49 80 00 00 00 06 F0 A0"),
        (ENTROPY_CODED, 1, [0, -1], "01 E8 D0 00 00 10 04 00 80"),
    ]
    return frame_of([(5, uniform_grid(s), bytes([p]) + bytes.fromhex(code), levels) for p, s, levels, code in examples])


def largest_levels():
    """Levels of 21 bits and a sign; with entropy coding magnitudes of 14 bits, each scheme, 1 to 8 lanes."""
    top, levels = 1 << 20, [1 << 20, -(1 << 20), 0, 1, -1, 65535]
    sparse, dense = put_omega(w.Bits(), 6), w.Bits()  # five levels that are not 0
    for gap, level in zip((1, 1, 2, 1, 1), [l for l in levels if l]):
        put_omega(put_omega(sparse, gap).put(level < 0, 1), abs(level))
    for level in levels:
        put_omega(dense, abs(level) + 1)
        if level:
            dense.put(level < 0, 1)
    payloads = [fixed_levels(levels, -top, top), b"\2" + sparse.align(), b"\3" + dense.align()]
    cases = [(5, uniform_grid(top), payload, levels) for payload in payloads]
    draws = Draws(8)
    for scheme, most in enumerate((15, 2047, 16383)):
        for lanes_log2 in range(4):
            drawn = [0, most, -most] + [draws.below(2 * most + 1) - most for _ in range(97)]
            payload = entropy_coded_levels(drawn, scheme, lanes_log2, [9 - t // 2 for t in range(16)])
            cases.append((8, uniform_grid(1, 16383), payload, drawn))
    return frame_of(cases)


def grids():
    """All levels of every grid (11.2), with ids that write other ones; values are exact or cut to the largest number."""
    two, top = fractions.Fraction(2), fractions.Fraction(LARGEST)

    def case(method, head, low, high, value):
        levels = range(low, high + 1)
        values = [max(-LARGEST, min(LARGEST, float(value(level)))) for level in levels]
        return method, head, fixed_levels(levels, low, high), values

    def power(level, exponent):
        """2^exponent with the sign of the level; 0 for level 0."""
        return two**exponent * ((level > 0) - (level < 0))

    def head(grid, *fields, scale):
        return bytes([grid]) + b"".join(map(w.uvarint, fields)) + w.uvarint(0) + f32(scale)

    return frame_of([
        case(19, head(0, 4, 2, scale=3.0), -8, 8, lambda l: fractions.Fraction(3 * l, 4)),
        case(7, head(0, 1, 3, scale=LARGEST), -3, 3, lambda l: l * top),
        case(5, head(1, 126, scale=2.0**-10), -127, 127, lambda l: power(l, abs(l) - 137)),
        case(8, b"\2" + w.uvarint(0) + w.uvarint(276), -277, 277, lambda l: power(l, 128 - abs(l))),
        case(18, head(3, 3, scale=1.5), -4, 3, lambda l: (two ** (l - 3) if l >= 0 else -(two ** (-l - 4))) * 3 / 2),
        case(6, head(4, 8, 4, scale=0.5), -8, 8, lambda l: fractions.Fraction(l, 4)),
        case(6, head(4, 1, 8, scale=LARGEST), -1, 1, lambda l: l * 8 * top),
        case(5, head(5, 127, 2, scale=2.0**-20), -127, 127, lambda l: power(l, -18 - abs(l))),
        case(5, head(5, 2, 4, scale=LARGEST), -2, 2, lambda l: power(l, 3 - abs(l)) * top),
    ])


def buckets():
    """A bucket of zeros, a short last bucket, a level that is not 0 of a scale of 0."""
    head = b"\0" + w.uvarint(2) + w.uvarint(1) + w.uvarint(3)
    levels, scales = [1, -2, 0, 0, 2, -1, -2, 1], [4.0, 0.0, 0.5]
    payload = b"\0" + f32(*scales) + fixed_levels(levels, -2, 2)[1:]
    return frame_of([(5, head, payload, [scales[i // 3] * level / 2 for i, level in enumerate(levels)])])


def class_means():
    """Rows and columns of a 2 x 3 matrix in both storage orders, as groups (13); a bit is 1 below 0."""
    bits, cases = [1, 0, 0, 1, 1, 0], []
    for kind, extent in ((1, 2), (2, 3)):
        for fortran in (False, True):
            pairs = [(-1.0 - g, 10.0 + g) for g in range(extent)]
            index = [(i % 2, i // 2) if fortran else (i // 3, i % 3) for i in range(6)]
            head = bytes([kind]) + w.uvarint(extent) + b"".join(f32(*pair) for pair in pairs)
            values = [pairs[index[i][kind - 1]][1 - bit] for i, bit in enumerate(bits)]
            cases.append((11, head, w.plane(bits, 1), values, {"shape": (2, 3), "flags": 32 * fortran}))
    cases.append((11, b"\1\1" + f32(-0.0, 0.0), w.plane(bits, 1), [-0.0 if bit else 0.0 for bit in bits]))
    return frame_of(cases)


def dense_values():
    """Zeros of both signs, the smallest and the largest numbers."""
    return frame_of([
        (2, b"", struct.pack("<4I", 0x80000000, 1, 0x7F7FFFFF, 0x3F800000), [-0.0, 2.0**-149, LARGEST, 1.0]),
        (3, b"", struct.pack("<4H", 0x8000, 1, 0x7BFF, 0xC000), [-0.0, 2.0**-24, 65504.0, -2.0]),
        (4, b"", struct.pack("<4H", 0x8000, 1, 0x7F7F, 0xC000), [-0.0, 2.0**-133, f32_of(0x7F7F0000), -2.0]),
    ])


def sparse_floats(kind, shift, base, bits, packer=0):
    """15.1, values 0, 1 or 2, stored positions."""
    return bytes([kind, shift]) + w.uvarint(base) + bytes([bits, packer, 0])


def sparse_positions():
    """Indices of 32 bits and of ceil(log2 n), none for one element; all magnitudes of a float, and none but the base."""
    index32 = w.Bits().put(3, 32).put(1, 32).put(4, 32).put(9, 32).align() + w.plane([1, 0, 1], 1)
    packed = w.Bits().put(3, 32).put(1, 4).put(4, 4).put(9, 4).align() + w.plane([0, 1, 0], 1)
    one = w.Bits().put(1, 32).align() + w.plane([1], 1)
    top = w.plane([0x7F7FFFFF, 1, 0x3F800000], 31)
    return frame_of([
        (12, sparse_floats(0, 0, 0, 31, 4), w.string(index32) + top, [0, -LARGEST, 0, 0, 2.0**-149, 0, 0, 0, 0, -1.0]),
        (16, sparse_floats(0, 16, 0x3F80, 2, 5), w.string(packed) + w.plane([0, 1, 3], 2),
         [0, 1.0, 0, 0, -1.0078125, 0, 0, 0, 0, 1.0234375]),
        (14, sparse_floats(1, 0, 0x7BFF, 0, 5), w.string(one), [-65504.0]),
        (13, sparse_floats(2, 0, 0x4000, 0, 5), w.string(one), [-2.0]),
        (15, b"\4" + w.uvarint(1) + bytes([5, 0]), f32(0.75) + w.string(packed) + fixed_levels([0] * 3, 0, 0),
         [0, 0.75, 0, 0, -0.75, 0, 0, 0, 0, 0.75]),
    ])


def random_positions():
    """Words that equal the threshold's: then tensor and element decide (15.2). Zero is kept, and gain stops at the largest."""
    count, cases = 40, []
    for number, (tensor, element, at) in enumerate([(0, 7, 7), (1, 8, 7), (3, 0, 11), (2, 99, 20)]):
        words = decode_frame.random_words(5, number, 0, count, 3).tolist()
        threshold = words[at]
        kept = [i for i in range(count) if (words[i], number, i) < (threshold, tensor, element)]
        head = b"\x10\0" + w.uvarint(0) + bytes([31]) + struct.pack("<I", threshold) + w.uvarint(tensor) + w.uvarint(element)
        keys = [(0, 0x40000000, 0x7F7FFFFF, 1)[i % 4] for i in range(len(kept))]
        signs = [int(key > 0 and i % 3 == 0) for i, key in enumerate(keys)]
        values = [0.0] * count
        for i, key, negative in zip(kept, keys, signs):
            values[i] = min(LARGEST, 2 * f32_of(key)) * (-1 if negative else 1)
        cases.append((13, head + f32(2.0), w.plane([s << 31 | key for s, key in zip(signs, keys)], 32), values))
    return frame_of(cases, seed=b"\5")


def sample_counts():
    """16: counts of many samples, rounded when they become binary32."""
    counts, most = [0, 1, -1, 1 << 24, -(1 << 30)], 1 << 30
    head = w.uvarint(most) + f32(2.0) + w.uvarint(most)
    return frame_of([(17, head, fixed_levels(counts, -most, most), [2.0 * c / most for c in counts])])


def factors():
    """18: a product of two columns, by rows in C order and by columns in Fortran order; exponents beyond binary32."""
    inner, outer = [[1.0, 2.0, -3.0], [0.5, 0.0, 4.0]], [[2.0, 1.0], [-1.0, 8.0]]
    product = [a[0] * b + a[1] * c for a in outer for b, c in zip(*inner)]
    flat = [number for row in outer for number in row]
    columns = inner[0] + inner[1]

    def head(exponent, flags=0):
        numbers = struct.pack("<6e", *columns) if flags & 1 else f32(*columns)
        return bytes([flags]) + w.uvarint(2) + w.uvarint(exponent + 300) + numbers

    cut = [0.0 if v == 0 else math.copysign(LARGEST, v) for v in product]
    return frame_of([
        (21, head(-1), f32(*flat), [v / 2 for v in product], {"shape": (2, 3)}),
        (22, head(3, 1), struct.pack("<4e", *flat), [v * 8 for v in product], {"shape": (3, 2), "flags": 32}),
        (21, head(300), f32(*flat), cut, {"shape": (2, 3)}),
        (21, head(-300), f32(*flat), [math.copysign(0.0, v) for v in product], {"shape": (2, 1, 3)}),
    ])


FRAMES = {
    "lanes_16": lanes_16,
    "nine_classes_entropy": lambda: nine_classes(ENTROPY, OFFMAG, 3),
    "nine_classes_bitmap": lambda: nine_classes(BITMAP, CELL, 1),
    "nine_classes_rice": lambda: nine_classes(RICE, MID, 2),
    "nine_classes_raw": lambda: nine_classes(RAW, OFFMAG, 0),
    "every_class_kept": every_class_kept,
    "one_class": one_class,
    "coded_activities": coded_activities,
    "absent_tables": absent_tables,
    "absent_map_tables": absent_map_tables,
    "sym_unused_code_word": sym_unused_code_word,
    "negative_zeros": negative_zeros,
    "clamped_to_the_range": clamped_to_the_range,
    "f16_saturation": f16_saturation,
    "f16_ties": f16_ties,
    "bf16_ties_and_saturation": bf16_ties_and_saturation,
    "rice_parameter_31": rice_parameter_31,
    "sets_that_nothing_reads": sets_that_nothing_reads,
    "nothing": nothing,
    "largest_fields": largest_fields,
    "exceptions": exceptions,
    "level_examples": level_examples,
    "largest_levels": largest_levels,
    "grids": grids,
    "buckets": buckets,
    "class_means": class_means,
    "dense_values": dense_values,
    "sparse_positions": sparse_positions,
    "random_positions": random_positions,
    "sample_counts": sample_counts,
    "factors": factors,
}


def main(arguments):
    if len(arguments) != 1:
        return __doc__
    for name, make in FRAMES.items():
        data, expected = make()
        found = b"".join(tensor.stored for tensor in decode_frame.decode(data))
        if found != expected:
            return f"{name}: decode_frame.py decodes it to other values than it was made from"
        pathlib.Path(arguments[0], name + ".jsq").write_bytes(data)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/python3
"""Writes frames that the format allows and libjsq's encoder does not write: 16 lanes, activities that are not those of the
classes, absent tables, parameter sets that nothing uses. Each is made from the values that it has to decode to.

    make_synthetic.py OUT_FOLDER
"""
import fractions
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

#!/usr/bin/python3
"""Writes frames that every reader must refuse, and errors.tsv: file, error, what is wrong. Checksums are right unless they
are what is wrong, so that the check behind them has to refuse.

    make_corrupt.py FRAMES_FOLDER OUT_FOLDER
"""
import dataclasses
import pathlib
import struct
import sys

import zstandard

import frame_writer as w
from frame_writer import decode_frame
from make_synthetic import BITMAP, CELL, ENTROPY, MID, OFFMAG, RAW, RICE, SYM

DAMAGED, NEWER, LIMIT, NOT_A_FRAME = "damaged", "newer_format", "limit", "unsupported_format"

RAW_PARAMETERS = w.parameters([0, 2, 4], OFFMAG, RAW, ranges=[0.5, 1.0, 1.0, 4.0])
CLASSES = [0, 1, 2, 0, 0, 1, 0, 2, 0, 0, 0, 1]
SIGNS, MAGNITUDES = [0, 1] * 6, [0, 1, 5, 0, 0, 0, 0, 7, 0, 0, 0, 1]
NAN = struct.pack("<f", float("nan"))

cases = []


def case(name, error, data, why):
    cases.append((name, error, data, why))


def good():
    """A frame of twelve elements; what follows changes one thing in it."""
    return w.Tensor(payloads=(w.block(RAW_PARAMETERS, CLASSES, SIGNS, MAGNITUDES),))


def with_parameters(name, parameters, why, error=DAMAGED, payload=None):
    tensor = good() if payload is None else w.Tensor(payloads=(payload,))
    case(name, error, w.frame([tensor], [parameters]), why)


def with_payload(name, parameters, payload, why, count=12):
    case(name, DAMAGED, w.frame([w.Tensor(shape=(count,), payloads=(payload,))], [parameters]), why)


def with_tensor(name, why, /, **fields):
    tensor = dataclasses.replace(good(), **fields)
    case(name, DAMAGED, w.frame([tensor], [RAW_PARAMETERS], zstd=len(tensor.name) > 1000), why)


def with_directory(name, why, content=None, stored=None, error=DAMAGED, blocks=None):
    stored = b"\0" + content if stored is None else stored
    case(name, error, w.seal(w.header(), b"".join(good().blocks(0) if blocks is None else blocks), stored), why)


def content(**fields):
    """The directory of the good frame."""
    return w.directory([w.dump([good()])], [(1, RAW_PARAMETERS)], **fields)


def headers():
    frame = w.frame([good()], [RAW_PARAMETERS])
    rest = frame[8:-12]

    def sealed(head):
        stored = b"\0" + content()
        return head + rest + w.footer(head, stored)

    case("header_magic", NOT_A_FRAME, sealed(b"JSR\x1a" + frame[4:8]), "another magic")
    case("header_gzip", NOT_A_FRAME, b"\x1f\x8b\x08\0" + frame[4:], "the magic of gzip")
    case("header_checksum", DAMAGED, sealed(frame[:6] + bytes([frame[6] ^ 1]) + frame[7:8]), "wrong header checksum")
    case("header_version_without_checksum", DAMAGED, sealed(b"JSQ\x1a\2" + frame[5:8]), "version 2 under the checksum of version 1")
    case("header_version_0", NEWER, sealed(w.header(version=0)), "version 0")
    case("header_version_2", NEWER, sealed(w.header(version=2)), "version 2")
    case("header_version_255", NEWER, sealed(w.header(version=255)), "version 255")
    for bit in (0, 7):
        case(f"header_feature_{bit}", NEWER, sealed(w.header(features=1 << bit)), f"feature bit {bit}")


def footers():
    frame = w.frame([good()], [RAW_PARAMETERS])
    case("footer_checksum", DAMAGED, frame[:-1] + bytes([frame[-1] ^ 0x80]), "wrong footer checksum")
    for name, size in (("beyond_the_header", len(frame) - 19), ("of_the_file", len(frame)), ("largest", 2**32 - 1)):
        head, end = frame[:8], struct.pack("<I", size)
        stored = frame[max(8, len(frame) - 12 - size) : -12]
        checksum = struct.pack("<Q", w.xxhash.xxh3_64_intdigest(head + stored + end))
        case(f"footer_size_{name}", DAMAGED, frame[:-12] + end + checksum, f"directory of {size} bytes in a file of {len(frame)}")
    case("footer_size_0", DAMAGED, w.seal(w.header(), frame[8:-12], b""), "a stored directory of no bytes")
    stored = b"\0" + content()
    case("hole_before_the_directory", DAMAGED, w.seal(w.header(), b"".join(good().blocks(0)) + b"\0", stored), "a byte that nothing names")
    case("blocks_into_the_directory", DAMAGED, w.seal(w.header(), b"".join(good().blocks(0))[:-1], stored), "a block that overlaps the directory")
    case("no_blocks", DAMAGED, w.seal(w.header(), b"", stored), "a block that is not there")


def truncations(frames):
    for name in ("spec_example", "several_dumps"):
        frame = (frames / f"{name}.jsq").read_bytes()
        for keep in (0, 1, 3, 4, 7, 8, 19, 20, 40, len(frame) // 2, len(frame) - 12, len(frame) - 1):
            if keep < len(frame):
                case(f"truncated_{name}_{keep}", DAMAGED, frame[:keep], f"{keep} of {len(frame)} bytes")
        case(f"trailing_zero_{name}", DAMAGED, frame + b"\0", "a byte after the footer")
        case(f"trailing_footer_{name}", DAMAGED, frame + frame[-12:], "a second footer")
        case(f"leading_zero_{name}", NOT_A_FRAME, b"\0" + frame, "a byte before the header")


def stored_directories():
    plain = content()
    for coding in (2, 255):
        with_directory(f"directory_coding_{coding}", "unknown coding", stored=bytes([coding]) + plain)
    with_directory("directory_empty", "nothing after the coding", stored=b"\0")
    with_directory("directory_zstd_without_frame", "no zstd frame", stored=b"\1" + w.uvarint(len(plain)))
    with_directory("directory_zstd_size_short", "one byte less than the zstd frame", stored=w.packed(plain, len(plain) - 1))
    with_directory("directory_zstd_size_long", "one byte more than the zstd frame", stored=w.packed(plain, len(plain) + 1))
    with_directory("directory_zstd_truncated", "the zstd frame ends early", stored=w.packed(plain)[:-3])
    with_directory("directory_zstd_trailing", "a byte after the zstd frame", stored=w.packed(plain) + b"\0")
    with_directory("directory_zstd_skippable_after", "a skippable frame after the zstd frame",
                   stored=w.packed(plain) + b"\x50\x2a\x4d\x18\x04\0\0\0evil")
    with_directory("directory_zstd_two_frames", "an empty zstd frame after the zstd frame",
                   stored=w.packed(plain) + zstandard.ZstdCompressor().compress(b""))
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    with_directory("directory_zstd_without_size", "a zstd frame without its content size",
                   stored=b"\1" + w.uvarint(len(plain)) + compressor.compress(plain))
    with_directory("directory_zstd_magic", "not a zstd frame", stored=w.packed(plain).replace(b"\x28\xb5\x2f\xfd", b"\x29\xb5\x2f\xfd"))
    with_directory("directory_bomb", "64 MiB of zeros in a few KiB", error=LIMIT, stored=w.packed(bytes(1 << 26)))
    with_directory("directory_bomb_of_zeros", "32 MiB of zeros, within the limit", stored=w.packed(bytes(1 << 25)))
    with_directory("directory_mixed_nothing", "mixed bytes without a code", stored=b"\3" + w.uvarint(len(plain)) + b"\0")
    with_directory("directory_mixed_long", "mixed bytes of a size beyond the limit", stored=b"\3" + w.uvarint(65537) + b"\0")
    with_directory("directory_mixed_code", "a code of mixed bytes that no writer leaves", stored=b"\3" + w.uvarint(len(plain)) + w.string(bytes(200)))
    with_directory("directory_size_2_62", "2^62 bytes in one zstd frame", error=LIMIT, stored=w.packed(plain, 2**62))
    with_directory("directory_size_2_64", "2^64 - 1 bytes in one zstd frame", error=LIMIT, stored=w.packed(plain, 2**64 - 1))


def directories():
    plain = content()
    with_directory("uvarint_long", "0 in two bytes", content(seed=b"\x80\0"))
    with_directory("uvarint_long_127", "127 in two bytes", content(seed=b"\xff\0"))
    with_directory("uvarint_65_bits", "more than 64 bits", content(seed=b"\xff" * 9 + b"\2"))
    with_directory("uvarint_endless", "eleven bytes", content(seed=b"\x80" * 10 + b"\1"))
    with_directory("uvarint_cut", "ends within an integer", b"\x80")
    with_directory("directory_trailing_byte", "a byte after the last dump", plain + b"\0")
    with_directory("directory_trailing_dump", "a dump more than announced", plain + w.dump([]))
    with_directory("directory_cut", "ends within the last tensor", plain[:-1])
    with_directory("metadata_entries", "4,097 entries", stored=w.packed(content(metadata=((b"", b""),) * 4097)))
    with_directory("metadata_entries_2_63", "2^63 entries", content(entries=2**63))
    with_directory("string_beyond_the_end", "a string longer than what is left", b"\0\1" + w.uvarint(2**40) + b"k")
    with_directory("string_2_64", "a string of 2^64 - 1 bytes", b"\0\1" + w.uvarint(2**64 - 1) + b"k")
    with_directory("sets_2_63", "2^63 parameter sets", b"\0\0" + w.uvarint(2**63) + b"\1\0\1\0")
    with_directory("dumps_2_63", "2^63 dumps", b"\0\0\0" + w.uvarint(2**63))

    def with_dump(name, why, **fields):
        changed = w.directory([w.dump([good()], **fields)], [(1, RAW_PARAMETERS)])
        with_directory(name, why, stored=w.packed(changed) if len(changed) > 1000 else b"\0" + changed)

    with_dump("dump_format_0", "dump format 0", dump_format=0)
    with_dump("dump_format_4", "dump format 4", dump_format=4)
    with_dump("dump_path_long", "a path of 65,536 bytes", path=b"p" * 65536)
    with_dump("dump_tensors_2_63", "2^63 tensors", count=2**63)
    with_dump("dump_tensors_2", "a tensor less than announced", count=2)
    case("method_1000", NEWER, w.frame([good()], [(1000, RAW_PARAMETERS)]), "an unknown method")
    case("method_0", NEWER, w.frame([good()], [(0, RAW_PARAMETERS)]), "method 0")
    case("method_largest", NEWER, w.frame([good()], [(2**32 - 1, RAW_PARAMETERS)]), "the largest method id")
    case("method_2_32", DAMAGED, w.frame([good()], [(2**32 + 1, RAW_PARAMETERS)]), "a method id above 2^32 - 1")


def tensors():
    for dtype in (0, 5, 15):
        with_tensor(f"dtype_{dtype}", f"element type {dtype}", dtype=dtype)
    with_tensor("name_long", "a name of 65,536 bytes", name=b"n" * 65536)
    with_tensor("rank_33", "33 axes", shape=(1,) * 32 + (12,))
    with_tensor("rank_2_63", "2^63 axes", rank=2**63)
    with_tensor("shape_2_62_plus", "more than 2^62 elements", shape=(2**31, 2**31, 2), sizes=(0,))
    with_tensor("shape_overflow", "2^64 elements", shape=(2**32, 2**32), sizes=(0,))
    with_tensor("shape_overflow_beside_zero", "2^66 elements were it not for an extent of 0", shape=(0, 2**33, 2**33), payloads=())
    with_tensor("shape_2_63_beside_zero", "an extent of 2^63 beside 0", shape=(0, 2**63), payloads=())
    with_tensor("shape_2_40", "more blocks than the directory lists", shape=(2**40,), sizes=(0,) * 64, payloads=())
    with_tensor("shape_of_two_blocks", "a block less than the shape has", shape=(65537,))
    with_tensor("shape_smaller", "a block of fewer elements than it codes", shape=(11,))
    with_tensor("shape_larger", "a block of more elements than it codes", shape=(100,))
    with_tensor("attachment_empty", "an attachment of no bytes", attachment=b"")
    with_tensor("parameter_set_1", "parameter set 1 of 1", parameter_set=1)
    with_tensor("parameter_set_2_32", "parameter set 2^32", parameter_set=2**32)
    with_directory("parameter_sets_none", "parameter set 0 of 0", w.directory([w.dump([good()])], []))
    with_tensor("block_log2_15", "blocks of 2^15", block_log2=15)
    with_tensor("block_log2_21", "blocks of 2^21", block_log2=21)
    with_tensor("block_log2_255", "blocks of 2^255", block_log2=255)
    size = len(good().payloads[0])
    with_tensor("block_size_short", "a block of a byte less", sizes=(size - 1,))
    with_tensor("block_size_long", "a block of a byte more", sizes=(size + 1,))
    with_tensor("block_size_2_32", "a block of 2^32 bytes", sizes=(2**32,))
    with_tensor("block_size_above_2_32", "a block of 2^32 + 1 bytes", sizes=(2**32 + 1,))
    with_tensor("block_size_2_64", "a block of 2^64 - 1 bytes", sizes=(2**64 - 1,))
    with_tensor("block_size_0", "a block of no bytes in the directory, of some in the file", sizes=(0,))

    two = [dataclasses.replace(good(), name=b"a"), dataclasses.replace(good(), name=b"b")]
    other = w.block(RAW_PARAMETERS, CLASSES[::-1], SIGNS, MAGNITUDES[::-1])
    two[1].payloads = (other,)
    first, second = two[0].blocks(0)[0], two[1].blocks(1)[0]
    assert len(first) == len(second)
    case("blocks_swapped", DAMAGED, w.frame(two, [RAW_PARAMETERS], blocks=[second, first]), "the blocks of two tensors swapped")
    case("block_twice", DAMAGED, w.frame(two, [RAW_PARAMETERS], blocks=[first, first]), "a block in the place of another")
    case("payloads_swapped", DAMAGED,
         w.frame(two, [RAW_PARAMETERS], blocks=[first[:4] + second[4:], second[:4] + first[4:]]), "payloads under each other's checksum")
    case("block_checksum", DAMAGED, w.frame([good()], [RAW_PARAMETERS], blocks=[b"\0\0\0\0" + first[4:]]), "wrong block checksum")
    one = dataclasses.replace(good(), shape=(65536 + 12,), payloads=(b"", good().payloads[0]))
    case("block_of_another_number", DAMAGED, w.frame([one], [RAW_PARAMETERS], blocks=good().blocks(0)), "block 1 with the checksum of block 0")


def non_finite():
    record = b"\3" + NAN

    def kept(name, why, /, **fields):
        fields = {"treatment": 2, "nonfinite": 1, "exceptions": record} | fields
        with_tensor("exceptions_" + name, why, **fields)

    for treatment in (3, 255):
        kept(f"treatment_{treatment}", f"treatment {treatment}", treatment=treatment, exceptions=b"")
    tensor = dataclasses.replace(good(), treatment=1, nonfinite=1).record()
    with_directory("exceptions_treatment_0", "treatment 0",
                   w.directory([w.dump([good()])[:-len(good().record())] + tensor[:-2] + b"\0\1"], [(1, RAW_PARAMETERS)]))
    kept("none", "0 non-finite elements", treatment=1, nonfinite=0)
    kept("more_than_elements", "13 non-finite elements of 12", treatment=1, nonfinite=13)
    kept("of_an_empty_tensor", "a non-finite element of none", shape=(0,), payloads=(), treatment=1)
    kept("no_bytes", "an exception record of no bytes", exceptions=b"")
    kept("beyond_the_tensor", "element 12 of 12", exceptions=b"\x0c" + NAN)
    kept("far_beyond_the_tensor", "element 2^64 - 1 of 12", exceptions=w.uvarint(2**64 - 1) + NAN)
    kept("second_beyond_the_tensor", "element 12 of 12 after element 11", exceptions=b"\x0b" + NAN + b"\0" + NAN, nonfinite=2)
    kept("cut", "half an element", exceptions=record[:3])
    kept("trailing", "a byte after the last element", exceptions=record + b"\0")
    kept("fewer_than_counted", "one of two elements", nonfinite=2)
    kept("uvarint", "3 in two bytes", exceptions=b"\x83\0" + NAN)
    kept("size_2_64", "2^64 - 1 bytes", exception_size=2**64 - 1)
    swapped = dataclasses.replace(good(), treatment=2, nonfinite=1, exceptions=record)
    block, exception = swapped.blocks(0)
    case("exceptions_checksum", DAMAGED, w.frame([swapped], [RAW_PARAMETERS], blocks=[block, b"\1\2\3\4" + exception[4:]]),
         "wrong checksum of the exception record")


def class_parameters():
    def raw(**fields):
        fields = {"widths": [0, 2, 4], "quantizer": OFFMAG, "packer": RAW, "ranges": [0.5, 1.0, 1.0, 4.0]} | fields
        return w.parameters(**fields)

    payload = good().payloads[0]
    with_parameters("parameters_none", b"", "no parameters")
    with_parameters("parameters_cut", RAW_PARAMETERS[:-1], "a range cut short")
    with_parameters("parameters_trailing", RAW_PARAMETERS + b"\0", "a byte after the parameters")
    with_parameters("widths_none", raw(widths=0, members=0, ranges=()), "no width")
    with_parameters("widths_9", raw(widths=1 | 1 << 9, members=0, ranges=()), "width 9")
    with_parameters("quantizer_4", raw(quantizer=4), "quantizer 4")
    with_parameters("quantizer_bit_5", raw(quantizer=OFFMAG | 32), "a reserved bit of the quantizer")
    with_parameters("sym_width_1", raw(widths=[0, 1], quantizer=SYM, ranges=[1.0]), "sym with width 1")
    with_parameters("packer_4", raw(packer=4), "map packer 4")
    with_parameters("lanes_log2_5", raw(lanes_log2=5), "32 lanes")
    with_parameters("bitmap_without_0", raw(widths=[2, 4], packer=BITMAP, members=3), "bitmap without width 0")
    with_parameters("rice_without_0", raw(widths=[2, 4], packer=RICE, members=3), "rice without width 0")
    with_parameters("bitmap_of_one_class", raw(widths=[0], packer=BITMAP, ranges=()), "bitmap with width 0 alone", payload=b"\0\0")
    with_parameters("rice_of_one_class", raw(widths=[0], packer=RICE, ranges=()), "rice with width 0 alone", payload=bytes(5))
    with_parameters("coded_of_absent_class", raw(coded=4), "entropy-coded magnitudes of class 3 of 3")
    with_parameters("coded_of_width_1", raw(widths=[0, 1, 4], coded=1), "entropy-coded magnitudes of width 1")
    with_parameters("by_activity_alone", raw(coded=1, by_activity=3, tables=b"\0"), "tables by activity of a class without tables")
    with_parameters("allocator_3", raw(allocator=3), "allocator 3")
    with_parameters("reallocation_3", raw(allocator=0x30), "reallocation 3")
    with_parameters("members_of_absent_class", raw(members=15), "members of class 3 of 3")
    nan, infinity = float("nan"), float("inf")
    for name, ranges in {"low_above_high": [1.0, 0.5], "low_negative": [-0.5, 1.0], "low_nan": [nan, 1.0], "high_nan": [0.5, nan],
                         "high_infinite": [0.5, infinity], "both_infinite": [infinity, infinity]}.items():
        with_parameters("range_" + name, raw(ranges=ranges + [1.0, 4.0]), "range " + name.replace("_", " "))
    with_parameters("range_high_negative", raw(quantizer=MID, ranges=[-1.0, 1.0]), "a high below 0, without a low")


def tables():
    coded = {"widths": [0, 3], "quantizer": CELL, "packer": RAW, "ranges": [0.0, 4.0], "coded": 1}
    classes, magnitudes = [c > 0 for c in CLASSES], [m % 4 for m in MAGNITUDES]
    valid = w.Bits()
    w.put_table(valid, [5, 2, 2, 1])
    payload = w.block(w.parameters(tables=valid.align(), **coded), classes, SIGNS, magnitudes)

    def table(name, why, bits, padding="0", **fields):
        with_parameters("table_" + name, w.parameters(tables=bits.align(padding), **(coded | fields)), why, payload=payload)

    table("without_weights", "a present table of zeros", w.Bits().put(1, 1).put(0, 16))
    table("length_14", "L = 14", w.Bits().put(1, 1).put(14, 4).put(0, 3).put(0, 12))
    table("length_15", "L = 15", w.Bits().put(1, 1).put(15, 4).put(0, 3).put(0, 12))
    table("padding", "padding that is not zero", valid, padding="1")
    table("cut", "the last weight cut off", w.Bits().put(1, 1).put(1, 4))
    table("none", "no bits for the table", w.Bits())
    trailing = w.Bits()
    w.put_table(trailing, [5, 2, 2, 1])
    table("trailing", "a byte after the tables", trailing.put(0, 8))
    for activities in (0, 1):
        table(f"by_activity_{activities}", f"tables by activity, and K = {activities}", w.Bits().put(activities, 4), by_activity=1)
    one = w.Bits().put(1, 4)
    w.put_table(one, [5, 2, 2, 1])
    nothing_kept = w.plane([0] * 12, 1) + w.string(w.rans([], 1))
    with_parameters("table_by_activity_1_present", w.parameters(tables=one.align(), **(coded | {"by_activity": 1})),
                    "a table by activity, and K = 1", payload=nothing_kept)
    table("activities_11", "K = 11", w.Bits().put(11, 4).put(0, 10), by_activity=1)
    entropy = w.parameters([0, 3], CELL, ENTROPY, ranges=[0.0, 4.0], tables=b"\0")
    with_parameters("table_no_activities", entropy, "an entropy-coded map, and K = 0", payload=w.string(w.rans([], 1)))


def class_maps():
    payload = good().payloads[0]
    raw_map, planes = payload[:3], payload[3:]
    with_payload("payload_cut", RAW_PARAMETERS, payload[:-1], "a plane cut short")
    with_payload("payload_trailing", RAW_PARAMETERS, payload + b"\0", "a byte after the planes")
    with_payload("payload_map_alone", RAW_PARAMETERS, raw_map, "planes missing")
    with_payload("payload_map_cut", RAW_PARAMETERS, raw_map[:-1], "the map cut short")
    with_payload("raw_class_3", RAW_PARAMETERS, w.plane([3] + CLASSES[1:], 2) + planes, "class 3 of 3")
    with_payload("plane_padding", RAW_PARAMETERS, raw_map + bytes([planes[0] | 1]) + planes[1:], "padding of a plane")
    eleven = w.block(RAW_PARAMETERS, CLASSES[:11], SIGNS[:11], MAGNITUDES[:11])
    with_payload("raw_map_padding", RAW_PARAMETERS, eleven[:2] + bytes([eleven[2] | 1]) + eleven[3:], "padding of a raw map", count=11)

    bitmap = w.parameters([0, 2, 4], OFFMAG, BITMAP, ranges=[0.5, 1.0, 1.0, 4.0])
    payload = w.block(bitmap, CLASSES, SIGNS, MAGNITUDES)
    with_payload("bitmap_padding", bitmap, payload[:1] + bytes([payload[1] | 1]) + payload[2:], "padding of the bitmap")
    with_payload("bitmap_class_padding", bitmap, payload[:2] + bytes([payload[2] | 1]) + payload[3:], "padding of the classes")
    with_payload("bitmap_cut", bitmap, payload[:2], "no classes after the bitmap")

    rice = w.parameters([0, 2], OFFMAG, RICE, ranges=[0.5, 1.0])

    def gaps(name, why, parameter, number, pairs, planes_bytes=b"\0", padding="0"):
        bits = w.Bits().put(parameter, 8).put(number, 32)
        for quotient, remainder in pairs:
            bits.unary(quotient).put(remainder, parameter if parameter < 32 else 0)
        with_payload("rice_" + name, rice, bits.align(padding) + planes_bytes, why)

    gaps("parameter_32", "parameter 32", 32, 1, [(0, 0)])
    gaps("kept_13", "13 kept elements of 12", 0, 13, [(0, 0)] * 13, bytes(4))
    gaps("kept_2_32", "2^32 - 1 kept elements of 12", 0, 2**32 - 1, [(0, 0)] * 12, bytes(3))
    gaps("beyond", "element 12 of 12", 2, 1, [(3, 0)])
    gaps("second_beyond", "element 12 of 12 after element 11", 2, 2, [(2, 3), (0, 0)])
    gaps("far_beyond", "element 2^31 - 1 of 12", 31, 1, [(0, 2**31 - 1)])
    gaps("quotient", "a quotient of 40", 0, 1, [(40, 0)])
    gaps("quotient_wraps", "a quotient of 2 by 2^31", 31, 1, [(2, 1)])
    gaps("padding", "padding of the gaps", 2, 1, [(0, 1)], padding="1")
    gaps("cut", "gaps cut short", 0, 12, [(0, 0)] * 3, b"")


def streams():
    """An entropy-coded map and entropy-coded magnitudes in four lanes: 139 elements in five runs, the last of 11."""
    bits = w.Bits().put(4, 4)
    for weights in ([5, 2, 2, 1],) * 4 + ([7, 2, 1],) * 3 + ([3, 1], [4, 3, 2, 1, 1, 1, 1, 1]):
        w.put_table(bits, weights)
    parameters = w.parameters([0, 2, 4], OFFMAG, ENTROPY, lanes_log2=2, coded=3, ranges=[0.5, 1.0, 1.0, 4.0], tables=bits.align())
    count = 139
    classes = [0] * count
    for index in (0, 7, 8, 30, 31, 64, 65, 95, 100, 130, 138):
        classes[index] = 1 + index % 2
    signs, magnitudes = [i % 2 for i in range(count)], [i % (1, 2, 8)[c] for i, c in enumerate(classes)]
    p = decode_frame.ClassParameters(parameters)
    activities = [sum(classes[i : i + 32]).bit_length() for i in range(0, count, 32)]
    sections = [
        [(p.next_activity[a], b) for a, b in zip([0] + activities, activities)],
        w.tokens(p, classes, activities),
        [(p.magnitudes[c][0], m) for c, m in zip(classes, magnitudes) if c],
    ]
    payload = w.block(parameters, classes, signs, magnitudes)
    stream = w.rans(sections, 4)
    rest = payload[len(w.string(stream)) :]
    assert payload == w.string(stream) + rest and len(rest) == 2 and 0 in activities

    def coded(name, changed, why, after=rest):
        with_payload("stream_" + name, parameters, w.string(changed) + after, why, count=count)

    coded("final_state", w.rans(sections, 4, final=(1 << 16) + 1), "states that end at 2^16 + 1")
    coded("state", stream[:2] + bytes([stream[2] ^ 1]) + stream[3:], "a state changed by 2^16")
    coded("word", stream[:-1] + bytes([stream[-1] ^ 0x40]), "a word changed")
    coded("word_more", stream + b"\0\0", "a word that nothing uses")
    coded("word_less", stream[:-2], "a word missing")
    coded("odd", stream + b"\0", "half a word")
    coded("states_cut", stream[:15], "states cut short")
    coded("none", b"", "an empty stream")
    coded("symbol_less", w.rans([sections[0], sections[1], sections[2][:-1]], 4), "a symbol missing")
    coded("sections_continue", w.rans([sum(sections, [])], 4), "sections that do not begin at lane 0")
    table, last = sections[1][-1]
    beyond = [sections[0], sections[1][:-1] + [(table, last + 3)], sections[2]]
    coded("class_beyond_the_end", w.rans(beyond, 4), "a class after the last element")
    coded("signs_cut", stream, "sign bits cut short", after=rest[:-1])
    coded("signs_trailing", stream, "a byte after the sign bits", after=rest + b"\0")
    coded("signs_padding", stream, "padding of the sign bits", after=rest[:-1] + bytes([rest[-1] | 1]))
    with_payload("stream_length", parameters, w.uvarint(len(payload)) + payload[1:], "a stream longer than the block", count=count)


def main(arguments):
    if len(arguments) != 2:
        return __doc__
    frames, out = map(pathlib.Path, arguments)
    decode_frame.decode(w.frame([good()], [RAW_PARAMETERS]))  # the frame that the others differ from is good
    headers()
    footers()
    truncations(frames)
    stored_directories()
    directories()
    tensors()
    non_finite()
    class_parameters()
    tables()
    class_maps()
    streams()
    if len({name for name, *_ in cases}) != len(cases):
        return "two cases have one name"
    lines = []
    for name, error, data, why in cases:
        (out / (name + ".jsq")).write_bytes(data)
        lines.append(f"{name}.jsq\t{error}\t{why}\n")
    (out / "errors.tsv").write_text("".join(lines))
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

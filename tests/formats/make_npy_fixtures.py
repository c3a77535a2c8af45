#!/usr/bin/python3
"""Dumps made by numpy and zipfile, with what numpy says they hold: the independent source of npy_test.cpp.

    make_npy_fixtures.py FOLDER                    makes FOLDER/npy, FOLDER/npz, FOLDER/bad and copies itself there
    make_npy_fixtures.py verify ORIGINAL RESTORED  exits 1 with a reason when two npz differ in anything kept

Each folder has a manifest.tsv. npy: file, dtype, big-endian, Fortran, shape, canonical (1: the header is byte for byte
what numpy 1.24 writes). npz: file, tensor names in hex joined by '|'. bad: file, error name, fragment of the message.
Beside each good dump X lie X.f32 (the values numpy converts to float32, in storage order) and X.le (the stored
elements, little-endian).
"""
import io
import itertools
import os
import shutil
import struct
import sys
import warnings
import zipfile
import zlib

import numpy as np
from numpy.lib import format as npy_format

random = np.random.default_rng(20240601)
np.seterr(all="ignore")

FLOAT_CODES = {"f16": "f2", "f32": "f4", "f64": "f8"}
SHAPES = [(), (0,), (0, 5), (5, 0, 2), (1,), (7,), (3, 4), (2, 3, 4), (2,) + (1,) * 30 + (3,)]
VERSIONS = [(1, 0), (2, 0), (3, 0)]


def random_bits(dtype, count):
    """Stored elements of any bit pattern, NaN payloads included, as little-endian integers."""
    bytes_each = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}[dtype]
    values = np.frombuffer(random.bytes(count * bytes_each), dtype=f"<u{bytes_each}").copy()
    if dtype == "f64":
        # Most doubles are far outside float32; bring half of them near to it.
        values[::2] = (random.standard_normal(len(values[::2])) * 1e-3).view("<u8")
    return values


def as_float32(dtype, bits):
    if dtype == "bf16":
        return (bits.astype("<u4") << 16).view("<f4")
    return bits.view("<" + FLOAT_CODES[dtype]).astype("<f4")


def header_bytes(descr, fortran, shape, version=(1, 0)):
    """The header as numpy writes it, for any descr (ml_dtypes' bfloat16 has '<V2')."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npy_format._write_array_header(out, {"descr": descr, "fortran_order": fortran, "shape": shape}, version)
    return out.getvalue()


def odd_header(text, version=1, pad_to=None):
    """A header of any text; pad_to pads header and prefix with spaces and a newline to a multiple."""
    prefix = 10 if version == 1 else 12
    raw = text.encode("utf8")
    if pad_to:
        raw += b" " * (-(prefix + len(raw) + 1) % pad_to) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


class GoodNpy:
    def __init__(self, folder):
        self.folder, self.rows = folder, []
        os.makedirs(folder, exist_ok=True)

    def add(self, name, dtype, big, fortran, shape, header, bits, canonical):
        name += ".npy"
        path = os.path.join(self.folder, name)
        stored = bits.astype(bits.dtype.newbyteorder(">")) if big else bits
        write(path, header + stored.tobytes())
        write(path + ".f32", as_float32(dtype, bits).tobytes())
        write(path + ".le", bits.tobytes())
        self.rows.append([name, dtype, int(big), int(fortran), ",".join(map(str, shape)), int(canonical)])
        return path

    def finish(self):
        write_manifest(self.folder, self.rows)


def write_manifest(folder, rows):
    write(os.path.join(folder, "manifest.tsv"),
          "".join("\t".join(map(str, row)) + "\n" for row in rows).encode("utf8"))


def numpy_npy(array, version):
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npy_format.write_array(out, array, version)
    return out.getvalue()


def make_npy(folder):
    good = GoodNpy(folder)
    for dtype, big, version, (number, shape) in itertools.product(
            ["f16", "bf16", "f32", "f64"], [False, True], VERSIONS, enumerate(SHAPES)):
        count = int(np.prod(shape, dtype=np.int64))
        for fortran in [False, True]:
            if fortran and (count == 0 or sum(extent > 1 for extent in shape) < 2):
                continue  # such an array is also in C order, and numpy says so
            bits = random_bits(dtype, count)
            descr = (">" if big else "<") + FLOAT_CODES.get(dtype, "V2")
            header = header_bytes(descr, fortran, shape, version)
            if dtype != "bf16":
                # numpy's own writer must agree: bits are in storage order.
                array = bits.astype(bits.dtype.newbyteorder(">" if big else "<")).view(descr)
                array = array.reshape(shape, order="F" if fortran else "C")
                assert numpy_npy(array, version) == header + array.tobytes(order="A"), (descr, shape)
            name = f"{dtype}_{'big' if big else 'little'}_{'F' if fortran else 'C'}_v{version[0]}_shape{number}"
            good.add(name, dtype, big, fortran, shape, header, bits, version == (1, 0))

    patterns = np.arange(65536, dtype="<u2")
    for dtype, big in itertools.product(["f16", "bf16"], [False, True]):
        descr = (">" if big else "<") + FLOAT_CODES.get(dtype, "V2")
        good.add(f"all_{dtype}_{'big' if big else 'little'}", dtype, big, False, (65536,),
                 header_bytes(descr, False, (65536,)), patterns, True)

    doubles = rounding_doubles()
    good.add("f64_rounding", "f64", False, False, doubles.shape, header_bytes("<f8", False, doubles.shape),
             doubles.view("<u8"), True)
    make_odd_headers(good)
    good.finish()


def rounding_doubles():
    """Doubles at, just below and just above the midpoints between floats, over the whole range, of both signs."""
    largest = float(np.finfo(np.float32).max)
    bits = np.concatenate([np.arange(0, 40), 2**23 + np.arange(-20, 20), random.integers(1, 0x7f7fffff, 4000),
                           0x7f7fffff - np.arange(1, 20)]).astype(np.uint32)
    low = bits.view(np.float32).astype(np.float64)
    high = (bits + 1).view(np.float32).astype(np.float64)
    middle = (low + high) / 2
    top = np.array([largest, 2.0**128, (largest + 2.0**128) / 2, 1e39, 1.7e308, np.inf, 0.0, 5e-324, 2.0**-150])
    values = np.concatenate([low, middle, top, np.nextafter(top, 0), np.nextafter(top, np.inf),
                             np.nextafter(middle, 0), np.nextafter(middle, np.inf)])
    values = np.concatenate([values, -values])
    quiet = np.array([0x7ff8000000000000, 0xfff8123456789abc], dtype="<u8").view("<f8")
    return np.ascontiguousarray(np.concatenate([values, quiet]), dtype="<f8")


def make_odd_headers(good):
    shape, count = (2, 3), 6
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    odd = {
        "unpadded": odd_header(text),
        "padded_to_16": odd_header(text, pad_to=16),
        "padded_to_4096": odd_header(text, pad_to=4096),
        "misaligned_data": odd_header(text + " " * 3),
        "version_2_unpadded": odd_header(text, version=2),
        "other_key_order": odd_header("{'shape': (2, 3), 'descr': '<f4', 'fortran_order': False}", pad_to=64),
        "double_quotes": odd_header('{"descr": "<f4", "fortran_order": False, "shape": (2, 3)}', pad_to=64),
        "no_spaces": odd_header("{'descr':'<f4','fortran_order':False,'shape':(2,3)}"),
        "trailing_comma_in_shape": odd_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,)}", pad_to=64),
        "line_breaks_and_tabs": odd_header("{\n\t'descr' :\t'<f4',\n 'fortran_order': False,\r\n 'shape': ( 2 ,\n3 )\n}\n\n"),
        "python_2_long": odd_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }", pad_to=16),
        "native_order_sign": odd_header(text.replace("<f4", "=f4"), pad_to=64),
        "irrelevant_order_sign": odd_header(text.replace("<f4", "|f4"), pad_to=64),
        "no_order_sign": odd_header(text.replace("<f4", "f4"), pad_to=64),
        "dtype_letter": odd_header(text.replace("<f4", "<f"), pad_to=64),
        "dtype_name": odd_header(text.replace("<f4", "float32"), pad_to=64),
        "empty_padding_only": odd_header("  " + text + "  "),
    }
    for name, header in odd.items():
        path = good.add("odd_" + name, "f32", False, False, shape, header, random_bits("f32", count), False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = np.load(path)
        assert array.shape == shape and array.tobytes() == open(path + ".le", "rb").read(), name
    for name, descr in [("plain_void", "|V2"), ("bfloat16_name", "bfloat16")]:
        good.add("odd_bf16_" + name, "bf16", False, False, shape,
                 odd_header(text.replace("<f4", descr), pad_to=64), random_bits("bf16", count), False)
    good.add("odd_fortran_vector", "f32", False, True, (6,),
             odd_header("{'descr': '<f4', 'fortran_order': True, 'shape': (6,)}"), random_bits("f32", 6), False)
    good.add("odd_zero_extent_beside_huge_ones", "f32", False, False, (2**62, 0, 2**62),
             odd_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 0, {2**62})}}", pad_to=64),
             random_bits("f32", 0), False)


def zip_bytes(members, comment=b"", end=None):
    """A zip archive from dicts; keys beside name and content override what the records say (for damaged archives)."""
    out, directory = b"", b""
    for member in members:
        content, name = member["content"], member["name"]
        method = member.get("method", 0)
        packed = content
        if method == 8:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = squeeze.compress(content) + squeeze.flush()
        packed = member.get("packed", packed)
        size = member.get("size", len(content))
        packed_size = member.get("packed_size", len(packed))
        crc = member.get("crc", zlib.crc32(content))
        flags = member.get("flags", 0)
        stamp = struct.pack("<HH", 0, 0x21)
        at = member.get("at", len(out))
        out += struct.pack("<IHHH", 0x04034b50, 20, flags, member.get("local_method", method)) + stamp
        out += struct.pack("<IIIHH", crc, packed_size & 0xffffffff, size & 0xffffffff, len(name), 0)
        out += member.get("local_name", name) + packed
        extra = b""
        small, small_packed = size, packed_size
        if member.get("zip64") or size >= 2**32:
            extra = struct.pack("<HHQQQ", 1, 24, size, packed_size, at)
            small = small_packed = at = 0xffffffff
        directory += struct.pack("<IHHHH", 0x02014b50, 3 << 8 | 20, 20, flags, method) + stamp
        directory += struct.pack("<IIIHHHHHII", crc, small_packed, small, len(name), len(extra), 0, 0, 0, 0o600 << 16, at)
        directory += name + extra
    end = {"disk": 0, "count": len(members), "size": len(directory), "offset": len(out), **(end or {})}
    if end.get("zip64"):
        at = len(out) + len(directory)
        directory += struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, end["count"], end["count"], end["size"],
                                 end["offset"])
        directory += struct.pack("<IIQI", 0x07064b50, 0, end.get("locator", at), 1)
        end.update(count=0xffff, size=0xffffffff, offset=0xffffffff)
    return out + directory + struct.pack("<IHHHHIIH", 0x06054b50, end["disk"], 0, end["count"], end["count"], end["size"],
                                         end["offset"], len(comment)) + comment


def is_gradient(name, content):
    if not name.endswith(".npy") or not content.startswith(b"\x93NUMPY"):
        return False
    file = io.BytesIO(content)
    return b"V2'" in content[:100] or npy_format.read_magic(file) and \
        npy_format._read_array_header(file, (content[6], content[7]))[2].kind == "f"


def finish_npz(folder, rows, name):
    """Records what numpy finds in an archive."""
    path = os.path.join(folder, name)
    names, values, stored = [], b"", b""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            content = archive.read(info)
            if not is_gradient(info.filename, content):
                continue
            names.append(info.filename[:-4])
            if b"V2'" in content[:100]:
                bits = np.frombuffer(content[128:], dtype="<u2")
                values += as_float32("bf16", bits).tobytes()
                stored += bits.tobytes()
                continue
            array = np.load(io.BytesIO(content)).ravel(order="K")
            values += array.astype("<f4").tobytes()
            stored += array.astype(array.dtype.newbyteorder("<")).tobytes()
    write(path + ".f32", values)
    write(path + ".le", stored)
    rows.append([name, "|".join(member.encode("utf8").hex() for member in names)])


def small_arrays():
    return {
        "conv.weight": (random.standard_normal((4, 3, 2)) * 1e-3).astype("<f4"),
        "half": random.standard_normal(37).astype("<f2"),
        "big": random.standard_normal((5, 2)).astype(">f4"),
        "fortran": np.asfortranarray(random.standard_normal((3, 4))),
        "scalar": np.float32(-0.25).reshape(()),
        "empty": np.zeros((0, 5), dtype="<f8"),
    }


def make_npz(folder):
    os.makedirs(folder, exist_ok=True)
    rows = []

    def path(name):
        return os.path.join(folder, name)

    np.savez(path("stored.npz"), **small_arrays())
    np.savez_compressed(path("deflated.npz"), **small_arrays())
    np.savez_compressed(path("large.npz"), a=(random.standard_normal(300000) * 1e-3).astype("<f4"),
                        b=np.zeros(200000, dtype=">f2"), c=random.standard_normal(100000))

    class Pipe(io.RawIOBase):
        """A stream that cannot seek: sizes come after the data."""

        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, piece):
            self.data += bytes(piece)
            return len(piece)

    pipe = Pipe()
    np.savez(pipe, **small_arrays())
    write(path("streamed.npz"), pipe.data)

    arrays = small_arrays()
    with zipfile.ZipFile(path("mixed.npz"), "w") as archive:
        archive.comment = b"step 100"

        def put(name, content, method, date=(2024, 6, 1, 12, 34, 56), mode=0o100640):
            info = zipfile.ZipInfo(name, date)
            info.compress_type = method
            info.external_attr = mode << 16
            archive.writestr(info, content)

        put("README.txt", b"not a gradient\n" * 50, zipfile.ZIP_DEFLATED)
        put("a.npy", numpy_npy(arrays["conv.weight"], (1, 0)), zipfile.ZIP_DEFLATED)
        put("ids.npy", numpy_npy(np.arange(9), (1, 0)), zipfile.ZIP_STORED, (1999, 12, 31, 23, 59, 58))
        put("b.npy", numpy_npy(arrays["half"], (2, 0)), zipfile.ZIP_STORED, mode=0)
        put("folder/", b"", zipfile.ZIP_STORED, mode=0o40755)
        objects = io.BytesIO()
        np.save(objects, np.array([{"k": 1}, None], dtype=object), allow_pickle=True)
        put("objects.npy", objects.getvalue(), zipfile.ZIP_DEFLATED)
        put("folder/c.npy", numpy_npy(arrays["big"], (1, 0)), zipfile.ZIP_DEFLATED, (1980, 1, 1, 0, 0, 0))
        put("bf16.npy", header_bytes("<V2", False, (11,)) + random_bits("bf16", 11).tobytes(), zipfile.ZIP_STORED)
        put("records.npy", numpy_npy(np.zeros(2, dtype=[("x", "<f4"), ("y", "<i4")]), (1, 0)), zipfile.ZIP_STORED)
        put("named_npy_but_is_not.npy", b"text", zipfile.ZIP_STORED)
        put("weights_without_suffix", numpy_npy(arrays["half"], (1, 0)), zipfile.ZIP_STORED)
        put("empty.txt", b"", zipfile.ZIP_DEFLATED)

    with zipfile.ZipFile(path("names.npz"), "w") as archive:
        for name in ["../up", "/absolute", "a\\b", "line\nbreak", "\x1b[31mred\x01", "\u00e9t\u00e9", "\u68af\u5ea6", "x.npy", "::", "n" * 1000]:
            archive.writestr(zipfile.ZipInfo(name + ".npy"), numpy_npy(np.float32([len(name)]), (1, 0)))

    one = numpy_npy(np.arange(5, dtype="<f4"), (1, 0))
    write(path("cp437_name.npz"), zip_bytes([{"name": b"\x82t\x82.npy", "content": one}]))
    write(path("zip64.npz"), zip_bytes([{"name": b"a.npy", "content": one, "zip64": True},
                                        {"name": b"b.npy", "content": one, "zip64": True, "method": 8}],
                                       end={"zip64": True}))
    write(path("comment.npz"), zip_bytes([{"name": b"a.npy", "content": one}], comment=b"c" * 65535))
    write(path("binary_comment.npz"), zip_bytes([{"name": b"a.npy", "content": one}], comment=b"a\0b\x01\x1b\xff\xfe"))
    write(path("utf8_comment.npz"), zip_bytes([{"name": b"a.npy", "content": one}], comment="\u00e9t\u00e9".encode("utf8")))
    write(path("shifted.npz"), zip_bytes([{"name": b"a" * n + b".npy", "content": one} for n in range(1, 9)]))
    for name in sorted(os.listdir(folder)):
        if name.endswith(".npz"):
            finish_npz(folder, rows, name)
    write_manifest(folder, rows)


def make_bad(folder):
    os.makedirs(folder, exist_ok=True)
    rows = []

    def bad(name, data, error, fragment):
        write(os.path.join(folder, name), data)
        rows.append([name, error, fragment])

    data = b"\0" * 24
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"

    def damaged_text(name, changed, fragment, version=1):
        bad(name + ".npy", odd_header(changed, version) + data, "damaged", fragment)

    def other_dtype(name, array, fragment):
        out = io.BytesIO()
        np.save(out, array, allow_pickle=True)
        bad(name + ".npy", out.getvalue(), "unsupported_dtype", fragment)

    other_dtype("int32", np.arange(4, dtype="<i4"), "expected a floating dtype (float16, bfloat16, float32 or float64), found dtype '<i4'")
    other_dtype("uint8", np.arange(4, dtype="u1"), "found dtype '|u1'")
    other_dtype("bool", np.zeros(4, dtype=bool), "found dtype '|b1'")
    other_dtype("complex64", np.zeros(4, dtype="<c8"), "found dtype '<c8'")
    other_dtype("long_double", np.zeros(4, dtype=np.longdouble), "found dtype '<f16'")
    other_dtype("text", np.array(["a", "bc"]), "found dtype '<U2'")
    other_dtype("time", np.zeros(2, dtype="<M8[s]"), "found dtype '<M8[s]'")
    other_dtype("object", np.array([None, 1], dtype=object), "object dtype '|O'")
    other_dtype("structured", np.zeros(2, dtype=[("x", "<f4"), ("y", "<f8")]), "a structured dtype")
    bad("sub_array.npy", odd_header(text.replace("'<f4'", "('<f4', (2,))")) + data, "unsupported_dtype", "a sub-array dtype")
    bad("float8.npy", odd_header(text.replace("<f4", "<V1")) + data, "unsupported_dtype", "found dtype '<V1'")

    bad("version_4.npy", b"\x93NUMPY\x04\0" + odd_header(text)[8:] + data, "unsupported_format", "npy version 4.0 is unknown")
    bad("version_1_1.npy", b"\x93NUMPY\x01\x01" + odd_header(text)[8:] + data, "unsupported_format", "npy version 1.1")
    bad("wrong_magic.npy", b"NUMPY!" + odd_header(text)[6:] + data, "unsupported_format", "expected an npy header (93 4E 55 4D 50 59), found 4E 55 4D 50 59 21")
    bad("empty.npy", b"", "damaged", "empty.npy: empty file; expected an npy header")
    bad("empty.npz", b"", "damaged", "empty file; expected a zip archive")
    bad("empty.h5", b"", "damaged", "empty file; expected an HDF5 signature")
    bad("empty.bin", b"", "unsupported_format", "empty input; expected an npy, npz or HDF5 dump")
    bad("picture.bin", b"\xff\xd8\xff\xe0JFIF...", "unsupported_format", "begins with FF D8 FF E0 4A 46 49 46")
    bad("frame.jsq", b"JSQ\x1a" + bytes(60), "unsupported_format", "is already a jsq frame; use jsq decompress")
    bad("header_beyond_file.npy", b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1) + text.encode(), "damaged", "npy header is cut: expected 4294967307 bytes")
    bad("data_cut.npy", odd_header(text, pad_to=64) + data[:-1], "damaged", "expected 24 bytes of data from byte 128, found 23")
    bad("data_after.npy", odd_header(text, pad_to=64) + data + b"xy", "damaged", "2 bytes follow the data")
    bad("two_arrays.npy", (odd_header(text, pad_to=64) + data) * 2, "damaged", "152 bytes follow the data")
    with open(os.path.join(folder, "header_over_limit.npy"), "wb") as file:  # sparse
        file.write(b"\x93NUMPY\x02\0" + struct.pack("<I", 2**26) + text.encode())
        file.truncate(2**26 + 1000)
    rows.append(["header_over_limit.npy", "limit", "exceeds the limit of 67108864 bytes"])

    shape = "(2, 3)"
    for name, value in [("product", "(4294967296, 4294967296)"), ("bytes", f"({2**61},)"), ("many", "(" + "65536, " * 9 + ")")]:
        damaged_text("shape_overflow_" + name, text.replace(shape, value), "overflows 63 bits of data bytes")
    damaged_text("shape_over_63_bits", text.replace(shape, f"({2**63}, 0)"), "does not fit 63 bits")
    damaged_text("shape_over_64_bits", text.replace(shape, f"({2**64 + 6},)"), "more than 19 digits")
    damaged_text("shape_huge", text.replace(shape, "(1000000000000,)"), "expected 4000000000000 bytes of data")
    damaged_text("shape_negative", text.replace(shape, "(-2, -3)"), "expected an extent of the shape, found '-'")
    damaged_text("shape_integer", text.replace(shape, "(6)"), "expected a tuple such as (3,)")
    damaged_text("shape_bare_integer", text.replace(shape, "6"), "expected '(', found '6'")
    damaged_text("shape_list", text.replace(shape, "[2, 3]"), "expected '(', found '['")
    damaged_text("shape_float", text.replace(shape, "(2.0, 3)"), "expected ',' or ')'")
    damaged_text("shape_lone_comma", text.replace(shape, "(,)"), "expected an extent of the shape, found ','")
    damaged_text("shape_two_commas", text.replace(shape, "(2,,3)"), "expected an extent of the shape, found ','")
    damaged_text("shape_leading_zero", text.replace(shape, "(02, 3)"), "leading zeros")
    damaged_text("shape_open", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", "found the end")
    damaged_text("long_in_version_3", text.replace(shape, "(2L, 3L)"), "expected ',' or ')'", version=3)
    bad("rank_65.npy", odd_header(text.replace(shape, "(" + "1, " * 65 + ")")) + data[:4], "limit", "more than 64 dimensions")
    damaged_text("order_number", text.replace("False", "0"), "expected True or False, found '0'")
    damaged_text("order_text", text.replace("False", "'False'"), "expected True or False")
    damaged_text("order_longer", text.replace("False", "Falsey"), "expected '}', found 'y'")
    damaged_text("key_unknown", text.replace("'shape'", "'shop'"), "found 'shop'")
    damaged_text("key_twice", text.replace("}", "'shape': (2, 3)}"), "once, found 'shape'")
    damaged_text("key_missing", "{'descr': '<f4', 'shape': (2, 3), }", "'fortran_order' is missing")
    damaged_text("key_shape_missing", "{'descr': '<f4', 'fortran_order': False}", "'shape' is missing")
    damaged_text("key_descr_missing", "{'fortran_order': False, 'shape': (2, 3), }", "'descr' is missing")
    damaged_text("key_number", text.replace("'shape'", "3"), "expected a key in quotes, found '3'")
    damaged_text("key_escaped", text.replace("'shape'", "'sh\\x61pe'"), "holds an escape")
    damaged_text("colon_missing", text.replace("'descr':", "'descr'"), "expected ':'")
    damaged_text("comma_missing", text.replace("'<f4',", "'<f4'"), "expected '}'")
    damaged_text("quote_open", text.replace("'<f4'", "'<f4"), "expected")
    damaged_text("descr_number", text.replace("'<f4'", "4"), "expected a dtype in quotes, found '4'")
    damaged_text("not_a_dict", "[1, 2]", "expected '{', found '['")
    damaged_text("two_dicts", text + text, "expected only white space after the dict")
    damaged_text("expression", text + " or {}", "expected only white space after the dict")
    damaged_text("nul_in_padding", text + "\0", "expected only white space after the dict, found '\\x00'")
    damaged_text("blank", "          ", "expected '{', found the end")
    bad("no_dict.npy", b"\x93NUMPY\x01\0\0\0", "damaged", "expected '{', found the end")

    one = numpy_npy(np.arange(5, dtype="<f4"), (1, 0))
    member = {"name": b"a.npy", "content": one}

    def bad_zip(name, members, error, fragment, **more):
        bad(name + ".npz", zip_bytes(members, **more), error, fragment)

    bad_zip("no_members", [], "unsupported_dtype", "at least one floating .npy member, found an empty archive")
    ids = {"name": b"ids.npy", "content": numpy_npy(np.arange(3), (1, 0))}
    bad_zip("no_floats", [ids, {"name": b"notes.txt", "content": b"hi"}], "unsupported_dtype",
            "found 'ids.npy' of dtype '<i8', 'notes.txt' (not named .npy)")
    bad_zip("same_name_twice", [member, member], "damaged", "two members are named 'a.npy'")
    bad_zip("encrypted", [{**member, "flags": 1}], "unsupported_format", "member 'a.npy' is encrypted")
    bad_zip("bzip2", [{**member, "method": 12}], "unsupported_format", "zip compression method 12")
    bad_zip("wrong_crc", [{**member, "name": b"x.txt", "crc": 1}, member], "damaged", "CRC error")
    bad_zip("wrong_crc_of_empty", [{"name": b"a.npy", "content": numpy_npy(np.zeros(0, "<f4"), (1, 0)), "crc": 1}], "damaged", "CRC error")
    bad_zip("two_sizes", [{**member, "size": 200}], "damaged", "declares two sizes")
    bad_zip("npy_cut", [{"name": b"a.npy", "content": one[:-1]}], "damaged", "expected 20 bytes of data from byte 128, found 19")
    bad_zip("npy_longer", [{"name": b"a.npy", "content": one + b"1"}], "damaged", "1 bytes follow the data")
    bad_zip("npy_header_broken", [{"name": b"a.npy", "content": one.replace(b"shape", b"shop!")}], "damaged", "member 'a.npy': npy header is damaged")
    bad_zip("declares_terabytes", [{**member, "method": 8, "size": 2**40 + 1}], "limit", "declares 1099511627777 bytes")
    bad_zip("beyond_deflate", [{**member, "method": 8, "size": 10**9}], "damaged", "more than deflate can give")
    bad_zip("declares_less", [{"name": b"a.txt", "content": b"x" * 1000, "method": 8, "size": 10}, member], "damaged", "member 'a.txt'")
    bad_zip("declares_more", [{"name": b"a.txt", "content": b"x" * 1000, "method": 8, "size": 1010}, member], "damaged", "member 'a.txt'")
    bad_zip("not_deflate", [{"name": b"a.npy", "content": one, "method": 8, "packed": b"\xff" * 60}], "damaged", "member 'a.npy': cannot be read")
    bad_zip("nul_in_name", [{"name": b"a\0b.npy", "content": one}], "damaged", "holds a NUL")
    bad_zip("name_not_utf8", [{"name": b"\xff\xfe.npy", "content": one, "flags": 0x800}], "damaged", "damaged zip archive")
    bad_zip("name_with_control", [{"name": b"\xc3\xa9\x01.npy", "content": one, "flags": 0x800}], "unsupported_format", "control characters in a UTF-8 name")
    bad_zip("name_too_long", [{"name": b"\x82" * 40000 + b".npy", "content": one}], "limit", "more than 65535 bytes as UTF-8")
    bad_zip("other_local_name", [{**member, "local_name": b"b.npy"}], "damaged", "another name or method")
    bad_zip("other_local_method", [{**member, "local_method": 8}], "damaged", "another name or method")
    bad_zip("overlap", [member, {"name": b"a.npx", "content": one, "at": 0}], "damaged", "damaged zip archive")
    inner = zip_bytes([member])[:35 + len(one)]
    bad_zip("nested_overlap", [{"name": b"a.txt", "content": inner}, {**member, "at": 35}], "damaged", "overlap")
    bad_zip("outside", [{**member, "at": 10**6}], "damaged", "lies outside the file")
    bad_zip("longer_than_file", [{**member, "size": 9999, "packed_size": 9999}], "damaged", "expected 9999 bytes")
    bad_zip("several_disks", [member], "unsupported_format", "spans several disks", end={"disk": 3})
    bad_zip("zip64_without_its_field", [{**member, "size": 2**32 - 1}], "damaged", "expected a zip64 extra field, found none")
    bad_zip("zip64_locator_to_nothing", [member], "damaged", "points to no end record", end={"zip64": True, "locator": 0})
    bad_zip("directory_shifted", [member], "damaged", "does not end at its end record", end={"offset": 1})
    bad_zip("too_many_entries", [member], "damaged", "entries do not fit", end={"count": 60000})
    bad_zip("too_few_entries", [member, ids], "damaged", "follow the end", end={"count": 1})
    bad("bytes_after.npz", zip_bytes([member]) + b"\n", "damaged", "cut or has bytes appended")
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = zeros.compress(bytes(80 << 20)) + zeros.flush()
    bad_zip("extras_over_limit", [member, {"name": b"zeros.bin", "content": b"", "method": 8, "packed": bomb, "size": 80 << 20}],
            "limit", "take more than 67108864 bytes ('zeros.bin' alone 83886080)")
    write_manifest(folder, rows)


def verify(original, restored):
    """Everything that jsq promises to keep of an npz."""
    with zipfile.ZipFile(original) as before, zipfile.ZipFile(restored) as after:
        if before.testzip() or after.testzip():
            return "a CRC is wrong"
        if before.comment != after.comment:
            return "comments differ"
        if before.namelist() != after.namelist():
            return f"members are {after.namelist()}, expected {before.namelist()}"
        for old, new in zip(before.infolist(), after.infolist()):
            for what in ["compress_type", "date_time", "external_attr", "create_system", "file_size", "CRC"]:
                if getattr(old, what) != getattr(new, what):
                    return f"{old.filename}: {what} is {getattr(new, what)}, expected {getattr(old, what)}"
            if before.read(old) != after.read(new):
                return f"{old.filename}: contents differ"
    with np.load(original, allow_pickle=True) as before, np.load(restored, allow_pickle=True) as after:
        for name in before.files:
            old, new = before[name], after[name]
            if isinstance(old, np.ndarray) and old.dtype != object:
                if old.dtype != new.dtype or old.shape != new.shape or old.tobytes() != new.tobytes():
                    return f"{name}: arrays differ"
    return None


def main(arguments):
    if len(arguments) == 3 and arguments[0] == "verify":
        return verify(arguments[1], arguments[2])
    if len(arguments) != 1:
        return __doc__
    folder = arguments[0]
    make_npy(os.path.join(folder, "npy"))
    make_npz(os.path.join(folder, "npz"))
    make_bad(os.path.join(folder, "bad"))
    copy = os.path.join(folder, os.path.basename(__file__))
    if os.path.abspath(copy) != os.path.abspath(__file__):
        shutil.copyfile(__file__, copy)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

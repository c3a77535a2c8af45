#!/usr/bin/python3
"""HDF5 dumps made by h5py, with what h5py and numpy say they hold: the independent source of hdf5_test.cpp.

    make_hdf5_fixtures.py FOLDER                    makes FOLDER/hdf5 and copies itself to FOLDER
    make_hdf5_fixtures.py verify ORIGINAL RESTORED  prints every difference between two HDF5 files; exits 1 if any

FOLDER/hdf5/good.tsv lists files; beside each X lie X.tsv (one line a tensor in jsq's order: name in hex, dtype,
big-endian, shape), X.le (the stored elements of all tensors, little-endian) and X.f32 (their values as float32).
bad.tsv: file, member, error name, fragments of the message joined by '|'.

verify compares links (kind, target, shared objects), creation orders, datatypes by H5Tequal, shapes, maximal shapes, layouts,
chunks, filters with their options, fill values, allocation and fill times, attributes and values bit for bit. The
optional argument --allow-missing PATH,... names what may be absent from RESTORED ('path' or 'path@attribute').
"""
import os
import shutil
import sys

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5o, h5p, h5s, h5t

random = np.random.default_rng(20240602)
np.seterr(all="ignore")


# ---------------------------------------------------------------- verify

def raw_values(read, type_id, count):
    """All elements as the file stores them; texts of variable length as Python objects."""
    if count == 0:
        return b""
    if isinstance(type_id, h5t.TypeStringID) and type_id.is_variable_str():
        texts = np.empty(count, dtype=h5py.string_dtype(length=None))
        read(texts, None)
        return [t if isinstance(t, bytes) else (b"" if t in (None, 0) else t.encode()) for t in texts.tolist()]
    array = np.empty(count, dtype=np.dtype((np.void, type_id.get_size())))
    read(array, type_id)
    return array.tobytes()


def has_pointers(type_id):
    if isinstance(type_id, h5t.TypeStringID):
        return type_id.is_variable_str()
    return type_id.detect_class(h5t.VLEN) or type_id.detect_class(h5t.REFERENCE)


def space_of(space):
    kind = space.get_simple_extent_type()
    return kind, space.shape if kind == h5s.SIMPLE else ()


def attribute_facts(attribute):
    type_id, space = attribute.get_type(), attribute.get_space()
    count = 0 if space.get_simple_extent_type() == h5s.NULL else space.get_simple_extent_npoints()
    if has_pointers(type_id) and not isinstance(type_id, h5t.TypeStringID):
        return type_id, space_of(space), "not compared"

    def read(array, memory):
        if memory is None:
            attribute.read(array.reshape(space.shape))
        else:
            attribute.read(array, mtype=memory)

    if count and isinstance(type_id, h5t.TypeStringID) and type_id.is_variable_str():
        texts = np.empty(space.shape, dtype=h5py.string_dtype())
        attribute.read(texts)
        return type_id, space_of(space), [t if isinstance(t, bytes) else str(t).encode() for t in texts.ravel().tolist()]
    return type_id, space_of(space), raw_values(read, type_id, count)


def attribute_names(object_id, tracked):
    index = h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME
    names = []
    h5a.iterate(object_id, lambda name, *_: names.append(name), index_type=index)
    return names


def compare_attributes(a, b, path, tracked, out):
    names_a = [n for n in attribute_names(a, tracked) if f"{path}@{n.decode()}" not in out.allowed]
    names_b = attribute_names(b, tracked)
    if names_a != names_b:
        out(f"{path}: attributes {names_a} became {names_b}")
        return
    for name in names_a:
        type_a, space_a, value_a = attribute_facts(h5a.open(a, name))
        type_b, space_b, value_b = attribute_facts(h5a.open(b, name))
        if not type_a.equal(type_b):
            out(f"{path}@{name}: datatype differs")
        elif space_a != space_b:
            out(f"{path}@{name}: shape {space_a} became {space_b}")
        elif value_a != value_b:
            out(f"{path}@{name}: value {value_a[:80]} became {value_b[:80]}")


def fill_of(list_id, type_id):
    state = list_id.fill_value_defined()
    if state != h5d.FILL_VALUE_USER_DEFINED or has_pointers(type_id):
        return state, None
    try:
        value = np.zeros((), dtype=type_id.dtype)
        list_id.get_fill_value(value)
        return state, value.tobytes()
    except TypeError:
        return state, "no numpy dtype"


def dataset_facts(dataset):
    properties = dataset.get_create_plist()
    space = dataset.get_space()
    layout = properties.get_layout()
    return {
        "extent": space_of(space),
        "maximal shape": space.get_simple_extent_dims(True) if space_of(space)[0] == h5s.SIMPLE else (),
        "layout": layout,
        "chunks": properties.get_chunk() if layout == h5d.CHUNKED else None,
        "filters": [properties.get_filter(i) for i in range(properties.get_nfilters())],
        "fill value": fill_of(properties, dataset.get_type()),
        "fill time": properties.get_fill_time(),
        "allocation time": properties.get_alloc_time(),
        "attribute order": properties.get_attr_creation_order(),
    }


largest_compared = 2**31  # elements; only a dataset that was never written has more


def dataset_values(dataset):
    type_id, space = dataset.get_type(), dataset.get_space()
    count = 0 if space.get_simple_extent_type() == h5s.NULL else space.get_simple_extent_npoints()
    if has_pointers(type_id) and not isinstance(type_id, h5t.TypeStringID):
        return "not compared"
    if count > largest_compared:
        return "not compared" if dataset.get_storage_size() else "never written"
    if isinstance(type_id, h5t.TypeStringID) and type_id.is_variable_str():
        if count == 0:
            return []
        texts = np.empty(space.shape, dtype=h5py.string_dtype())
        dataset.read(h5s.ALL, h5s.ALL, texts)
        return [t if isinstance(t, bytes) else str(t).encode() for t in texts.ravel().tolist()]

    def read(array, memory):
        dataset.read(h5s.ALL, h5s.ALL, array, mtype=memory)

    return raw_values(read, type_id, count)


def compare_datasets(a, b, path, out):
    if not a.get_type().equal(b.get_type()):
        out(f"{path}: datatype differs")
        return
    facts_a, facts_b = dataset_facts(a), dataset_facts(b)
    for what in facts_a:
        if facts_a[what] != facts_b[what]:
            out(f"{path}: {what} {facts_a[what]} became {facts_b[what]}")
    if facts_a["extent"] == facts_b["extent"] and dataset_values(a) != dataset_values(b):
        out(f"{path}: values differ")
    compare_attributes(a, b, path, facts_a["attribute order"], out)


def link_names(group, tracked):
    index = h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME
    names = []
    group.links.iterate(names.append, idx_type=index)
    return names


def compare_groups(a, b, path, seen, out):
    list_a, list_b = a.get_create_plist(), b.get_create_plist()
    for what in ["get_link_creation_order", "get_attr_creation_order"]:
        if getattr(list_a, what)() != getattr(list_b, what)():
            out(f"{path}: {what} {getattr(list_a, what)()} became {getattr(list_b, what)()}")
            return
    tracked = list_a.get_link_creation_order()
    names_a = [n for n in link_names(a, tracked) if f"{path}/{n.decode()}".strip("/") not in out.allowed]
    names_b = link_names(b, tracked)
    if names_a != names_b:
        out(f"{path}: links {names_a} became {names_b}")
        return
    compare_attributes(a, b, path, list_a.get_attr_creation_order(), out)
    for name in names_a:
        compare_links(a, b, name, f"{path}/{name.decode()}".strip("/"), seen, out)


def compare_links(a, b, name, path, seen, out):
    info_a, info_b = a.links.get_info(name), b.links.get_info(name)
    if info_a.type != info_b.type:
        out(f"{path}: kind of link {info_a.type} became {info_b.type}")
        return
    if info_a.type != h5py.h5l.TYPE_HARD:
        if a.links.get_val(name) != b.links.get_val(name):
            out(f"{path}: target of link {a.links.get_val(name)} became {b.links.get_val(name)}")
        return
    object_a, object_b = h5o.open(a, name), h5o.open(b, name)
    if type(object_a) is not type(object_b):
        out(f"{path}: kind of object differs")
        return
    address_a, address_b = h5o.get_info(object_a).addr, h5o.get_info(object_b).addr
    if seen.get(address_a, address_b) != address_b:
        out(f"{path}: names of one object became names of two")
    if address_a in seen:
        return
    if address_b in seen.values():
        out(f"{path}: two objects became one")
    seen[address_a] = address_b
    if isinstance(object_a, h5g.GroupID):
        compare_groups(object_a, object_b, path, seen, out)
    elif isinstance(object_a, h5d.DatasetID):
        compare_datasets(object_a, object_b, path, out)
    else:
        if not object_a.equal(object_b):
            out(f"{path}: named datatype differs")
        compare_attributes(object_a, object_b, path, 0, out)


class Differences:
    def __init__(self, allowed):
        self.allowed = allowed
        self.lines = []

    def __call__(self, line):
        self.lines.append(line)


def generation(file):
    return {0: 0, 1: 0, 2: 1, 3: 2}[file.id.get_create_plist().get_version()[0]]


def verify(original, restored, allowed=()):
    out = Differences(set(allowed))
    with h5py.File(original, "r") as a, h5py.File(restored, "r") as b:
        if generation(a) != generation(b):
            out(f"generation {generation(a)} became {generation(b)}")
        root_a, root_b = h5g.open(a.id, b"/"), h5g.open(b.id, b"/")
        seen = {h5o.get_info(root_a).addr: h5o.get_info(root_b).addr}
        compare_groups(root_a, root_b, "", seen, out)
    return out.lines


# ---------------------------------------------------------------- what jsq should read

def float_type(kind, big):
    """The HDF5 type of a gradient, made field by field for the 16-bit ones."""
    base = {"f32": h5t.IEEE_F32LE, "f64": h5t.IEEE_F64LE}.get(kind, h5t.IEEE_F32LE).copy()
    if kind in ("f16", "bf16"):
        exponent_bits, bias = (5, 15) if kind == "f16" else (8, 127)
        base.set_fields(15, 15 - exponent_bits, exponent_bits, 0, 15 - exponent_bits)
        base.set_size(2)
        base.set_ebias(bias)
    base.set_order(h5t.ORDER_BE if big else h5t.ORDER_LE)
    return base


BYTES = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}
GRADIENT_TYPES = [(kind, big) for kind in BYTES for big in (False, True)]


def as_f32(stored, kind):
    words = np.frombuffer(stored, dtype=f"<u{BYTES[kind]}")
    if kind == "bf16":
        return (words.astype("<u4") << 16).view("<f4")
    return words.view({"f16": "<f2", "f32": "<f4", "f64": "<f8"}[kind]).astype("<f4")


def random_bits(kind, count):
    words = np.frombuffer(random.bytes(count * BYTES[kind]), dtype=f"<u{BYTES[kind]}").copy()
    if kind == "f64":
        words[::2] = (random.standard_normal(len(words[::2])) * 1e-3).view("<u8")
    return words


def put(group, name, kind, big, shape, words=None, properties=None, maxshape=None):
    """A dataset of given bits, written with its own type so that HDF5 converts nothing."""
    count = int(np.prod(shape, dtype=np.int64)) if shape is not None else 0
    type_id = float_type(kind, big)
    space = h5s.create(h5s.SCALAR) if shape == () else h5s.create(h5s.NULL) if shape is None else \
        h5s.create_simple(shape, maxshape or shape)
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    if properties is None:
        properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    dataset = h5d.create(group.id, name.encode(), type_id, space, properties, links)
    if words is None:
        words = random_bits(kind, count)
    if count:
        stored = words.astype(f">u{BYTES[kind]}" if big else f"<u{BYTES[kind]}")
        buffer = np.frombuffer(stored.tobytes(), dtype=np.dtype((np.void, BYTES[kind])))
        dataset.write(h5s.ALL, h5s.ALL, buffer.copy(), mtype=type_id)
    return h5py.Dataset(dataset)


def chunked(chunk, deflate=None, shuffle=False, fletcher=False):
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk(chunk)
    if shuffle:
        properties.set_shuffle()
    if deflate is not None:
        properties.set_deflate(deflate)
    if fletcher:
        properties.set_fletcher32()
    return properties


def listed(group, prefix, seen):
    """Gradients in jsq's order: links by name, depth first, hard links only, every object once."""
    for name in sorted(group.keys(), key=str.encode):
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item_id = h5o.open(group.id, name.encode())
        address = h5o.get_info(item_id).addr
        if address in seen:
            continue
        seen.add(address)
        path = f"{prefix}/{name}".strip("/")
        if isinstance(item_id, h5g.GroupID):
            yield from listed(h5py.Group(item_id), path, seen)
        elif isinstance(item_id, h5d.DatasetID) and item_id.get_space().get_simple_extent_type() != h5s.NULL:
            for kind, big in GRADIENT_TYPES:
                if item_id.get_type().equal(float_type(kind, big)):
                    yield path, kind, big, item_id


def describe(path):
    """Writes X.tsv, X.le and X.f32 beside X."""
    rows, stored_all, values_all = [], [], []
    with h5py.File(path, "r") as file:
        seen = {h5o.get_info(h5g.open(file.id, b"/")).addr}
        for name, kind, big, dataset in listed(file, "", seen):
            shape = dataset.get_space().shape if dataset.get_space().get_simple_extent_type() == h5s.SIMPLE else ()
            raw = dataset_values(dataset)
            words = np.frombuffer(raw, dtype=f">u{BYTES[kind]}" if big else f"<u{BYTES[kind]}")
            stored = words.astype(f"<u{BYTES[kind]}").tobytes()
            stored_all.append(stored)
            values_all.append(as_f32(stored, kind).tobytes())
            shape_text = ",".join(map(str, shape)) if shape else "scalar"
            rows.append(f"{name.encode().hex()}\t{kind}\t{int(big)}\t{shape_text}")
    with open(path + ".tsv", "w") as table:
        table.write("".join(row + "\n" for row in rows))
    with open(path + ".le", "wb") as file:
        file.write(b"".join(stored_all))
    with open(path + ".f32", "wb") as file:
        file.write(b"".join(values_all))


# ---------------------------------------------------------------- files that jsq reads

def make_types(path):
    with h5py.File(path, "w") as file:
        for kind, big in GRADIENT_TYPES:
            tag = f"{kind}_{'be' if big else 'le'}"
            put(file, f"contiguous/{tag}", kind, big, (7, 11, 3))
            put(file, f"chunked/{tag}", kind, big, (7, 11, 3), properties=chunked((3, 4, 2)))
            put(file, f"gzip/{tag}", kind, big, (7, 11, 3), properties=chunked((2, 11, 3), deflate=9))
            put(file, f"all_filters/{tag}", kind, big, (501,), properties=chunked((100,), 1, True, True))
            compact = h5p.create(h5p.DATASET_CREATE)
            compact.set_layout(h5d.COMPACT)
            put(file, f"compact/{tag}", kind, big, (13,), properties=compact)
            put(file, f"scalar/{tag}", kind, big, ())
            put(file, f"empty/{tag}", kind, big, (0,))
            put(file, f"empty_rows/{tag}", kind, big, (0, 5))
            put(file, f"null/{tag}", kind, big, None)
        every_half = np.arange(65536, dtype="<u2")
        put(file, "every/f16", "f16", False, (65536,), every_half)
        put(file, "every/bf16", "bf16", True, (256, 256), every_half, chunked((16, 256), 6, True))


def make_slabs(path):
    """Shapes and chunks that make slabs of every kind: whole rows, joined rows, split dimensions, ragged edges."""
    cases = [((1000, 37), (64, 37)), ((1000, 37), (64, 10)), ((5, 4, 3, 7), (2, 3, 3, 7)), ((1,), (1,)), ((97,), (96,)),
             ((3, 1, 100003), (1, 1, 65536)), ((2,) * 12, (1,) * 12), ((2,) + (1,) * 30 + (3,), (1,) * 32)]
    with h5py.File(path, "w") as file:
        for i, (shape, chunk) in enumerate(cases):
            put(file, f"case{i:02}/gzip", "f32", False, shape, properties=chunked(chunk, 1, True))
            put(file, f"case{i:02}/plain", "f16", True, shape, properties=chunked(chunk))
            put(file, f"case{i:02}/contiguous", "f64", True, shape)


def make_tall(path):
    """Rows of chunks larger than a slab may be: element i is i % 65521."""
    shape = (2, 9000, 600)
    values = (np.arange(np.prod(shape)) % 65521).astype("f4").reshape(shape)
    with h5py.File(path, "w") as file:
        file.create_dataset("tall", data=values, chunks=(2, 32, 100), compression="gzip", compression_opts=1)
        file.create_dataset("one_chunk", data=values, chunks=shape, compression="gzip", compression_opts=1)


def add_attributes(item):
    item.attrs["int"] = 5
    item.attrs["ints"] = np.arange(6, dtype=">i2").reshape(2, 3)
    item.attrs["float"] = 2.5
    item.attrs["halves"] = np.array([1, -0.0, np.nan], dtype=np.float16)
    item.attrs["text"] = "gradient ∇ of the loss"
    item.attrs["texts"] = np.array(["a", "", "bc" * 100], dtype=object)
    item.attrs["fixed"] = np.bytes_(b"fixed text")
    item.attrs["fixed_array"] = np.array([b"ab", b"cdef"])
    item.attrs["flag"] = True
    item.attrs["compound"] = np.array([(1, 2.5, b"x")], dtype=[("i", "<u8"), ("f", ">f4"), ("s", "S3")])
    item.attrs["pair"] = np.complex64(1 + 2j)
    item.attrs["nothing"] = h5py.Empty("f4")
    item.attrs["no_elements"] = np.zeros((0, 3), "i4")
    item.attrs["colour"] = np.array(1, dtype=h5py.enum_dtype({"RED": 0, "GREEN": 1, "BLUE": 42}, basetype="i"))
    item.attrs["arrays"] = np.zeros(2, dtype=[("m", "<f8", (2, 2))])
    item.attrs["ünïcode"] = 1


def make_extras(path, **options):
    with h5py.File(path, "w", **options) as file:
        add_attributes(file)
        file.create_group("empty/deeper")
        add_attributes(file.create_group("described"))
        add_attributes(put(file, "model/weight", "f32", False, (10, 10), properties=chunked((4, 4), 6, True)))
        add_attributes(put(file, "model/plain", "f16", True, (10,)))
        put(file, "model/ünïcode", "f32", False, (2,))
        file["ints"] = np.arange(1000, dtype="<i8").reshape(10, 100)
        file.create_dataset("labels", data=np.arange(5000, dtype="u1"), chunks=(512,), compression="gzip", shuffle=True,
                            fletcher32=True)
        file.create_dataset("growing", data=np.arange(12, dtype=">u4").reshape(3, 4), maxshape=(None, 8), chunks=(2, 4),
                            fillvalue=7)
        file.create_dataset("table", data=np.array([(b"conv1", 3, [1, 2]), (b"fc", 4, [5, 6])],
                                                   dtype=[("name", "S8"), ("n", "<i4"), ("shape", "<i8", (2,))]))
        file.create_dataset("names", data=["conv1", "", "größe"], dtype=h5py.string_dtype())
        file.create_dataset("name", data="one", dtype=h5py.string_dtype("ascii"))
        file.create_dataset("unwritten", (1000, 1000), "i4")
        file.create_dataset("unwritten_chunks", (10**9, 10**9), "i4", chunks=(100, 100), fillvalue=3)
        file.create_dataset("opaque", data=np.array([b"ab", b"cd"], dtype="V2"))
        file.create_dataset("bools", data=np.array([True, False, True]))
        file.create_dataset("long_double", data=np.arange(4, dtype=np.longdouble))
        file.create_dataset("nothing", data=h5py.Empty("i4"))
        file.create_dataset("complex", data=np.arange(4, dtype=np.complex128))
        file["datatype"] = np.dtype([("x", "<f4"), ("y", ">f8")])
        file["datatype"].attrs["unit"] = "m"
        put(file, "filled", "f32", True, (50,), properties=filled(), maxshape=(h5s.UNLIMITED,))
        put(file, "reversed_filters", "f64", False, (50,), properties=reversed_filters())
        unset = h5p.create(h5p.DATASET_CREATE)
        unset.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        unset.set_fill_time(h5d.FILL_TIME_NEVER)
        put(file, "early", "f32", False, (5,), properties=unset)
        never = h5d.create(file.id, b"never_written", float_type("f32", False), h5s.create_simple((4, 4)), filled(chunk=(2, 2)))
        del never
        bits = h5t.STD_B16BE.copy()
        h5d.create(file.id, b"bits", bits, h5s.create_simple((3,))).write(
            h5s.ALL, h5s.ALL, np.frombuffer(b"abcdef", "V2").copy(), mtype=bits)
        odd = h5t.STD_I32BE.copy()
        odd.set_precision(20)
        odd.set_offset(4)
        h5d.create(file.id, b"odd_integers", odd, h5s.create_simple((3,))).write(
            h5s.ALL, h5s.ALL, np.frombuffer(b"\x00\x12\x34\x50" * 3, "V4").copy(), mtype=odd)


def filled(chunk=(16,)):
    properties = chunked(chunk, 6, True)
    properties.set_fill_value(np.array(1.5, "<f4"))
    return properties


def reversed_filters():
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((16,))
    properties.set_fletcher32()
    properties.set_deflate(3)
    properties.set_shuffle()
    return properties


def make_ordered(path, libver):
    with h5py.File(path, "w", libver=libver, track_order=True) as file:
        for name in ["zeta", "alpha", "mid"]:
            group = file.create_group(name, track_order=True)
            for layer in ["w", "b", "a"]:
                put(group, layer, "f32", False, (3,)).attrs["layer"] = layer
            group["link"] = h5py.SoftLink("w")
            for attribute in ["z", "y", "x"]:
                group.attrs[attribute] = attribute
        for number in range(40, 0, -1):
            file.attrs[f"number{number}"] = number
        file.create_group("empty_last", track_order=True)
        # jsq meets alpha before zeta, but writes zeta first.
        file["zeta/shared"] = file["alpha/w"]


def make_links(path):
    with h5py.File(path, "w") as file:
        put(file, "b/weight", "f32", False, (4,))
        file["a_soft"] = h5py.SoftLink("/b/weight")
        file["dangling"] = h5py.SoftLink("/nowhere/at all")
        file["c_same_weight"] = file["b/weight"]
        file["b/back_to_root"] = file["/"]
        file["b/itself"] = file["b"]
        file["z/group_again"] = file["b"]
        file["ints"] = np.arange(3)
        file["z/ints_again"] = file["ints"]


def make_latest(path):
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(30):
            group = file.create_group(f"layer{i}")
            put(group, "weight", "f32", False, (20, 30), properties=chunked((8, 30), 6, True))
            put(group, "bias", "f32", False, (30,))
            for j in range(12):
                group.attrs[f"attribute{j}"] = np.arange(j)
        file.attrs["large"] = np.arange(20000, dtype="<i8")
        put(file, "extensible", "f32", False, (100, 3), properties=chunked((10, 3), 6), maxshape=(h5s.UNLIMITED, 3))
        put(file, "both_extensible", "f32", False, (9, 9), properties=chunked((4, 4)), maxshape=(h5s.UNLIMITED,) * 2)
    return path


def make_v18(path):
    with h5py.File(path, "w", libver=("v108", "v108")) as file:
        put(file, "weight", "f32", False, (20,))


def make_many(path):
    with h5py.File(path, "w") as file:
        for i in range(10000):
            put(file, f"block{i // 100}/p{i % 100}", "f32", False, (3,))


def make_skipped(path):
    with h5py.File(path, "w") as file:
        weight = put(file, "weight", "f32", False, (4,))
        weight.attrs["reference"] = file["weight"].ref
        weight.attrs["kept"] = 1
        file.attrs["region"] = file["weight"].regionref[0:2]
        file["references"] = np.array([weight.ref, weight.ref], dtype=h5py.ref_dtype)
        ragged = file.create_dataset("ragged", (2,), dtype=h5py.vlen_dtype("i4"))
        ragged[0] = [1, 2, 3]
        mixed = np.dtype([("name", h5py.string_dtype()), ("n", "i4")])
        file.create_dataset("mixed", data=np.array([("a", 1)], dtype=mixed))


SKIPPED = ["weight@reference", "@region", "references", "ragged", "mixed"]


# ---------------------------------------------------------------- files that jsq refuses

def make_bad(folder):
    rows = []

    def bad(name, error, *fragments, member=""):
        rows.append(f"{name}\t{member}\t{error}\t{'|'.join(fragments)}")

    def open_new(name):
        return h5py.File(os.path.join(folder, name), "w")

    with open(os.path.join(folder, "text.h5"), "w") as file:
        file.write("this is not HDF5\n" * 100)
    bad("text.h5", "unsupported_format", "not an HDF5 file")
    open(os.path.join(folder, "nothing.h5"), "w").close()
    bad("nothing.h5", "unsupported_format", "not an HDF5 file")
    bad("absent.h5", "not_found", "No such file")

    with open_new("ints.h5") as file:
        file["g/labels"] = np.arange(4, dtype="i4")
        file["table"] = np.zeros(2, dtype=[("offset", "i8"), ("size", "i8")])
        file["nothing"] = h5py.Empty("f4")
    bad("ints.h5", "unsupported_dtype", "no dataset of float16", "/g/labels (int32)", "/table (compound {offset, size})")
    with open_new("no_datasets.h5") as file:
        file.create_group("g")
    bad("no_datasets.h5", "unsupported_dtype", "no datasets at all")
    with open_new("quadruple.h5") as file:
        file["x"] = np.arange(4, dtype=np.longdouble)
    bad("quadruple.h5", "unsupported_dtype", "float of 128 bits")

    with open_new("members.h5") as file:
        put(file, "worker0/conv1", "f32", False, (4,))
        put(file, "worker1/conv1", "f32", False, (4,))
        put(file, "worker1/other", "f32", False, (4,))
        file["table"] = np.zeros(2, dtype=[("offset", "i8"), ("size", "i8")])
        file["labels/train"] = np.arange(4)
        file["soft"] = h5py.SoftLink("/worker0")
    bad("members.h5", "unknown_name", "no 'worker2'", "'worker0', 'worker1'", member="/worker2")
    bad("members.h5", "unknown_name", "'/worker0'", "no 'conv2'", "'conv1'", member="/worker0/conv2")
    bad("members.h5", "unknown_name", "not a group", member="/worker0/conv1/deeper")
    bad("members.h5", "unknown_name", "soft link", "'/worker0'", member="/soft")
    bad("members.h5", "unsupported_dtype", "/table (compound {offset, size})", "'/table'", member="/table")
    bad("members.h5", "unsupported_dtype", "field of a compound", member="/table/offset")
    bad("members.h5", "unsupported_dtype", "/labels/train (int64)", member="/labels")

    with open_new("lzf.h5") as file:
        put(file, "fine", "f32", False, (4,))
        file.create_dataset("g/packed", data=np.zeros(100, "f4"), compression="lzf")
    bad("lzf.h5", "unsupported_format", "'/g/packed'", "filter 32000 (lzf)", "plugins")
    with open_new("szip.h5") as file:
        file.create_dataset("packed", data=np.zeros(1024, "f4"), compression="szip")
    bad("szip.h5", "unsupported_format", "'/packed'", "(szip)")
    with open_new("scaleoffset.h5") as file:
        file.create_dataset("packed", data=np.zeros(100, "f4"), scaleoffset=3)
    bad("scaleoffset.h5", "unsupported_format", "'/packed'", "(scaleoffset)")
    with open_new("lzf_ints.h5") as file:
        put(file, "fine", "f32", False, (4,))
        file.create_dataset("labels", data=np.zeros(100, "i4"), compression="lzf")
    bad("lzf_ints.h5", "unsupported_format", "'/labels'", "(lzf)")
    with open_new("unknown_filter.h5") as file:
        properties = chunked((10,))
        properties.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        h5d.create(file.id, b"packed", h5t.IEEE_F32LE, h5s.create_simple((10,)), properties)
    bad("unknown_filter.h5", "unsupported_format", "'/packed'", "filter 31999")

    with open_new("external_link.h5") as file:
        put(file, "fine", "f32", False, (4,))
        file["g/out"] = h5py.ExternalLink("members.h5", "/worker0")
    bad("external_link.h5", "unsupported_format", "'/g/out'", "external link")
    bad("external_link.h5", "unsupported_format", "'out'", "external", member="/g/out")
    with open_new("external_storage.h5") as file:
        file.create_dataset("outside", (4,), "f4", external=[(os.path.join(folder, "raw.bin"), 0, 16)])[:] = 1
    bad("external_storage.h5", "unsupported_format", "'/outside'", "external files")
    with open_new("virtual.h5") as file:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(os.path.join(folder, "members.h5"), "worker0/conv1", (4,))
        file.create_virtual_dataset("composed", layout)
    bad("virtual.h5", "unsupported_format", "'/composed'", "virtual dataset")

    with open_new("large_extras.h5") as file:
        put(file, "fine", "f32", False, (4,))
        file.create_dataset("images", data=np.zeros((65, 1024, 1024), "u1"), compression="gzip")
    bad("large_extras.h5", "limit", "'/images'", "64 MiB")
    with open_new("large_texts.h5") as file:
        put(file, "fine", "f32", False, (4,))
        file.create_dataset("texts", (2**40,), h5py.string_dtype(), chunks=(1000,))[5] = "x"
    bad("large_texts.h5", "limit", "'/texts'", "64 MiB")
    with open_new("large_chunk.h5") as file:
        put(file, "huge", "f32", False, (4,), properties=chunked((2**29,), 6), maxshape=(h5s.UNLIMITED,))
    bad("large_chunk.h5", "limit", "'/huge'", "chunk")
    with open_new("two_dots.h5") as file:
        put(file, "g/fine", "f32", False, (4,))
        group = file["g"]
        group.id.links.create_soft(b"..", b"x")
    bad("two_dots.h5", "unsupported_format", "'/g/..'", "rename")
    with open_new("deep.h5") as file:
        put(file, "/".join("g" * 200), "f32", False, (4,))
    bad("deep.h5", "limit", "nested more than 128")

    with open_new("checksum.h5") as file:
        dataset = put(file, "weight", "f32", False, (64,), properties=chunked((64,), fletcher=True))
        offset = dataset.id.get_chunk_info(0).byte_offset
    with open(os.path.join(folder, "checksum.h5"), "r+b") as file:
        file.seek(offset + 10)
        byte = file.read(1)
        file.seek(offset + 10)
        file.write(bytes([byte[0] ^ 1]))

    with open(os.path.join(folder, "bad.tsv"), "w") as table:
        table.write("".join(row + "\n" for row in rows))


def make_all(folder):
    os.makedirs(folder, exist_ok=True)
    makers = {
        "types.h5": make_types, "slabs.h5": make_slabs, "extras.h5": make_extras,
        "extras_latest.h5": lambda path: make_extras(path, libver="latest"),
        "ordered.h5": lambda path: make_ordered(path, "earliest"),
        "ordered_latest.h5": lambda path: make_ordered(path, "latest"),
        "links.h5": make_links, "latest.h5": make_latest, "v18.h5": make_v18, "many.h5": make_many,
        "skipped.h5": make_skipped,
    }
    for name, make in makers.items():
        path = os.path.join(folder, name)
        make(path)
        describe(path)
    with open(os.path.join(folder, "good.tsv"), "w") as table:
        for name in makers:
            table.write(f"{name}\t{','.join(SKIPPED) if name == 'skipped.h5' else ''}\n")
    with h5py.File(os.path.join(folder, "user_block.h5"), "w", userblock_size=1024) as file:
        put(file, "weight", "f32", False, (100,), np.arange(100, dtype="<f4").view("<u4"))
    make_tall(os.path.join(folder, "tall.h5"))
    make_bad(folder)


def main(arguments):
    if len(arguments) >= 3 and arguments[0] == "verify":
        allowed = arguments[4].split(",") if len(arguments) == 5 and arguments[3] == "--allow-missing" else ()
        differences = verify(arguments[1], arguments[2], allowed)
        return "\n".join(differences) if differences else None
    if len(arguments) != 1:
        return __doc__
    make_all(os.path.join(arguments[0], "hdf5"))
    copy = os.path.join(arguments[0], os.path.basename(__file__))
    if os.path.abspath(copy) != os.path.abspath(__file__):
        shutil.copyfile(__file__, copy)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

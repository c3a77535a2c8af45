"""JointSQ's noise models and measured errors, computed by numpy from the formulas alone.

The paper's items have the profit densities D g^2 with D = 15/32, 15/512 and 255/262144 and the weights 2, 2 and 4 bits;
the best allocation of c bits takes them by falling density, which keeps each element's items in order. Where the last
step leaves two bits, it either takes the next item of weight 2, or the one of weight 4 in exchange for the worst of
weight 2. Noise counts 4^-b g^2 for an element of b bits.
"""

import csv
import json
import math
import pathlib
import sys

import h5py
import numpy as np

TOLERANCE = 1e-6
WIDTHS = np.array([0, 2, 4, 8])
DENSITY = np.array([15 / 32, 15 / 512, 255 / 262144])
WEIGHT = np.array([2, 2, 4])


def close(found, expected, what, tolerance=TOLERANCE):
    if not math.isclose(found, expected, rel_tol=tolerance, abs_tol=1e-300):
        sys.exit(f"{what}: {found!r} was reported, {expected!r} was expected")


# --- Allocations: the class of every element --------------------------------------------------------------------------


def optimum(values, bits):
    energy = values.astype(np.float64) ** 2
    bits = min(bits, 8 * values.size) // 2 * 2
    key = (energy[:, None] * DENSITY).ravel()  # element-major: item = 3 element + level
    weight = np.tile(WEIGHT, values.size)
    order = np.argsort(-key, kind="stable")
    spent = np.cumsum(weight[order])
    taken = int(np.searchsorted(spent, bits, side="right"))
    classes = np.bincount(order[:taken] // 3, minlength=values.size)
    left = bits - (int(spent[taken - 1]) if taken else 0)
    if left == 2 and taken < order.size:
        stopped = order[taken]  # of weight 4, or it would have been taken
        later = order[taken:][weight[order[taken:]] == 2]
        gain = 2 * key[later[0]] if later.size else -1.0
        exchange, removed = -1.0, None
        for item in order[:taken][::-1]:
            element, level = divmod(int(item), 3)
            if weight[item] == 2 and classes[element] == level + 1 and element != stopped // 3:
                exchange, removed = 4 * key[stopped] - 2 * key[item], element
                break
        if exchange > gain:
            classes[removed] -= 1
            classes[stopped // 3] += 1
        elif gain > 0:
            classes[later[0] // 3] += 1
    assert WIDTHS[classes].sum() <= bits
    return classes


def literal(values, bits):
    """The paper's text: the first item of a group excludes its others, so the c / 2 largest get two bits."""
    classes = np.zeros(values.size, dtype=int)
    classes[np.argsort(-np.abs(values), kind="stable")[: bits // 2]] = 1
    return classes


# --- Noise ------------------------------------------------------------------------------------------------------------


def noise(values, classes):
    """h' for each element, Eq. 6, and Eq. 6 with the dropped class counted once."""
    energy = np.array([(values[classes == j].astype(np.float64) ** 2).sum() for j in range(4)])
    share = energy / energy.sum() * 4.0 ** -WIDTHS
    members = np.bincount(classes, minlength=4)
    return share.sum(), (share * members).sum(), (share * np.where(WIDTHS > 0, members, 1)).sum()


def co_compressor(elements, bits):
    """Eq. 3: the least k / 4^b with k b <= c, and its b."""
    return min((min(elements, bits // b) / 4.0**b, b) for b in range(1, 9) if bits // b > 0)


def exchange(values, base, kept, widths):
    """Eq. 9 from the `kept` largest at `base` bits to `widths`: h' gained by wider elements, and lost by narrower ones."""
    energy = values.astype(np.float64) ** 2
    start = np.zeros(values.size, dtype=int)
    start[np.argsort(-np.abs(values), kind="stable")[:kept]] = base
    change = energy * (4.0**-start - 4.0**-widths) / energy.sum()
    return change[widths > start].sum(), -change[widths < start].sum()


def errors(original, decoded):
    g, d = original.ravel().astype(np.float64), decoded.ravel().astype(np.float64)
    return {
        "nmse": ((d - g) ** 2).sum() / (g**2).sum(),
        "cosine": (d @ g) / math.sqrt((d @ d) * (g @ g)),
        "max_error": np.abs(d - g).max(),
        "bias": abs((d - g).sum()) / g.size,
        "sign_agreement": (np.sign(g) == np.sign(d)).mean(),
    }


# --- Reports against them ---------------------------------------------------------------------------------------------


def check_models(report_path, dump_path):
    """Every model of `analyze --noise` on one npy."""
    values = np.load(dump_path).ravel()
    rows = json.loads(pathlib.Path(report_path).read_text())["rows"]
    assert len(rows) == 1 and rows[0]["results"], "expected the noise of one dump"
    seen = set()
    for row in rows[0]["results"]:
        seen.add(row["allocator"])
        what = f"{row['target']} {row['allocator']}"
        bits = row["payload_bits"]
        h3, b = co_compressor(values.size, bits)
        close(row["h_eq3"], h3, f"{what}: Eq. 3")
        assert row["h_eq3_bits"] == b, f"{what}: Eq. 3's width {row['h_eq3_bits']}, expected {b}"
        if row["allocator"] == "sampled":
            best = noise(values, optimum(values, bits))[0]
            assert best * (1 - TOLERANCE) <= row["hprime"] <= 1.05 * best, f"{what}: h' {row['hprime']}, optimum {best}"
            continue
        if row["allocator"] == "reallocated":
            best = noise(values, optimum(values, bits))[0]
            start = noise(values, literal(values, bits))[0]
            assert best * (1 - TOLERANCE) <= row["hprime"] <= start * (1 + TOLERANCE), f"{what}: {row['hprime']}"
            continue
        allocate = {"exact": optimum, "literal": literal}[row["allocator"]]
        for key, expected in zip(("hprime", "h_eq6", "h_eq6_nz"), noise(values, allocate(values, bits))):
            close(row[key], expected, f"{what}: {key}")
        gain, loss = exchange(values, b, int(bits) // b, WIDTHS[allocate(values, bits)])
        close(row["eq9_gain"], gain, f"{what}: Eq. 9, gain")
        close(row["eq9_loss"], loss, f"{what}: Eq. 9, loss")
        assert row["eq9_improves"] == (gain > loss), what
    assert seen == {"exact", "literal", "sampled", "reallocated"}, seen
    for target in {row["target"] for row in rows[0]["results"]}:
        spent = {row["allocator"]: row["payload_bits"] for row in rows[0]["results"] if row["target"] == target}
        assert abs(spent["exact"] - spent["sampled"]) < 4, f"{target}: allocators at unequal cost: {spent}"
        # The literal text gives nobody more than two bits, so it cannot spend more than two an element.
        assert abs(min(spent["exact"], 2 * values.size) - spent["literal"]) < 4, f"{target}: unequal cost: {spent}"


def check_tensors(report_path, dump_path):
    """h' of every tensor of an HDF5 dump, and of all, under one allocation of the whole."""
    rows = json.loads(pathlib.Path(report_path).read_text())["rows"]
    with h5py.File(dump_path) as file:
        tensors = [file[row["tensor"]][()].ravel() for row in rows[1:]]
    values = np.concatenate(tensors)
    whole = rows[0]["results"][0]
    assert whole["allocator"] == "exact" and rows[0]["tensor"] is None
    classes = optimum(values, whole["payload_bits"])
    close(whole["hprime"], noise(values, classes)[0], "all tensors: h'")
    at = 0
    for row, tensor in zip(rows[1:], tensors):
        own = classes[at : at + tensor.size]
        at += tensor.size
        if not tensor.any():
            continue
        close(row["results"][0]["hprime"], noise(tensor, own)[0], f"{row['tensor']}: h'", 1e-4)  # ties may fall elsewhere
        assert abs(row["results"][0]["payload_bits"] - WIDTHS[own].sum()) <= 8, row["tensor"]
    assert len(tensors) > 1 and at == rows[0]["elements"]


def check_coded_model(report_path, dump_path, alloc):
    """h' of what compare or analyze coded, at the payload bits it tells, for a method without map charges."""
    values = np.load(dump_path).ravel()
    document = json.loads(pathlib.Path(report_path).read_text())
    allocate = {"exact": optimum, "literal": literal}[alloc]
    for row in document["rows"]:
        if "results" in row:
            row = next(line for line in row["results"] if line["allocator"] == alloc)
            bits, found = row["coded_payload_bits"], row["coded_hprime"]
        else:
            bits, found = 32 * values.size / row["payload_ratio"], row["hprime"]
            assert abs(bits - round(bits)) < 1e-3, f"payload ratio {row['payload_ratio']} is no whole number of bits"
        close(found, noise(values, allocate(values, round(bits)))[0], f"{row['target']}: coded h'")


def check_errors(report_path, index, dump_path, decoded_path, frame_path):
    """Row `index` of compare (or noise line of analyze) against a dump decoded by the program's other commands."""
    row = json.loads(pathlib.Path(report_path).read_text())["rows"]
    row = row[0]["results"][int(index)] if "results" in row[0] else row[int(index)]
    original = np.load(dump_path)
    for key, expected in errors(original, np.load(decoded_path)).items():
        if row.get(key) is not None:
            close(row[key], expected, f"row {index}: {key}")
    size = pathlib.Path(frame_path).stat().st_size
    close(row.get("file_ratio", row.get("coded_file_ratio")), original.nbytes / size, f"row {index}: ratio")
    if "file_bytes" in row:
        assert row["file_bytes"] == size, f"row {index}: {row['file_bytes']} bytes, the file has {size}"
        close(row["bits_per_element"], 8 * size / original.size, f"row {index}: bits per element")


def magnitude_statistics(g, finite):
    """Figures of |g| that need no shape: the tail index, the entropy of classes, and the lag-1 autocorrelation."""
    falling = np.sort(np.abs(finite))[::-1]
    k = math.ceil(finite.size / 100)
    tail = math.nan
    if k >= 10 and falling[k] > 0 and falling[0] > falling[k]:
        tail = k / np.log(falling[:k] / falling[k]).sum()
    bits = np.abs(finite).astype(np.float32).view(np.uint32)
    members = np.unique(np.where(bits == 0, -1, (bits >> 23).astype(int)), return_counts=True)[1] / finite.size
    entropy = -(members * np.log2(members)).sum()
    centred = np.abs(g) - np.abs(finite).mean()
    with np.errstate(invalid="ignore"):
        products = centred[1:] * centred[:-1]
    spread = (centred[np.isfinite(g)] ** 2).sum()
    significant = g.size > 1 and spread > 1e-9 * (finite**2).sum()
    return tail, entropy, products[np.isfinite(products)].sum() / spread if significant else math.nan


def scales(array):
    """Mean |g| of rows and of columns where 16 elements share one, otherwise of runs of 256, of finite values."""
    magnitudes = np.abs(array.astype(np.float64))
    rows = columns = runs = np.array([])
    if array.ndim >= 2 and array.size >= 1024:
        if array.size // array.shape[0] >= 16:
            rows = magnitudes.reshape(array.shape[0], -1).mean(1)
        if array.size // array.shape[1] >= 16:
            columns = np.moveaxis(magnitudes, 1, 0).reshape(array.shape[1], -1).mean(1)
    if not rows.size and not columns.size and array.size:
        stored = magnitudes.ravel("F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C")
        whole = max(1, stored.size // 256 + (stored.size % 256 >= 16))
        runs = np.array([run.mean() for run in np.split(stored, 256 * np.arange(1, whole))])
    return rows, columns, runs


def spread(means):
    octaves = np.log2(means[means > 0])
    return octaves.std() if octaves.size > 1 else math.nan


def close_or_null(found, expected, what):
    if math.isnan(expected):
        assert found is None, f"{what}: {found!r} was reported, null was expected"
    else:
        assert found is not None, f"{what}: null was reported, {expected!r} was expected"
        assert math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=1e-9), f"{what}: {found!r}, {expected!r} was expected"
def check_tensor_errors(report_path, dump_path, decoded_path):
    """The rows of compare --per-tensor against an HDF5 dump decoded by the program's other commands."""
    rows = json.loads(pathlib.Path(report_path).read_text())["rows"]
    with h5py.File(dump_path) as original, h5py.File(decoded_path) as decoded:
        for row in rows[:-1]:
            pair = original[row["tensor"]][()], decoded[row["tensor"]][()]
            for key, expected in errors(*pair).items():
                close(row[key], expected, f"{row['tensor']}: {key}")
            close(row["file_ratio"], pair[0].nbytes / row["file_bytes"], f"{row['tensor']}: ratio")
        parts = [[file[row["tensor"]][()].ravel() for row in rows[:-1]] for file in (original, decoded)]
        for key, expected in errors(np.concatenate(parts[0]), np.concatenate(parts[1])).items():
            close(rows[-1][key], expected, f"whole: {key}")


def check_pareto(all_path, front_path):
    """The rows of compare --pareto against those without it, by comparing each with each."""
    rows, front = (json.loads(pathlib.Path(path).read_text())["rows"] for path in (all_path, front_path))
    place = {}  # the first of equal rows
    for row in rows:
        if row["file_bytes"] is not None:
            place.setdefault((row["file_bytes"], math.inf if row["nmse"] is None else row["nmse"]), row)
    kept = [
        (row["method"], row["target"])
        for (size, error), row in place.items()
        if not any(s <= size and e <= error and (s, e) != (size, error) for s, e in place)
    ]
    found = [(row["method"], row["target"]) for row in front]
    assert len(kept) > 2 and found == kept, (found, kept)


def check_statistics(report_path, *dump_paths):
    """The rows of analyze: one for each npy, then all; or one for the whole of an HDF5 dump, then each tensor's."""
    rows = json.loads(pathlib.Path(report_path).read_text())["rows"]
    populations = []  # lists of tensors
    for path in dump_paths:
        if path.endswith(".npy"):
            populations.append([np.load(path)])
            continue
        with h5py.File(path) as file:
            tensors = [[file[row["tensor"]][()]] for row in rows if row["tensor"] is not None]
        populations += [sum(tensors, [])] + tensors
    if len(dump_paths) > 1:
        populations.append(sum(populations, []))
    assert len(rows) == len(populations), f"{len(rows)} rows for {len(populations)} populations"
    for row, tensors in zip(rows, populations):
        with np.errstate(over="ignore"):
            tensors = [tensor.astype(np.float32) for tensor in tensors]
        parts = [tensor.ravel("F" if tensor.flags.f_contiguous and not tensor.flags.c_contiguous else "C") for tensor in tensors]
        g = np.concatenate(parts).astype(np.float64)
        what = f"{row['input']} {row['tensor']}"
        finite = g[np.isfinite(g)]
        assert row["elements"] == g.size and row["nonfinite"] == g.size - finite.size, what
        close(row["l1_norm"], np.abs(finite).sum(), f"{what}: l1 norm")
        close(row["l2_norm"], math.sqrt((finite**2).sum()), f"{what}: l2 norm")
        close(row["max_magnitude"], np.abs(finite).max(), f"{what}: max")
        assert abs(row["mean"] - finite.mean()) <= 1e-12 * np.abs(finite).max(), f"{what}: mean {row['mean']}, {finite.mean()}"
        close(row["zero_share"], (g == 0).sum() / g.size, f"{what}: zeros")
        centred = finite - finite.mean()
        variance = (centred**2).mean()
        close_or_null(row["kurtosis"], (centred**4).mean() / variance**2 if variance > 0 else math.nan, f"{what}: kurtosis")
        falling = np.sort(finite**2)[::-1]
        for one_in in (1000, 100, 10):
            held = falling[: math.ceil(finite.size / one_in)].sum()
            close_or_null(row[f"energy_top_1_in_{one_in}"], held / falling.sum() if falling.sum() else math.nan, f"{what}: top 1 in {one_in}")
        # Neighbours of different tensors are none.
        separated = np.concatenate([np.append(part, np.nan) for part in parts]).astype(np.float64)
        tail, entropy, autocorrelation = magnitude_statistics(separated, finite)
        close_or_null(row["tail_index"], tail, f"{what}: tail index")
        close_or_null(row["class_entropy"], entropy, f"{what}: entropy")
        close_or_null(row["magnitude_autocorrelation"], autocorrelation, f"{what}: autocorrelation")
        if finite.size < g.size:
            continue
        for key, index in (("row_spread", 0), ("column_spread", 1), ("run_spread", 2)):
            spreads = np.array([spread(scales(tensor)[index]) for tensor in tensors])
            sizes = np.array([tensor.size for tensor in tensors])[~np.isnan(spreads)]
            spreads = spreads[~np.isnan(spreads)]
            expected = math.sqrt((sizes * spreads**2).sum() / sizes.sum()) if sizes.size else math.nan
            close_or_null(row[key], expected, f"{what}: {key}")


def check_forms(json_path, csv_path, text_path, md_path, tables=1):
    """CSV has the values of JSON; text and Markdown have them rounded, analyze's in several tables. Speeds differ from run
    to run."""
    tables = int(tables)
    document = json.loads(pathlib.Path(json_path).read_text())
    rows = document["rows"]
    if "results" in rows[0]:
        rows = [line for row in rows for line in row["results"]]
    with open(csv_path, newline="") as file:
        table = list(csv.DictReader(file))
    assert len(rows) == len(table) > 0, (len(rows), len(table))
    shown = [key for key in rows[0] if isinstance(rows[0][key], float) and not key.endswith("per_s")]
    assert len(shown) >= 7, shown
    for row, line in zip(rows, table):
        for key in shown:
            assert float(line[key]) == row[key], (key, line[key], row[key])
    for path in (text_path, md_path):
        text = pathlib.Path(path).read_text()
        for row in rows:
            words = {"method": row.get("method"), "allocator": row.get("allocator"), "target": row["target"]}
            wanted = [word for word in words.values() if word]
            lines = [line.replace("|", " ") for line in text.splitlines()]
            lines = [line for line in lines if all(f" {word} " in f" {line} " for word in wanted)]
            assert len(lines) == (tables if "results" in document["rows"][0] else 1), (path, wanted, lines)
            numbers = []
            for token in " ".join(lines).split():
                try:
                    numbers.append(float(token.rstrip("x")))
                except ValueError:
                    pass
            for key in shown:
                near = [n for n in numbers if math.isclose(n, row[key], rel_tol=5.1e-3)]
                assert near, f"{path}: {key} {row[key]} is not in: {lines[0]}"


if __name__ == "__main__":
    checks = {
        "models": check_models,
        "tensors": check_tensors,
        "coded-model": check_coded_model,
        "errors": check_errors,
        "tensor-errors": check_tensor_errors,
        "pareto": check_pareto,
        "statistics": check_statistics,
        "forms": check_forms,
    }
    checks[sys.argv[1]](*sys.argv[2:])

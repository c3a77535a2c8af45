#!/usr/bin/python3
"""Holds jsq analyze to numpy on real gradients: rate-distortion limits from a Blahut-Arimoto iteration of its own, measured
errors from what decompress writes, entropy and h' from their formulas. One line for each dump; exits 1 where one does not
hold.

    check_analysis.py JSQ_PROGRAM [GRADIENTS]

The iteration here is the textbook's, on another grid than the program's: a linear one whose points are a sixteenth of the
noise's standard deviation apart, both signs, without a dual. It gives an upper value
of min R + s D, from which follows an upper value of D(R); the program's lower one has to be within 1e-3 of it.
"""
import csv
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np

SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "samples"
OTHER_DUMPS = ("resnet20_late.npy", "vit2_late.npy", "resnet20_late_layer3.2.conv2.weight.npy")
RATIOS = (16, 32, 100)
MODELS = ("pooled", "tensors", "scales")


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def close(found, expected, what, tolerance):
    if found is None or not math.isclose(found, expected, rel_tol=tolerance):
        raise AssertionError(f"{what}: {found} was reported, {expected} was expected")


# ---- Rate-distortion -------------------------------------------------------------------------------------------------


def spread_magnitudes(values):
    """Points and masses of the smoothed histogram: 16 bins an octave, each as 8 points evenly over its width about a centre
    that keeps its mean square; exact zeros at zero."""
    magnitudes = np.abs(values.astype(np.float32))
    zeros = (magnitudes == 0).sum()
    magnitudes = magnitudes[magnitudes > 0]
    index = magnitudes.view(np.uint32) >> 19
    bins, members = np.unique(index, return_counts=True)
    energy = np.bincount(index, weights=magnitudes.astype(np.float64) ** 2)[bins]
    low = (bins.astype(np.uint32) << 19).view(np.float32).astype(np.float64)
    high = ((bins + 1).astype(np.uint32) << 19).view(np.float32).astype(np.float64)
    width, square = high - low, energy / members
    centre = np.sqrt(np.maximum(square - width**2 / 12, 0))
    offsets = (np.arange(8) + 0.5) / 8 - 0.5
    points = np.sqrt((centre[:, None] + width[:, None] * offsets) ** 2 + (width[:, None] / 8) ** 2 / 12)
    masses = np.repeat(members / 8, 8)
    return np.append(points.ravel(), 0.0), np.append(masses, zeros) / values.size


def lagrangian(points, masses, slope, iterations):
    """min R + slope D in nats, and its D, by Blahut and Arimoto's iteration over the whole line."""
    x = points * math.sqrt(slope)
    step = math.sqrt(0.5) / 16
    # Each point as two on the grid that keep its mass and its square.
    p = np.zeros(int(x.max() / step) + 3)
    left = (x / step).astype(int)
    share = ((x / step) ** 2 - left**2) / (2 * left + 1)
    np.add.at(p, left, masses * (1 - share))
    np.add.at(p, left + 1, masses * share)
    line = np.concatenate([p[:0:-1] / 2, p[:1], p[1:] / 2])  # both signs

    reach = int(6 / step)
    distance = np.arange(-reach, reach + 1) * step
    kernel = np.exp(-(distance**2))
    size = 1 << int(line.size + 2 * reach).bit_length()
    transform = np.fft.rfft(np.roll(np.pad(kernel, (0, size - kernel.size)), -reach))

    def smooth(values):
        return np.maximum(np.fft.irfft(np.fft.rfft(values, size) * transform, size)[: values.size], 1e-280)

    used = line > 0
    q = smooth(line)
    q /= q.sum()
    for _ in range(iterations):
        q = q * smooth(np.where(used, line / smooth(q), 0))
    r = smooth(q)[used]
    value = -(line[used] * np.log(r)).sum()
    second = np.convolve(q, kernel * distance**2)[reach : reach + q.size]
    return value, (line[used] * second[used] / r).sum() / slope


def least_nmse(parts, bits):
    """D(R) of a mixture of known parts, over its energy: (L - R) / slope, largest and flat where the slope belongs to R."""
    total = sum(part.size for part in parts)
    sources = [(part.size / total, *spread_magnitudes(part)) for part in parts if part.any()]
    energy = sum((part.astype(np.float64) ** 2).sum() for part in parts) / total
    rate = bits * math.log(2)

    def at(log_slope, iterations):
        slope = math.exp(log_slope)
        terms = [(share, *lagrangian(points, masses, slope, iterations)) for share, points, masses in sources]
        value, distortion = (sum(term[0] * term[k] for term in terms) for k in (1, 2))
        return value - rate, value - slope * distortion - rate, slope

    low, high = math.log(0.02 / energy), math.log(1e4 / energy)
    for _ in range(8):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if at(middle, 60)[1] > 0 else (middle, high)
    excess, _, slope = at(0.5 * (low + high), 2500)
    return excess / slope / energy


# ---- Checks ----------------------------------------------------------------------------------------------------------


def check_dump(program, path, scratch):
    """Results of one npy: errors, bias of --trials, h' from the classes' formula, entropy, limits."""
    values = np.load(path)
    flat = values.ravel().astype(np.float64)
    report = scratch / "report.json"
    targets = [word for ratio in RATIOS for word in ("-t", f"ratio={ratio}")]
    report.write_text(run(program, "-q", "--json", "analyze", "--noise", "--bound", *targets, path))
    row = json.loads(report.read_text())["rows"][0]

    bits = np.abs(values.astype(np.float32)).ravel().view(np.uint32)
    shares = np.unique(np.where(bits == 0, -1, (bits >> 23).astype(int)), return_counts=True)[1] / flat.size
    close(row["class_entropy"], -(shares * np.log2(shares)).sum(), "entropy", 1e-6)

    for result in row["results"]:
        if result["allocator"] != "exact":
            continue
        what = f"{path.name} {result['target']}"
        frame, decoded = scratch / "x.jsq", scratch / "x.npy"
        run(program, "-q", "compress", "-f", "-m", "jointsq", "-t", result["target"], path, "-o", frame)
        run(program, "-q", "decompress", "-f", frame, "-o", decoded)
        back = np.load(decoded).ravel().astype(np.float64)
        close(result["nmse"], ((back - flat) ** 2).sum() / (flat**2).sum(), f"{what}: nmse", 1e-6)
        close(result["cosine"], back @ flat / math.sqrt((back @ back) * (flat @ flat)), f"{what}: cosine", 1e-6)
        close(result["bits_per_element"], 8 * frame.stat().st_size / flat.size, f"{what}: bits", 1e-12)
        expected = least_nmse([flat.astype(np.float32)], result["bits_per_element"])
        close(result["bound_pooled_nmse"], expected, f"{what}: limit", 1e-3)
        gap = 10 * math.log10(result["nmse"] / result["bound_pooled_nmse"])
        close(result["bound_pooled_db"], gap, f"{what}: gap", 1e-6)
        # The bytes that the limit names lead back to the result's error.
        again = least_nmse([flat.astype(np.float32)], 8 * result["bound_pooled_bytes"] / flat.size)
        close(again, result["nmse"], f"{what}: bytes", 2e-3)
    print(f"{path.name}: as numpy has it")


def scale_labels(tensor):
    """The half octave of every element's scale: of its row and column, or of its run."""
    magnitudes = np.abs(tensor.astype(np.float64))
    octaves = np.zeros(tensor.shape)
    if tensor.ndim >= 2 and tensor.size >= 1024:
        with np.errstate(divide="ignore"):
            if tensor.size // tensor.shape[0] >= 16:
                rows = magnitudes.reshape(tensor.shape[0], -1).mean(1)
                octaves += 2 * np.log2(rows).reshape(-1, *[1] * (tensor.ndim - 1))
            if tensor.size // tensor.shape[1] >= 16:
                columns = np.moveaxis(magnitudes, 1, 0).reshape(tensor.shape[1], -1).mean(1) / magnitudes.mean()
                octaves += 2 * np.log2(columns).reshape(-1, *[1] * (tensor.ndim - 2))
    else:
        whole = max(1, tensor.size // 256 + (tensor.size % 256 >= 16))
        runs = np.split(magnitudes.ravel(), 256 * np.arange(1, whole))
        octaves = np.concatenate([np.full(r.size, 2 * np.log2(r.mean()) if r.any() else -np.inf) for r in runs])
    return np.where(np.isfinite(octaves), np.rint(octaves), -1000).astype(int).ravel()


def scale_parts(tensors):
    classes = {}
    for tensor in tensors:
        labels = scale_labels(tensor)
        for label in np.unique(labels):
            classes.setdefault(label, []).append(tensor.ravel()[labels == label])
    return [np.concatenate(part) for part in classes.values()]


def check_models(program, path, single):
    """The limits of a dump of several tensors: pooled, by tensor, and by scales; and those of the tensors `single` alone,
    at the bytes of their blocks."""
    tensors = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: tensors.update({name: item[()].astype(np.float32)}) if isinstance(item, h5py.Dataset) else None)
    rows = json.loads(run(program, "-q", "--json", "analyze", "--bound", "--per-tensor", "-t", "ratio=32", path))["rows"]

    def check(result, parts, what):
        for model in MODELS:
            close(result[f"bound_{model}_nmse"], least_nmse(parts[model], result["bits_per_element"]), f"{what}: {model}", 1e-3)

    values = list(tensors.values())
    scales = scale_parts(values)
    check(rows[0]["results"][0],
          {"pooled": [np.concatenate([t.ravel() for t in values])], "tensors": [t.ravel() for t in values], "scales": scales},
          path.name)
    for name in single:
        row = next(row for row in rows if row["tensor"] == name)
        result, tensor = row["results"][0], tensors[name]
        close(result["bits_per_element"], 8 * result["file_bytes"] / tensor.size, f"{name}: bits", 1e-12)
        check(result, {"pooled": [tensor.ravel()], "tensors": [tensor.ravel()], "scales": scale_parts([tensor])}, name)
    print(f"{path.name}: {len(tensors)} tensors, {len(scales)} classes of scales, limits of all and of {len(single)} alone "
          "as numpy has them")


def check_trials(program, path, scratch):
    """Mean, bias and variance over seeds against frames that compress wrote with the same seeds."""
    count, method, target = 5, "jointsq:quant=mid", "ratio=24"
    g = np.load(path).ravel().astype(np.float64)
    table = list(csv.DictReader(run(program, "-q", "--format", "csv", "analyze", "--trials", count, "--seed", 11, "-m", method,
                                    "-t", target, path).splitlines()))
    errors = []
    for seed in range(11, 11 + count):
        run(program, "-q", "--seed", seed, "compress", "-f", "-m", method, "-t", target, path, "-o", scratch / "x.jsq")
        run(program, "-q", "decompress", "-f", scratch / "x.jsq", "-o", scratch / "x.npy")
        errors.append(np.load(scratch / "x.npy").ravel().astype(np.float64) - g)
    errors = np.array(errors) / np.linalg.norm(g)
    products = errors @ errors.T
    mean = np.trace(products) / count
    bias = (products.sum() - np.trace(products)) / count / (count - 1)

    def half_width(statistic):
        without = [statistic(np.delete(np.delete(products, t, 0), t, 1)) for t in range(count)]
        t_of_4 = 2.776445105
        return t_of_4 * math.sqrt((count - 1) / count * ((without - np.mean(without)) ** 2).sum())

    def pair_mean(p):
        return (p.sum() - np.trace(p)) / len(p) / (len(p) - 1)

    expected = {
        "trial_nmse": mean,
        "bias": bias,
        "variance": mean - bias,
        "trial_nmse_ci95": half_width(lambda p: np.trace(p) / len(p)),
        "bias_ci95": half_width(pair_mean),
        "variance_ci95": half_width(lambda p: np.trace(p) / len(p) - pair_mean(p)),
    }
    for key, value in expected.items():
        close(float(table[0][key]), value, f"trials: {key}", 1e-6)
    print(f"{path.name}: bias and variance over {count} seeds as numpy has them")


def main():
    program = sys.argv[1]
    gradients = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        check_dump(program, SAMPLES / "resnet20_mid.npy", scratch)
        check_models(program, SAMPLES / "vit2_early.h5", ("worker0/layers/0/attn/to_out/weight", "worker0/layers/0/ff/net/1/weight"))
        check_trials(program, SAMPLES / "resnet20_mid.npy", scratch)
        if gradients and gradients.is_dir():
            for name in OTHER_DUMPS:
                if (gradients / name).exists():
                    check_dump(program, gradients / name, scratch)


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(str(error))

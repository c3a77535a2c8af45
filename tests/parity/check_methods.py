#!/usr/bin/python3
"""Holds the program to reference.py on real gradients: each case below compresses a dump with fixed options and seed,
decompresses it, and compares every value with what the reference decodes to from the same uniforms, bit for bit. One line
for each case and dump; exits 1 where one does not hold.

    check_methods.py JSQ_PROGRAM [GRADIENTS]

The dumps are those of samples/ and, where GRADIENTS is a folder that has them, those of OTHER_DUMPS.

A case is a row of CASES: a method as the program takes it, and a function from a Tensor to its decoded values in storage
order. Means and L2 norms are sums in double, whose order is not the reference's: a scale that differs for that reason is
one last place away, so such cases carry UNORDERED, the number of last places that are let through. All others carry 0.
"""
import dataclasses
import functools
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np

import reference as ref

SEED = 20240617
SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "samples"
OTHER_DUMPS = (
    "lstm_late_rnn.weight_hh_l0.npy",
    "resnet20_late_float16.npy",
    "resnet20_late_layer2.0.conv1.weight_fortran.npy",
    "resnet20_mid_bn1.weight.npy",
)
BLOCK = 65536
UNORDERED = 1
f32 = np.float32


@dataclasses.dataclass
class Tensor:
    """One tensor of a dump, as a method sees it."""

    number: int  # in the archive
    name: str
    array: np.ndarray  # as the dump has it

    @property
    def order(self):
        return "F" if self.array.flags.f_contiguous and not self.array.flags.c_contiguous else "C"

    @functools.cached_property
    def g(self):
        """The values in storage order."""
        return self.array.astype(f32).ravel(self.order)

    @functools.cached_property
    def u(self):
        """The uniforms of rounding."""
        return ref.uniforms(SEED, np.arange(self.g.size), self.number, ref.PURPOSE["rounding"])

    def by_block(self, decode):
        """decode(g, u) of each block, for methods whose buckets start anew there."""
        starts = np.arange(BLOCK, self.g.size, BLOCK)
        parts = zip(np.split(self.g, starts), np.split(self.u, starts))
        return np.concatenate([decode(g, u) for g, u in parts])

    def where_stored(self, decoded):
        """Zeros in the blocks of zeros, which are not stored."""
        return self.by_block(lambda g, _: np.full(g.size, g.any())) * decoded


# ---- The methods ----------------------------------------------------------------------------------------------------


def dithering(method):
    def decoded(tensor):
        return tensor.by_block(lambda g, u: method.decode(*method.encode(g, u)))

    return decoded


def natural(bits):
    """bits exponent bits counted down from the exponent of the largest magnitude rounded up, or the paper's."""

    def decoded(tensor):
        if bits == "paper":
            return ref.natural(tensor.g, tensor.u, -126, 127)
        m, e = np.frexp(np.abs(tensor.g).max(initial=0))
        highest = int(min(e - (m == 0.5), 127))
        return ref.natural(tensor.g, tensor.u, max(-149, highest - 2**bits + 2), highest)

    return decoded


def terngrad(clip):
    def decoded(tensor):
        trits, scale = ref.terngrad(tensor.g, tensor.u, clip)
        return scale * trits.astype(f32)

    return decoded


def gqsgd_std(bits, workers):
    def decoded(tensor):
        norm, s = ref.gqsgd_norm([tensor.g]), ref.gqsgd_levels(workers, bits)
        return ref.gqsgd_std_decode(ref.gqsgd_std_encode(tensor.g, tensor.u, norm, s), norm, 1, s)

    return decoded


def gqsgd_code(bits, workers):
    """The published grid of s = (2^(bits-1) - 1) / workers steps."""

    def decoded(tensor):
        norm, s = ref.gqsgd_norm([tensor.g]), f32(2 ** (bits - 1) - 1) / f32(workers)
        level = ref.dither(ref.over(np.abs(tensor.g), norm) * s, np.arange(np.ceil(s) + 1), tensor.u)
        return norm * (np.where(tensor.g < 0, -level, level).astype(f32) / s)

    return decoded


def gqsgd_exp(bits, workers):
    """A message alone; the reference decodes to the mean over the workers. Exact for a power of two of them."""

    def decoded(tensor):
        norm = ref.gqsgd_norm([tensor.g])
        code = ref.gqsgd_exp_encode(tensor.g, tensor.u, norm, workers, bits)
        return ref.gqsgd_exp_decode(code, norm, bits) * f32(workers)

    return decoded


def signsgd(scale):
    return lambda tensor: tensor.where_stored(ref.signsgd(tensor.g, scale))


def ef_signsgd(tensor):
    return tensor.where_stored(ref.ef_signsgd_step(tensor.g, np.zeros_like(tensor.g))[1])


def onebit(group, bucket=0):
    """Rows and columns are those of the logical matrix, buckets those of storage order within a block."""

    def decoded(tensor):
        if group == "bucket":
            return tensor.by_block(lambda g, _: g.any() * ref.onebit_step(g, np.zeros_like(g), group, bucket)[2])
        array = tensor.array.astype(f32)
        groups = group if array.ndim >= 2 else "tensor"
        step = ref.onebit_step(np.atleast_1d(array), np.zeros_like(np.atleast_1d(array)), groups)
        return tensor.where_stored(step[2].ravel(tensor.order))

    return decoded


CASES = (
    ("qsgd:bits=4", dithering(ref.qsgd(7, 512)), 0),
    ("qsgd:levels=100,bucket=1000,norm=l2,coder=elias-sparse", dithering(ref.qsgd(100, 1000, "l2")), 0),
    ("nuqsgd", dithering(ref.nuqsgd(6, 512)), 0),
    ("nuqsgd:levels=100,bucket=77,norm=linf,coder=fixed", dithering(ref.nuqsgd(99, 77, "linf")), 0),
    ("natural", natural("paper"), 0),
    ("natural:bits=8,coder=auto", natural(8), 0),
    ("natural:bits=3", natural(3), 0),
    ("terngrad", terngrad(2.5), UNORDERED),
    ("terngrad:clip=0,coder=base243", terngrad(0), 0),
    ("gqsgd-std", gqsgd_std(8, 1), 0),
    ("gqsgd-std:bits=8,workers=30,coder=auto", gqsgd_std(8, 30), 0),
    ("gqsgd-std:bits=4,workers=4,variant=code", gqsgd_code(4, 4), 0),
    ("gqsgd-exp", gqsgd_exp(7, 1), 0),
    ("gqsgd-exp:bits=4,workers=8,coder=entropy", gqsgd_exp(4, 8), 0),
    ("signsgd", signsgd("none"), 0),
    ("signsgd:scale=mean", signsgd("mean"), UNORDERED),
    ("ef-signsgd", ef_signsgd, UNORDERED),
    ("onebit", onebit("tensor"), UNORDERED),
    ("onebit:group=row", onebit("row"), UNORDERED),
    ("onebit:group=col", onebit("col"), UNORDERED),
    ("onebit:group=bucket,bucket=300", onebit("bucket", 300), UNORDERED),
)


# ---- The program ----------------------------------------------------------------------------------------------------


def tensors_of(path):
    """The tensors of a dump in the archive's order."""
    if path.suffix == ".npy":
        return [Tensor(0, "", np.load(path))]
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append((name, item[()])) if isinstance(item, h5py.Dataset) else None)
    return [Tensor(number, name, array) for number, (name, array) in enumerate(found)]


def round_trip(program, method, path, folder):
    """What the program makes of a dump."""
    frame, restored = folder / "frame.jsq", folder / f"restored{path.suffix}"
    for arguments in (["compress", "-m", method, "-t", "native", path, "-o", frame], ["decompress", frame, "-o", restored]):
        subprocess.run([program, "--quiet", "--seed", str(SEED), *arguments, "-f"], check=True)
    return tensors_of(restored)


def places_apart(a, b):
    """The largest distance in last places between two arrays of one type; any where a sign differs."""
    integer = {2: np.int16, 4: np.int32, 8: np.int64}[a.itemsize]
    a, b = (np.ascontiguousarray(x).ravel().view(integer).astype(np.int64) for x in (a, b))
    return int(np.abs(a - b).max(initial=0))


def main():
    program, gradients = sys.argv[1], [pathlib.Path(folder) for folder in sys.argv[2:]]
    dumps = sorted(SAMPLES.glob("*.npy")) + sorted(SAMPLES.glob("*.h5"))
    dumps += [folder / name for folder in gradients for name in OTHER_DUMPS if (folder / name).exists()]
    mismatches = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in dumps:
            tensors = tensors_of(path)
            for method, decoded, places in CASES:
                found = round_trip(program, method, path, pathlib.Path(folder))
                worst = 0
                for tensor, restored in zip(tensors, found, strict=True):
                    expected = decoded(tensor).astype(tensor.array.dtype).reshape(tensor.array.shape, order=tensor.order)
                    worst = max(worst, places_apart(restored.array, expected))
                mismatches += worst > places
                print(f"{'ok      ' if worst <= places else 'MISMATCH'}  {method}  {path.name}"
                      f"{f'  {worst} last places apart' if worst else ''}", flush=True)
    print(f"{len(dumps)} dumps, {len(CASES)} cases, {mismatches} mismatches")
    return 1 if mismatches or not dumps else 0


if __name__ == "__main__":
    sys.exit(main())

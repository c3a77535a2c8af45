"""Memory stays bounded: by what a file is, not by what it claims, and not by how large a dump is.

    test_limits.py [--long] [unittest options]

Run by ctest with JSQ_BIN and JSQ_SOURCE. A command runs with `--memory-limit`, which the system enforces on all memory but mapped
inputs; a command that needs more ends in "out of memory". Frames that claim too much are written field by field by
tests/golden/frame_writer.py. `--long` adds dumps of more than 2^32 elements.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

SOURCE = pathlib.Path(os.environ["JSQ_SOURCE"])
sys.path.insert(0, str(SOURCE / "tests" / "golden"))
import frame_writer as w  # noqa: E402

PROGRAM = os.environ["JSQ_BIN"]
DAMAGED, LIMIT = 5, 9
MIB = 1 << 20
LONG = "--long" in sys.argv


class Limited(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_within(self, mib, *arguments):
        """Runs jsq with one thread and no more memory than that; its exit status."""
        command = [PROGRAM, "-q", "--memory-limit", f"{mib}MiB", "--threads", "1", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertNotIn("out of memory", done.stderr, " ".join(command))
        self.stderr = done.stderr
        return done.returncode

    def file(self, name, content):
        (self.folder / name).write_bytes(content)
        return name


def zeros(shape, **fields):
    """A frame of a tensor without anything but zeros: its blocks take no bytes."""
    return w.frame([w.Tensor(shape=shape, **fields)], [w.parameters([0, 4], ranges=(1.0, 2.0))], zstd=True)


class WhatFilesClaim(Limited):
    def test_a_kilobyte_that_holds_a_trillion_zeros_is_listed_and_its_decoding_refused(self):
        frame = self.file("zeros.jsq", zeros((2**40,), block_log2=20, sizes=(0,) * 2**20))
        self.assertLess((self.folder / frame).stat().st_size, 1024)
        self.assertEqual(self.run_within(64, "list", frame), 0)
        self.assertEqual(self.run_within(64, "decompress", "-o", "back.npy", frame), LIMIT)
        self.assertIn("--max-output", self.stderr)
        self.assertFalse((self.folder / "back.npy").exists())

    def test_elements_without_blocks_are_damage(self):
        for log2 in range(40, 64):
            with self.subTest(log2=log2):
                frame = self.file("claim.jsq", zeros((2**log2,), block_log2=20, sizes=(0, 0)))
                for command in (("list",), ("test",), ("decompress", "-o", "back.npy")):
                    self.assertEqual(self.run_within(64, *command, frame), DAMAGED)

    def test_extents_whose_product_is_beyond_64_bits_are_damage(self):
        for shape in ((2**32, 2**32), (2**63, 2), (2**22,) * 3, (2**40, 0, 2**40, 2**40)):
            with self.subTest(shape=shape):
                frame = self.file("claim.jsq", zeros(shape, sizes=()))
                self.assertIn(self.run_within(64, "list", frame), (DAMAGED, 0) if 0 in shape else (DAMAGED,))

    def test_counts_of_the_directory_take_no_memory_before_they_are_true(self):
        content = w.directory([], [])
        for size in (2**20, 2**31, 2**32, 2**48, 2**63 - 1):
            with self.subTest(size=size):
                frame = self.file("claim.jsq", w.seal(w.header(), b"", w.packed(content, size=size)))
                self.assertIn(self.run_within(64, "list", frame), (DAMAGED, LIMIT))
        for count in (2**31, 2**48, 2**63 - 1):
            for fields in ({"entries": count}, {"metadata": (), "entries": count}):
                frame = self.file("claim.jsq", w.seal(w.header(), b"", b"\0" + w.directory([], [], **fields)))
                self.assertEqual(self.run_within(64, "list", frame), DAMAGED)
            tensors = w.dump([], count=count)
            frame = self.file("claim.jsq", w.seal(w.header(), b"", b"\0" + w.directory([tensors], [])))
            self.assertEqual(self.run_within(64, "list", frame), DAMAGED)

    def test_a_zstd_frame_of_zeros_is_not_unpacked_beyond_the_limit(self):
        for mib in (40, 200):
            with self.subTest(mib=mib):
                frame = self.file("bomb.jsq", w.seal(w.header(), b"", w.packed(bytes(mib * MIB))))
                self.assertLess((self.folder / frame).stat().st_size, 64 * 1024)
                for command in (("list",), ("test",), ("decompress", "-o", "back.npy")):
                    self.assertIn(self.run_within(64, *command, frame), (DAMAGED, LIMIT))

    def test_npy_headers_that_claim_more_than_the_file_are_refused(self):
        for count in (2**31, 2**40, 2**61, 2**63, 2**64):
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}".ljust(117).encode() + b"\n"
            dump = self.file("grad.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(64))
            self.assertIn(self.run_within(64, "compress", "-f", dump), (DAMAGED, LIMIT))


class HowLargeDumpsAre(Limited):
    """64 MiB and 4 MiB a thread."""

    LIMIT_MIB = 68

    def dump(self, mib):
        values = np.random.default_rng(1).standard_t(3, size=MIB // 4).astype(np.float32)
        with open(self.folder / "grad.npy", "wb") as file:
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({mib * MIB // 4},), }}".ljust(117).encode() + b"\n"
            file.write(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
            for _ in range(mib):
                file.write(values.tobytes())
        return "grad.npy"

    def every_command(self, method, dump, back="back.npy"):
        options = [] if method in ("qsgd", "fp32", "signsgd") else ["-r", "32"]
        self.assertEqual(self.run_within(self.LIMIT_MIB, "compress", "-f", "-m", method, *options, "-o", "g.jsq", dump), 0, self.stderr)
        self.assertEqual(self.run_within(self.LIMIT_MIB, "test", "g.jsq"), 0, self.stderr)
        self.assertEqual(self.run_within(self.LIMIT_MIB, "list", "-v", "g.jsq"), 0, self.stderr)
        self.assertEqual(self.run_within(self.LIMIT_MIB, "decompress", "-f", "-o", back, "g.jsq"), 0, self.stderr)

    def test_256_mib_go_through_every_command_in_bounded_memory(self):
        dump = self.dump(256)
        for method in ("jointsq", "topk", "qsgd", "fp32"):
            with self.subTest(method=method):
                self.every_command(method, dump)
        self.assertEqual(self.run_within(self.LIMIT_MIB, "analyze", dump), 0, self.stderr)

    def test_compressed_chunks_of_hdf5_go_through_every_command_in_bounded_memory(self):
        import h5py

        values = np.random.default_rng(1).standard_t(3, size=MIB).astype(np.float32)
        with h5py.File(self.folder / "grad.h5", "w") as file:
            grad = file.create_dataset("grad", (32 * MIB,), "<f4", chunks=(MIB,), compression="gzip", compression_opts=1)
            for i in range(32):
                grad[i * MIB : (i + 1) * MIB] = values
        for method in ("jointsq", "topk"):
            with self.subTest(method=method):
                self.every_command(method, "grad.h5", "back.h5")
        # HDF5 has no memory left for a chunk: the file is sound.
        command = [PROGRAM, "-q", "--memory-limit", "56MiB", "--threads", "1", "compress", "-f", "-r", "32", "-o", "g.jsq", "grad.h5"]
        self.assertEqual(subprocess.run(command, cwd=self.folder, capture_output=True, check=False).returncode, LIMIT)

    @unittest.skipUnless(LONG, "takes minutes: --long")
    def test_more_than_2_to_the_32_elements_of_a_sparse_file_go_through(self):
        for count in (2**31 + 1, 2**32 + 1):
            with self.subTest(count=count):
                header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}".ljust(117).encode() + b"\n"
                path = self.folder / "sparse.npy"
                path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
                os.truncate(path, 128 + 4 * count)
                with open(path, "r+b") as file:
                    file.seek(128 + 4 * (count - 1))
                    file.write(np.float32(-2.5).tobytes())
                self.assertEqual(self.run_within(256, "compress", "-f", "-m", "topk", "-r", "1000", "-o", "s.jsq", "sparse.npy"), 0, self.stderr)
                self.assertEqual(self.run_within(256, "test", "s.jsq"), 0, self.stderr)
                self.assertEqual(self.run_within(256, "decompress", "-f", "-o", "back.npy", "s.jsq"), 0, self.stderr)
                back = np.memmap(self.folder / "back.npy", np.float32, "r", 128)
                self.assertEqual((len(back), back[-1]), (count, np.float32(-2.5)))
                self.assertFalse(back[-1000:-1].any())


if __name__ == "__main__":
    unittest.main(argv=[argument for argument in sys.argv if argument != "--long"])

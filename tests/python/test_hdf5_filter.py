"""HDF5's jsq filter in programs of others: h5py, h5repack and h5dump with libh5jsq on their path.

Run by ctest with HDF5_PLUGIN_PATH (the built plugin), JSQ_LIBRARY, JSQ_BIN and the module on PYTHONPATH. What a chunk holds is
compared with the frames of the module; what comes back with what these decode to, and with numpy.
"""
import os
import subprocess
import unittest

import h5py
import numpy as np

import jsq
from fixtures import InFolder, gradient, nmse

PROGRAM = os.environ["JSQ_BIN"]


class InFile(InFolder):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "dump.h5"

    def written(self, values, chunks, *options, **keywords):
        """The values of a data set that went through the filter and a file."""
        with h5py.File(self.path, "w") as file:
            file.create_dataset("grad", data=values, chunks=chunks, **jsq.hdf5_filter(*options, **keywords))
        with h5py.File(self.path, "r") as file:
            return file["grad"][...]

    def chunk(self, *offset):
        """The bytes of a chunk as they lie in the file."""
        with h5py.File(self.path, "r") as file:
            return file["grad"].id.read_direct_chunk(offset)[1]

    def run_tool(self, *arguments, code=0):
        done = subprocess.run(arguments, cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode != 0, code != 0, done.stdout + done.stderr)
        return done.stdout + done.stderr


class DataSets(InFile):
    def test_a_chunk_is_the_frame_of_its_values_and_reads_back_as_what_that_decodes_to(self):
        values = gradient(100, 300)
        for method, size in (
            ("jointsq", {"ratio": 20}),
            ("qsgd:bits=4", {}),
            ("rdoq", {"target": "nmse=0.01"}),
            ("topk:values=f16", {"ratio": 50}),
            ("powersgd:rank=2", {"target": "native"}),
        ):
            with self.subTest(method=method):
                back = self.written(values, (100, 300), method, **size)
                frame = jsq.compress(values, method, **size)
                self.assertEqual(self.chunk(0, 0), frame)
                np.testing.assert_array_equal(back, jsq.decompress(frame))

    def test_chunks_are_frames_of_their_own_and_those_at_the_edge_are_whole(self):
        values = gradient(2500)
        back = self.written(values, (1000,), "jointsq", target="nmse=0.05")
        for first in (0, 1000):
            expected = jsq.decompress(jsq.compress(values[first : first + 1000], target="nmse=0.05"))
            np.testing.assert_array_equal(back[first : first + 1000], expected)
        self.assertLess(nmse(values[2000:], back[2000:]), 0.1)

    def test_every_element_type_and_order_comes_back_in_its_own(self):
        for dtype in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8"):
            with self.subTest(dtype=dtype):
                values = gradient(64, 64).astype(dtype)
                back = self.written(values, (64, 64), "fp32", target="native")
                self.assertEqual(back.dtype, values.dtype)
                np.testing.assert_allclose(back.astype(np.float64), values.astype(np.float64), rtol=1e-7)

    def test_bfloat16_comes_back_bit_for_bit_from_fp32(self):
        bits = (gradient(4096).view(np.uint32) >> 16).astype("<u2")
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_precision(16)
        kind.set_size(2)
        kind.set_ebias(127)
        with h5py.File(self.path, "w") as file:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((4096,))
            properties.set_filter(jsq.HDF5_FILTER_ID, 0, jsq.hdf5_filter("fp32", target="native")["compression_opts"])
            made = h5py.h5d.create(file.id, b"grad", kind, h5py.h5s.create_simple((4096,)), properties)
            made.write(h5py.h5s.ALL, h5py.h5s.ALL, bits, kind)
        back = np.empty(4096, "<u2")
        with h5py.File(self.path, "r") as file:
            file["grad"].id.read(h5py.h5s.ALL, h5py.h5s.ALL, back, kind)
        np.testing.assert_array_equal(back, bits)

    def test_values_that_are_not_finite_keep_every_bit(self):
        values = gradient(5000)
        values[[3, 70, 4999]] = np.nan, np.inf, -np.inf
        values.view(np.uint32)[1000] = 0x7FC12345
        back = self.written(values, (5000,), ratio=16)
        wild = ~np.isfinite(values)
        np.testing.assert_array_equal(back[wild].view(np.uint32), values[wild].view(np.uint32))
        self.assertTrue(np.isfinite(back[~wild]).all())

    def test_values_are_written_piece_by_piece_and_read_by_slices(self):
        values = gradient(10, 4096)
        with h5py.File(self.path, "w") as file:
            made = file.create_dataset(
                "grad", (0, 4096), "f4", maxshape=(None, 4096), chunks=(1, 4096), **jsq.hdf5_filter("qsgd:bits=8")
            )
            for step in range(10):
                made.resize(step + 1, axis=0)
                made[step] = values[step]
        with h5py.File(self.path, "r") as file:
            np.testing.assert_array_equal(
                file["grad"][7, 100:200], jsq.decompress(jsq.compress(values[7:8], "qsgd:bits=8"))[0, 100:200]
            )

    def test_the_default_is_jointsq_and_a_number_its_ratio(self):
        values = gradient(20000)
        for options, ratio in ((None, 32), ((100,), 100)):
            with h5py.File(self.path, "w") as file:
                file.create_dataset(
                    "grad", data=values, chunks=(20000,), compression=jsq.HDF5_FILTER_ID, compression_opts=options
                )
            self.assertEqual(self.chunk(0), jsq.compress(values, ratio=ratio))


class WhatCannotBeDone(InFile):
    def repack(self, values, parameters):
        """What h5repack says with the filter as one that must not fail, which HDF5 1.10's sometimes says with status 0. h5py's filters are
        optional."""
        with h5py.File(self.path, "w") as file:
            file["grad"] = values
        options = ["-l", f"grad:CHUNK={len(values)}", "-f", f"grad:UD=405,0,{parameters}"]
        done = subprocess.run(
            ["h5repack", "--enable-error-stack", *options, "dump.h5", "out.h5"],
            cwd=self.folder, capture_output=True, text=True, check=False,
        )
        return done.stdout + done.stderr

    def refused(self, values, expected, *options, chunks=None, **keywords):
        with self.assertRaises((ValueError, OSError, RuntimeError)) as caught, h5py.File(self.path, "w") as file:
            file.create_dataset("grad", data=values, chunks=chunks or values.shape, **jsq.hdf5_filter(*options, **keywords))
            file.flush()
        self.assertIn(expected, str(caught.exception))

    def test_data_that_are_not_gradients_are_refused_or_where_the_filter_is_optional_stored_as_they_are(self):
        for values in (np.arange(1000, dtype="i4"), np.arange(1000, dtype="f4").astype("S8")):
            self.assertIn("float16, bfloat16, float32 or float64", self.repack(values, "1,8"))
            np.testing.assert_array_equal(self.written(values, (1000,)), values)
            self.assertEqual(self.chunk(0), values.tobytes())

    def test_methods_and_targets_that_do_not_exist_are_refused_when_the_data_set_is_made(self):
        self.refused(gradient(1000), "nosuch", "nosuch")
        self.refused(gradient(1000), "bogus", "qsgd:bogus=1")
        self.refused(gradient(1000), "furlongs", target="furlongs=3")

    def test_numbers_that_are_no_parameters_are_refused(self):
        for numbers in ((0,), (0x01010101,), (0x1A51534A,), (0x1A51534A, 9, 1, 5, 0, 0x66703233)):
            with self.subTest(numbers=numbers), self.assertRaises((ValueError, OSError, RuntimeError)):
                with h5py.File(self.path, "w") as file:
                    file.create_dataset(
                        "grad", data=gradient(100), chunks=(100,), compression=jsq.HDF5_FILTER_ID, compression_opts=numbers
                    )

    def test_a_chunk_too_small_for_the_ratio_fails_with_the_reason_or_is_stored_as_it_is(self):
        values = gradient(16)
        self.assertIn("the smallest frame of jointsq", self.repack(values, "1,1000"))
        np.testing.assert_array_equal(self.written(values, (16,), ratio=1000), values)

    def test_damage_anywhere_in_a_chunk_is_found_and_ends_in_an_error(self):
        values = gradient(3000)
        self.written(values, (3000,), ratio=16)
        frame = self.chunk(0)
        with h5py.File(self.path, "r") as file:
            at = file["grad"].id.get_chunk_info(0).byte_offset
        whole = self.path.read_bytes()
        for position in range(0, len(frame), 7):
            broken = bytearray(whole)
            broken[at + position] ^= 0x10
            self.path.write_bytes(broken)
            with self.assertRaises(OSError), h5py.File(self.path, "r") as file:
                file["grad"][...]

    def test_a_frame_of_another_tensor_in_a_chunk_is_refused(self):
        self.written(gradient(3000), (3000,), ratio=16)
        for other in (gradient(3001), gradient(2999), gradient(3000, dtype=np.float64)):
            with h5py.File(self.path, "r+") as file:
                file["grad"].id.write_direct_chunk((0,), bytes(jsq.compress(other, ratio=16)))
            with self.assertRaises(OSError) as caught, h5py.File(self.path, "r") as file:
                file["grad"][...]
            self.assertIn("another tensor", str(caught.exception))


# Not built with the sanitizer, h5repack comes to no end where that is loaded first: a library of its dependencies, p11-kit, waits in
# freelocale for a lock that nobody holds. `curl --version` does the same.
without_sanitizer = unittest.skipIf(os.environ.get("JSQ_SANITIZED"), "h5repack hangs at its end where a sanitizer is loaded first")


class Tools(InFile):
    @without_sanitizer
    def test_h5repack_writes_what_h5py_reads_and_takes_the_filter_off_again(self):
        values = gradient(40000)
        with h5py.File(self.path, "w") as file:
            file.create_dataset("grad", data=values)
            file.create_dataset("names", data=np.arange(10))
        self.run_tool("h5repack", "-l", "grad:CHUNK=40000", "-f", "grad:UD=405,0,1,50", "dump.h5", "small.h5")
        expected = jsq.decompress(jsq.compress(values, ratio=50))
        with h5py.File(self.folder / "small.h5", "r") as file:
            np.testing.assert_array_equal(file["grad"][...], expected)
        self.assertLess(os.path.getsize(self.folder / "small.h5"), 160000 / 50 + 6000)
        self.run_tool("h5repack", "-f", "NONE", "small.h5", "back.h5")
        with h5py.File(self.folder / "back.h5", "r") as file:
            np.testing.assert_array_equal(file["grad"][...], expected)
            np.testing.assert_array_equal(file["names"][...], np.arange(10))

    @without_sanitizer
    def test_h5repack_copies_a_filtered_data_set_with_its_parameters(self):
        values = gradient(64, 500)
        back = self.written(values, (64, 500), "fp32", target="native")
        self.run_tool("h5repack", "-l", "grad:CHUNK=32x500", "dump.h5", "again.h5")
        with h5py.File(self.folder / "again.h5", "r") as file:
            self.assertEqual(file["grad"].chunks, (32, 500))
            np.testing.assert_array_equal(file["grad"][...], back)

    def test_h5dump_shows_the_filter_and_the_values(self):
        back = self.written(np.array([0.5, -2, 0, 1024] * 100, np.float32), (400,), "fp32", target="native")
        self.assertEqual(back[3], 1024)
        shown = self.run_tool("h5dump", "-p", "dump.h5")
        self.assertIn("FILTER_ID 405", shown)
        self.assertIn("0.5, -2, 0, 1024", shown)

    def test_the_program_jsq_refuses_the_data_set_and_names_the_filter(self):
        self.written(gradient(1000), (1000,), ratio=8)
        self.assertIn("405", self.run_tool(PROGRAM, "compress", "dump.h5", code=3))


if __name__ == "__main__":
    unittest.main()

"""The Python module: the program's bytes, numpy's arrays, every error as its exception, the interpreter's lock released.

Run by ctest with JSQ_LIBRARY (the built libjsq), JSQ_BIN (the built program) and the module on PYTHONPATH. What the codecs do
to values is tested elsewhere; expected values here are numpy's and the program's.
"""
import hashlib
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys
import threading
import unittest

import numpy as np

import fixtures
import jsq
from fixtures import gradient, nmse

PROGRAM = os.environ["JSQ_BIN"]


class InFolder(fixtures.InFolder):
    def program(self, *arguments):
        """Runs jsq in the folder."""
        subprocess.run([PROGRAM, "-q", *arguments], cwd=self.folder, check=True)


class TheProgramsBytes(InFolder):
    def same_bytes(self, array, *options, **keywords):
        np.save(self.folder / "grad.npy", array)
        self.program("compress", "-f", *options, "grad.npy")
        expected = (self.folder / "grad.npy.jsq").read_bytes()
        self.assertEqual(jsq.compress(array, dump="grad.npy", **keywords), expected)

    def test_an_array_compresses_to_the_programs_frame_with_any_method_target_and_seed(self):
        array = gradient(60, 500)
        self.same_bytes(array)
        self.same_bytes(array, "-r", "100", ratio=100)
        self.same_bytes(array, "-t", "nmse=1e-2", target="nmse=1e-2")
        self.same_bytes(array, "-m", "topk:values=f16", "-r", "50", method="topk:values=f16", ratio=50)
        self.same_bytes(array, "-m", "qsgd", "--seed", "7", method="qsgd", seed=7)
        self.same_bytes(array, "-m", "qsgd", "--rounding", "nearest", method="qsgd", rounding="nearest")
        self.same_bytes(array, "--ratio-kind", "payload", "-r", "20", ratio=20, ratio_kind="payload")
        self.same_bytes(array, "--meta", "step=160", metadata={"step": "160"})

    def test_every_stored_type_byte_order_and_memory_order_gives_the_programs_frame(self):
        for dtype in ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8"):
            with self.subTest(dtype):
                self.same_bytes(gradient(60, 500).astype(dtype), "-r", "8", ratio=8)
        self.same_bytes(np.asfortranarray(gradient(60, 500)), "-r", "8", ratio=8)
        self.same_bytes(gradient(50, 40, 5)[:, ::2], "-r", "8", ratio=8)

    def test_a_states_steps_are_the_programs(self):
        array = gradient(60, 500)
        np.save(self.folder / "grad.npy", array)
        feedback = jsq.ErrorFeedback()
        for step in range(3):
            state = ["--state", f"{step - 1}.state"] if step > 0 else []
            self.program("compress", "-m", "dgc", "-r", "50", "-o", f"{step}.jsq", "grad.npy", *state,
                         "--state-out", f"{step}.state")
            frame = feedback.compress(array, "dgc", ratio=50, dump="grad.npy")
            self.assertEqual(frame, (self.folder / f"{step}.jsq").read_bytes())
            self.assertEqual(feedback.to_bytes(), (self.folder / f"{step}.state").read_bytes())

    def test_the_program_reads_what_save_wrote(self):
        tensors = {"fc/weight": gradient(40, 50), "fc/bias": gradient(40, seed=2)}
        report = jsq.save(self.folder / "step.jsq", tensors, ratio=10)
        self.program("test", "step.jsq")
        self.program("decompress", "step.jsq", "-o", "step.npz")
        decoded = jsq.decompress(self.folder / "step.jsq")
        with np.load(self.folder / "step.npz") as written:
            self.assertEqual(sorted(written), sorted(tensors))
            for name in tensors:
                np.testing.assert_array_equal(written[name], decoded[name])
        self.assertEqual(report.file_bytes, (self.folder / "step.jsq").stat().st_size)

    def test_what_the_program_wrote_from_several_dumps_is_told_apart(self):
        np.save(self.folder / "a.npy", gradient(100))
        np.save(self.folder / "b.npy", gradient(100, seed=2))
        np.savez(self.folder / "c.npz", w=gradient(100, seed=3))
        self.program("compress", "-m", "fp32", "-o", "all.jsq", "a.npy", "b.npy", "c.npz")
        with jsq.open(self.folder / "all.jsq") as frame:
            self.assertEqual(list(frame), ["a.npy", "b.npy", "w"])
            np.testing.assert_array_equal(frame["b.npy"], gradient(100, seed=2))
            self.assertEqual(frame.entry("w").dump, "c.npz")


class Arrays(unittest.TestCase):
    def test_shapes_types_and_names_come_back(self):
        tensors = {
            "half": gradient(30, 20, dtype=np.float16),
            "double": gradient(2, 3, 4, dtype=np.float64),
            "fortran": np.asfortranarray(gradient(30, 20)),
            "scalar": np.float32(0.5),
            "empty": np.zeros((0, 5), np.float32),
            "layer/ü": gradient(7),
        }
        decoded = jsq.decompress(jsq.compress(tensors, "fp32"))
        self.assertEqual(list(decoded), list(tensors))
        for name, tensor in tensors.items():
            self.assertEqual((decoded[name].shape, decoded[name].dtype), (tensor.shape, tensor.dtype), name)
            np.testing.assert_array_equal(decoded[name], tensor.astype(np.float32), name)

    def test_an_array_comes_back_as_an_array(self):
        array = gradient(40, 30)
        decoded = jsq.decompress(jsq.compress(array, ratio=10))
        self.assertEqual((decoded.shape, decoded.dtype), ((40, 30), np.float32))

    def test_what_is_not_contiguous_counts_as_its_elements(self):
        wide = gradient(40, 60)
        for view in (wide[:, ::3], wide[::-1], wide.T[5:20, 3:9], np.broadcast_to(wide[0], (4, 60))):
            self.assertEqual(jsq.compress(view, ratio=4), jsq.compress(np.ascontiguousarray(view), ratio=4))

    def test_arrays_that_may_not_be_written_are_read(self):
        array = gradient(40, 30)
        expected = jsq.compress(array)
        array.flags.writeable = False
        self.assertEqual(jsq.compress(array), expected)
        self.assertEqual(jsq.compress(np.frombuffer(array.tobytes(), np.float32).reshape(40, 30)), expected)

    def test_compressing_leaves_the_array_alone(self):
        array = gradient(40, 30)
        before = array.copy()
        jsq.ErrorFeedback().compress(array, "topk", ratio=10)
        np.testing.assert_array_equal(array, before)

    def test_bits_of_bfloat16_are_taken_and_given_back(self):
        bits = (gradient(50, 40).view(np.uint32) >> 16).astype(np.uint16)
        values = (bits.astype(np.uint32) << 16).view(np.float32)
        with jsq.open(jsq.compress(bits, "bf16", bfloat16=True)) as frame:
            entry = frame.entry("")
            self.assertEqual((entry.stored_dtype, entry.nbytes), ("bf16", 4000))
            np.testing.assert_array_equal(entry.read(), values)
            np.testing.assert_array_equal(entry.read_bits(), bits)

    def test_other_elements_are_refused(self):
        for array in (np.arange(5), np.ones(5, np.uint16), np.ones(5, complex), np.array(["a"]), np.ones(5, bool)):
            with self.assertRaises(jsq.errors.UnsupportedDtypeError) as caught:
                jsq.compress({"w": array})
            self.assertIn(array.dtype.name, str(caught.exception))
            self.assertIsInstance(caught.exception, TypeError)


class Frames(InFolder):
    def setUp(self):
        super().setUp()
        self.weight, self.bias = gradient(300, 500), gradient(300, seed=2)
        self.path = self.folder / "step.jsq"
        self.report = jsq.save(self.path, {"weight": self.weight, "bias": self.bias}, ratio=20)

    def test_a_frame_is_a_mapping_that_says_what_it_holds_before_it_decodes(self):
        with jsq.open(self.path) as frame:
            self.assertEqual(list(frame), ["weight", "bias"])
            self.assertIn("bias", frame)
            self.assertNotIn("other", frame)
            entry = frame.entry("weight")
            self.assertEqual((entry.shape, entry.dtype, entry.size), ((300, 500), np.float32, 150000))
            self.assertTrue(entry.method.startswith("jointsq:alloc=exact"), entry.method)
            self.assertLess(entry.coded_bytes, 150000 * 4 / 15)

    def test_slices_are_those_of_the_whole(self):
        with jsq.open(self.path) as frame:
            whole, entry = frame["weight"], frame.entry("weight")
            for key in (0, -1, 299, slice(10, 20), slice(-5, None), slice(20, 10), slice(None, None, 7), (3, 4),
                        (slice(5, 9), slice(None, None, 2)), np.array([1, 5]), ..., whole > 0):
                np.testing.assert_array_equal(entry[key], whole[key], str(key))
            np.testing.assert_array_equal(entry.read_flat(1234, 567), whole.ravel()[1234:1801])
            self.assertRaises(IndexError, lambda: entry[300])
            self.assertRaises(jsq.errors.UsageError, entry.read_flat, 149999, 2)
            self.assertRaises(jsq.errors.UsageError, entry.read_flat, -1, 2)

    def test_a_slice_of_a_tensor_in_fortran_order_is_that_of_the_whole(self):
        array = np.asfortranarray(gradient(30, 20))
        entry = jsq.open(jsq.compress(array, "fp32")).entry("")
        np.testing.assert_array_equal(entry[3:7], array[3:7])

    def test_damage_in_one_block_leaves_the_others_readable(self):
        damaged = bytearray(self.path.read_bytes())
        damaged[30] ^= 1
        entry = jsq.open(damaged).entry("weight")
        self.assertRaises(jsq.errors.DamagedError, entry.read)
        with jsq.open(self.path) as frame:
            np.testing.assert_array_equal(entry[290:], frame["weight"][290:])

    def test_decoding_into_an_array_of_the_caller(self):
        with jsq.open(self.path) as frame:
            out = np.empty((300, 500), np.float32)
            self.assertIs(frame.entry("weight").read_flat(out=out), out)
            np.testing.assert_array_equal(out, frame["weight"])
            for unfit in (np.empty((300, 500)), np.empty((300, 499), np.float32), out[:, ::-1]):
                self.assertRaises(jsq.errors.UsageError, frame.entry("weight").read_flat, out=unfit)

    def test_the_report_is_what_numpy_measures(self):
        with jsq.open(self.path) as frame:
            original = np.concatenate([self.weight.ravel(), self.bias])
            decoded = np.concatenate([frame["weight"].ravel(), frame["bias"]])
        self.assertAlmostEqual(self.report.nmse, nmse(original, decoded), delta=1e-9)
        self.assertEqual(self.report.max_error, np.abs(decoded.astype(np.float64) - original).max())
        self.assertEqual(self.report.elements, original.size)
        self.assertEqual(self.report.ratio, original.nbytes / self.path.stat().st_size)

    def test_a_closed_frame_says_so_and_its_arrays_and_entries_live_on(self):
        frame = jsq.open(self.path)
        entry, bias = frame.entry("bias"), frame["bias"]
        frame.close()
        self.assertRaises(jsq.errors.UsageError, frame.__getitem__, "bias")
        np.testing.assert_array_equal(entry.read(), bias)

    def test_bytes_in_memory_are_kept_alive(self):
        frame = jsq.open(bytes(bytearray(self.path.read_bytes())))
        with jsq.open(self.path) as file:
            np.testing.assert_array_equal(frame["weight"], file["weight"])

    def test_metadata_comes_back(self):
        frame = jsq.compress(self.weight, metadata={"step": "7", "ä": ""})
        self.assertEqual(jsq.open(frame).metadata, {"step": "7", "ä": ""})


class Feedback(InFolder):
    def test_the_residual_is_what_was_not_sent(self):
        array = gradient(50, 40)
        feedback, sent = jsq.ErrorFeedback(), 0
        for _ in range(4):
            sent = sent + jsq.decompress(feedback.compress(array, "topk", ratio=20)).astype(np.float64)
        residual = feedback.array().reshape(50, 40)
        np.testing.assert_allclose(residual, 4 * array.astype(np.float64) - sent, atol=1e-8)
        self.assertEqual((feedback.steps, feedback.method), (4, "topk"))

    def test_it_goes_on_exactly_from_a_file_from_bytes_and_from_a_pickle(self):
        array = gradient(50, 40)
        feedback = jsq.ErrorFeedback("momentum:0.5", worker=3)
        feedback.compress(array, "qlsgd", ratio=20)
        feedback.save(self.folder / "w.state")
        others = [
            jsq.ErrorFeedback.load(self.folder / "w.state", "momentum:0.5", worker=3),
            jsq.ErrorFeedback.from_bytes(feedback.to_bytes(), "momentum:0.5", worker=3),
            pickle.loads(pickle.dumps(feedback)),
        ]
        expected = feedback.compress(array, "qlsgd", ratio=20)
        for other in others:
            self.assertEqual(other.compress(array, "qlsgd", ratio=20), expected)

    def test_workers_draw_numbers_of_their_own(self):
        array = gradient(50, 40)
        one, other = (jsq.ErrorFeedback(worker=worker).compress(array, "qsgd") for worker in (0, 1))
        self.assertNotEqual(one, other)

    def test_other_tensors_and_other_methods_are_refused_and_change_nothing(self):
        array = gradient(50, 40)
        feedback = jsq.ErrorFeedback()
        feedback.compress(array, "topk", ratio=20)
        before = feedback.to_bytes()
        for wrong in (lambda: feedback.compress(array, "dgc", ratio=20),
                      lambda: feedback.compress(array.T, "topk", ratio=20),
                      lambda: feedback.compress({"w": array}, "topk", ratio=20)):
            self.assertRaises(jsq.errors.UsageError, wrong)
        self.assertEqual(feedback.to_bytes(), before)
        self.assertRaises(jsq.errors.UnknownNameError, feedback.array, "", "u")


class Measures(InFolder):
    """Figures against those of the program, which its own tests hold to an independent implementation."""

    def setUp(self):
        super().setUp()
        self.tensors = {"a": gradient(100, 200), "b": gradient(3000, seed=2) * 10}
        np.savez(self.folder / "grad.npz", **self.tensors)
        np.save(self.folder / "grad.npy", self.tensors["a"])

    def json(self, *arguments):
        run = subprocess.run([PROGRAM, *arguments, "--json"], cwd=self.folder, check=True, capture_output=True)
        return json.loads(run.stdout)

    def test_noise_and_bounds_of_every_allocator_are_the_programs(self):
        rows = self.json("analyze", "--noise", "--bound", "-t", "ratio=16", "grad.npy")["rows"][0]["results"]
        self.assertEqual([row["allocator"] for row in rows], ["exact", "literal", "sampled", "reallocated"])
        same_names = ("payload_bits", "hprime", "file_bytes", "coded_payload_bits", "coded_hprime", "expected_nmse")
        other_names = {"h_uniform": "h_eq3", "uniform_bits": "h_eq3_bits", "hprime_eq6": "h_eq6",
                       "hprime_eq6_nonzero": "h_eq6_nz", "exchange_gain": "eq9_gain", "exchange_loss": "eq9_loss",
                       "bits_per_element": "bits_per_element", "max_error": "max_error"}
        names = {name: name for name in same_names} | other_names
        for row in rows:
            found = jsq.noise(self.tensors["a"], allocator=row["allocator"], ratio=16, bound=True, dump="grad.npy")
            for name, key in names.items():
                self.assertAlmostEqual(getattr(found, name) / row[key], 1, delta=1e-12, msg=(row["allocator"], name))
            for name in ("nmse", "cosine", "mean_error"):
                self.assertAlmostEqual(getattr(found, name), row[name], delta=1e-9)
            for model, value in found.bound_nmse.items():
                self.assertAlmostEqual(value / row[f"bound_{model}_nmse"], 1, delta=1e-4, msg=model)

    def test_rows_of_compare_are_the_programs(self):
        methods, targets = ["jointsq", "topk", "qsgd"], ["ratio=32", "ratio=200"]
        arguments = [part for method in methods for part in ("-m", method)]
        arguments += [part for target in targets for part in ("-t", target)]
        rows = {(row["method"], row["target"]): row
                for row in self.json("compare", "--bound", *arguments, "grad.npz")["rows"]}
        found = jsq.compare(self.tensors, methods, targets=targets, bound=True)
        self.assertEqual([(row.method, row.target) for row in found], [(m, t) for m in methods for t in targets])
        for row in found:
            expected = rows[row.method, row.target]
            self.assertEqual(row.reached, expected["reached"])
            self.assertAlmostEqual(row.report.file_bytes, expected["file_bytes"], delta=8)  # names of the dumps differ
            self.assertAlmostEqual(row.report.nmse / expected["nmse"], 1, delta=0.01)
            self.assertAlmostEqual(row.bound_db, expected["bound_db"], delta=0.05)
        self.assertFalse(found[-1].reached)
        self.assertTrue(found[-1].nearest.startswith("bytes="), found[-1].nearest)

    def test_bounds_are_inverse_and_ordered_by_what_the_decoder_knows(self):
        bounds = jsq.Bounds(self.tensors)
        for bits in (0.25, 1, 3):
            pooled, tensors, scales = (bounds.nmse_at(bits, model) for model in ("pooled", "tensors", "scales"))
            self.assertLess(scales, tensors)
            self.assertLess(tensors, pooled)
            self.assertLessEqual(bounds.nmse_at(bits, "shannon"), pooled)
            self.assertAlmostEqual(bounds.bits_at(tensors), bits, delta=1e-3)
        self.assertRaises(jsq.errors.UsageError, bounds.nmse_at, -1.0)
        self.assertRaises(jsq.errors.UnknownNameError, bounds.nmse_at, 1.0, "gaussian")

    def test_what_has_no_allocator_has_no_noise(self):
        self.assertRaises(jsq.errors.UsageError, jsq.noise, self.tensors, "topk")
        self.assertRaises(jsq.errors.UnknownNameError, jsq.noise, self.tensors, allocator="best")


class Errors(InFolder):
    def test_every_error_is_its_class_with_the_programs_exit_code(self):
        array = gradient(2000)
        with_nan = array.copy()
        with_nan[3] = np.nan
        frame = jsq.compress(array)
        (self.folder / "later.jsq").write_bytes(frame)
        cases = [
            (jsq.errors.UsageError, 2, lambda: jsq.compress(array, ratio=-1)),
            (jsq.errors.UsageError, 2, lambda: jsq.compress(array, ratio=2, target="bpw=1")),
            (jsq.errors.UsageError, 2, lambda: jsq.compress(array, rounding="up")),
            (jsq.errors.UsageError, 2, lambda: jsq.compress(array, seed=-1)),
            (jsq.errors.UsageError, 2, lambda: jsq.compress({})),
            (jsq.errors.UsageError, 2, lambda: jsq.compress({"a\0b": array})),
            (jsq.errors.UnknownNameError, 2, lambda: jsq.compress(array, "jointqs")),
            (jsq.errors.UnknownNameError, 2, lambda: jsq.open(frame)["weight"]),
            (jsq.errors.NotFoundError, 3, lambda: jsq.open(self.folder / "none.jsq")),
            (jsq.errors.UnsupportedFormatError, 4, lambda: jsq.open(b"\x93NUMPY\x01\x00v\x00")),
            (jsq.errors.UnsupportedDtypeError, 4, lambda: jsq.compress(np.arange(4))),
            (jsq.errors.NonFiniteError, 4, lambda: jsq.compress(with_nan)),
            (jsq.errors.DamagedError, 5, lambda: jsq.open(frame[:-1])),
            (jsq.errors.WriteFailedError, 7, lambda: jsq.save(self.folder / "no" / "a.jsq", array)),
            (jsq.errors.UnreachableTargetError, 8, lambda: jsq.compress(array, target="bytes=16B")),
        ]
        for kind, exit_code, call in cases:
            with self.assertRaises(kind) as caught:
                call()
            self.assertEqual(caught.exception.exit_code, exit_code)
            self.assertIsInstance(caught.exception, jsq.Error)
            self.assertNotEqual(str(caught.exception), "")

    def test_exit_codes_and_names_are_the_librarys(self):
        from jsq import _library

        for code, kind in jsq.errors.BY_CODE.items():
            self.assertEqual(kind.name, _library.text(_library.library.jsq_error_name(code)))
            self.assertEqual(kind.exit_code, _library.library.jsq_exit_code(code))

    def test_the_nearest_target_is_reached_when_asked_for(self):
        array = gradient(60, 500)
        with self.assertRaises(jsq.errors.UnreachableTargetError) as caught:
            jsq.compress(array, "qsgd", ratio=1000)
        frame = jsq.compress(array, "qsgd", target=caught.exception.nearest)
        self.assertEqual(f"bytes={len(frame)}", caught.exception.nearest)

    def test_non_finite_elements_are_kept_with_every_bit_or_zeroed(self):
        array = gradient(60, 500)
        array[3, 4], array[5, 6] = np.inf, np.nan
        kept = jsq.decompress(jsq.compress(array, nonfinite="keep"))
        np.testing.assert_array_equal(kept[[3, 5], [4, 6]], array[[3, 5], [4, 6]])
        zeroed = jsq.decompress(jsq.compress(array, nonfinite="zero"))
        self.assertTrue(np.isfinite(zeroed).all())

    def test_a_library_that_cannot_be_used_is_an_import_error_that_says_what_to_do(self):
        environment = dict(os.environ, JSQ_LIBRARY=str(self.folder / "libjsq.so.0"))
        run = subprocess.run([sys.executable, "-c", "import jsq"], env=environment, capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn("JSQ_LIBRARY", run.stderr)


class Threads(InFolder):
    def test_a_call_that_waits_lets_other_threads_run(self):
        # Opening a pipe waits for its writer, which is another thread of this interpreter: with the lock held in the
        # call neither would ever go on.
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        outcome = []

        def read():
            try:
                outcome.append(jsq.open(pipe))
            except jsq.Error as error:
                outcome.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        with open(pipe, "wb"):
            pass
        reader.join()
        self.assertEqual(len(outcome), 1)

    def test_threads_compress_and_read_one_frame_beside_each_other(self):
        array = gradient(300, 500)
        frame = jsq.open(jsq.compress(array, ratio=20))
        expected, encoded = frame[""], jsq.compress(array, "rdoq:preset=fast", ratio=50, threads=1)
        results = []

        def work():
            results.append((frame[""], jsq.compress(array, "rdoq:preset=fast", ratio=50, threads=1)))

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(len(results), 4)
        for decoded, again in results:
            np.testing.assert_array_equal(decoded, expected)
            self.assertEqual(again, encoded)

    def test_the_number_of_threads_changes_no_byte(self):
        array = gradient(300, 500)
        self.assertEqual(jsq.compress(array, threads=1), jsq.compress(array, threads=3))


class GoldenFrames(unittest.TestCase):
    """Against what the independent decoder makes of them."""

    golden = pathlib.Path(os.environ["JSQ_SOURCE"], "tests", "golden")

    def test_every_tensor_has_the_bytes_of_the_independent_decoder(self):
        tensors = {}
        for line in (self.golden / "expected.tsv").read_text().splitlines():
            path, number, *described = line.split("\t")
            of_frame = tensors.setdefault(path, {})
            if number != "none":
                of_frame[int(number)] = (described[2], described[3])
        for path, expected in tensors.items():
            with jsq.open(self.golden / path) as frame:
                self.assertEqual(len(frame), len(expected), path)
                for number, entry in enumerate(frame.entries()):
                    order, digest = expected[number]
                    values = entry.read_bits() if entry.stored_dtype == "bf16" else entry.read()
                    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
                    stored = little.tobytes("F" if entry.fortran_order else "C")
                    self.assertEqual(hashlib.sha256(stored).hexdigest(), digest, (path, entry.name))
                    self.assertEqual("F" if entry.fortran_order else "C", order, path)

    def test_every_corrupt_frame_ends_in_the_error_that_it_is_listed_with(self):
        for line in (self.golden / "corrupt" / "errors.tsv").read_text().splitlines():
            path, name, _ = line.split("\t")
            with self.assertRaises(jsq.Error, msg=path) as caught:
                jsq.decompress(self.golden / "corrupt" / path)
            self.assertEqual(caught.exception.name, name, path)

    def test_damaged_parameters_of_a_tensor_do_not_keep_a_frame_from_opening(self):
        entry = jsq.open(self.golden / "corrupt" / "widths_9.jsq").entries()[0]
        self.assertEqual(entry.method, "")
        self.assertRaises(jsq.errors.DamagedError, entry.read)


class Readme(InFolder):
    def test_its_python_runs(self):
        source = pathlib.Path(os.environ["JSQ_SOURCE"])
        blocks = re.findall(r"^```python\n(.*?)^```", (source / "README.md").read_text(), re.MULTILINE | re.DOTALL)
        self.assertEqual(len(blocks), 1)
        dump = source / "samples" / "resnet20_mid.npy"
        (self.folder / dump.name).write_bytes(dump.read_bytes())
        run = subprocess.run([sys.executable, "-c", blocks[0]], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertIn("topk ratio=1000.0", run.stdout)


if __name__ == "__main__":
    unittest.main()

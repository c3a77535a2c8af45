#!/usr/bin/python3
"""Holds samples/decode_frame.py to the golden frames: it decodes each to what expected.tsv says, and refuses each corrupt
frame with the error of corrupt/errors.tsv, every flipped bit, every truncation and every trailing byte.

    check_decoder.py [GOLDEN_FOLDER]
"""
import pathlib
import sys
import unittest

from frame_writer import decode_frame
from make_expected import expectations

FOLDER = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else __file__).resolve()
FOLDER = FOLDER.parent if FOLDER.is_file() else FOLDER
ERRORS = {
    "damaged": decode_frame.DamagedFrame,
    "newer_format": decode_frame.NewerFrame,
    "limit": decode_frame.LimitExceeded,
    "unsupported_format": decode_frame.NotAFrame,
}
SMALL = ("spec_example", "several_tensors")  # a raw map in one block; entropy-coded blocks in five tensors


class Decoder(unittest.TestCase):
    def refusal(self, data):
        """The class of the refusal; decoding, or any other exception, fails."""
        try:
            decode_frame.decode(data)
        except decode_frame.FrameError as error:
            return type(error)
        return self.fail("decoded")

    def test_decodes_every_golden_frame_to_its_expectation(self):
        expected = (FOLDER / "expected.tsv").read_text().splitlines()
        self.assertGreater(len(expected), 100)
        for found, line in zip(expectations(FOLDER), expected, strict=True):
            self.assertEqual(found, line)

    def test_refuses_every_corrupt_frame_with_its_error(self):
        lines = (FOLDER / "corrupt" / "errors.tsv").read_text().splitlines()
        listed = {line.split("\t")[0] for line in lines}
        self.assertEqual(listed, {path.name for path in FOLDER.glob("corrupt/*.jsq")})
        for line in lines:
            name, error, why = line.split("\t")
            with self.subTest(frame=name, why=why):
                self.assertIs(self.refusal((FOLDER / "corrupt" / name).read_bytes()), ERRORS[error])

    def test_detects_every_flipped_bit(self):
        refusals = (decode_frame.DamagedFrame, decode_frame.NewerFrame, decode_frame.NotAFrame)
        for name in SMALL:
            frame = (FOLDER / "frames" / f"{name}.jsq").read_bytes()
            self.assertLess(len(frame), 2048)
            for bit in range(8 * len(frame)):
                flipped = bytearray(frame)
                flipped[bit // 8] ^= 1 << bit % 8
                with self.subTest(frame=name, bit=bit):
                    self.assertIn(self.refusal(bytes(flipped)), refusals)

    def test_refuses_every_truncation_as_damaged(self):
        for name in SMALL:
            frame = (FOLDER / "frames" / f"{name}.jsq").read_bytes()
            for length in range(len(frame)):
                with self.subTest(frame=name, length=length):
                    self.assertIs(self.refusal(frame[:length]), decode_frame.DamagedFrame)

    def test_refuses_1_to_64_trailing_bytes_as_damaged(self):
        for name in SMALL:
            frame = (FOLDER / "frames" / f"{name}.jsq").read_bytes()
            for count in range(1, 65):
                for trailing in (bytes(count), b"\xff" * count, frame[-count:]):
                    with self.subTest(frame=name, count=count):
                        self.assertIs(self.refusal(frame + trailing), decode_frame.DamagedFrame)


if __name__ == "__main__":
    unittest.main()

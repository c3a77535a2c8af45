#!/usr/bin/python3
"""Holds section 9 of formats/SPEC.md to the truth: its bytes are the golden frame spec_example.jsq, each at the offset that it
says, and its values are what samples/decode_frame.py decodes them to.

    check_spec_example.py [SOURCE_FOLDER]
"""
import pathlib
import re
import sys
import unittest

import numpy as np
from frame_writer import decode_frame

SOURCE = pathlib.Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]


def example_rows():
    """The rows of section 9's tables as lists of cells, without heads and rules."""
    spec = (SOURCE / "formats" / "SPEC.md").read_text()
    section = re.search(r"^## 9\. Example$(.*?)^## 10\. Level", spec, re.MULTILINE | re.DOTALL).group(1)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0].isdigit()]


class SpecExample(unittest.TestCase):
    def setUp(self):
        rows = example_rows()
        self.bytes_rows = [row for row in rows if len(row) == 3]
        self.value_rows = [row for row in rows if len(row) == 6]
        self.bytes = b"".join(bytes.fromhex(row[1].strip("`")) for row in self.bytes_rows)

    def test_the_bytes_are_the_golden_frame(self):
        frame = (SOURCE / "tests" / "golden" / "frames" / "spec_example.jsq").read_bytes()
        self.assertEqual(self.bytes.hex(" "), frame.hex(" "))

    def test_every_row_stands_at_its_offset(self):
        offset = 0
        for row in self.bytes_rows:
            self.assertEqual(int(row[0]), offset)
            offset += len(bytes.fromhex(row[1].strip("`")))

    def test_the_values_are_what_the_bytes_decode_to(self):
        (tensor,) = decode_frame.decode(self.bytes)
        self.assertEqual((tensor.shape, tensor.dump, tensor.name), ((3, 4), "grad.npy", ""))
        self.assertEqual([int(row[0]) for row in self.value_rows], list(range(12)))
        self.assertEqual([float(row[5]) for row in self.value_rows], np.frombuffer(tensor.stored, "<f4").tolist())

    def test_code_words_signs_and_indices_are_those_of_the_classes(self):
        (tensor,) = decode_frame.decode(self.bytes)
        parameters = tensor.parameters.parsed
        for _, j, word, sign, magnitude, value in self.value_rows:
            width = parameters.widths[int(j)]
            if width == 0:
                self.assertEqual((word, sign, magnitude, float(value)), ("", "", "", 0.0))
                continue
            found = decode_frame.split_code_words(parameters.quantizer, width, np.array(int(word)))
            self.assertEqual((int(found[0]), int(found[1])), (int(sign), int(magnitude)))
            self.assertEqual(float(parameters.values[int(j)][int(sign), int(magnitude)]), float(value))


if __name__ == "__main__":
    unittest.main()

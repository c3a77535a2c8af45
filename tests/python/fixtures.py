"""What the tests of the Python module and of the HDF5 filter share: gradients, numpy's error of what was decoded, a folder."""
import pathlib
import tempfile
import unittest

import numpy as np


def gradient(*shape, seed=1, dtype=np.float32):
    """Heavy-tailed, like a gradient."""
    values = np.random.default_rng(seed).standard_t(3, size=shape) * 1e-3
    return values.astype(dtype)


def nmse(original, decoded):
    original, decoded = np.asarray(original, np.float64), np.asarray(decoded, np.float64)
    return ((decoded - original) ** 2).sum() / (original**2).sum()


class InFolder(unittest.TestCase):
    """A test with a folder of its own, `self.folder`."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

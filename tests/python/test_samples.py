"""The samples that need PyTorch: gradients are dumped as they were before averaging, and training with the hook agrees on
every worker and sends no more than it was asked to.

Run by ctest as test_jsq.py is. Where PyTorch or scikit-learn is missing it says so and exits with 77, which ctest counts as
skipped: `tools/setup.sh samples` installs them.
"""
import importlib.util
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

SAMPLES = pathlib.Path(os.environ["JSQ_SOURCE"], "samples")
PROGRAM = os.environ["JSQ_BIN"]
sys.path.insert(0, str(SAMPLES))


def missing():
    return [name for name in ("torch", "sklearn", "h5py") if importlib.util.find_spec(name) is None]


def small_model(torch, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3))


def backward(torch, model, seed):
    numbers = torch.Generator().manual_seed(seed)
    loss = model(torch.randn(8, 6, generator=numbers)).square().sum()
    model.zero_grad()
    loss.backward()
    return loss.item()


def dump_as_worker(rank, folder):
    """Two steps of two workers with different data; each worker also keeps the averaged gradients."""
    import torch
    import torch.distributed as dist
    from dump_gradients import GradientDump

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    net = small_model(torch)
    model = torch.nn.parallel.DistributedDataParallel(net)
    dump = GradientDump(f"{folder}/run.h5", model, only={1}, model="small")
    for step in range(3):
        loss = backward(torch, model, seed=10 * step + rank)
        dump.step(loss=loss)
        if step == 1:
            averaged = {name: parameter.grad.numpy() for name, parameter in net.named_parameters()}
            np.savez(f"{folder}/averaged{rank}.npz", **averaged)
    dump.close()
    del dump, model, net, loss  # a model that outlives its process group may wait for that group's threads forever
    dist.destroy_process_group()


class DumpGradients(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_one_process_writes_every_steps_gradients_by_parameter(self):
        import h5py
        import torch
        from dump_gradients import GradientDump

        model = small_model(torch)
        dump, expected = GradientDump(self.folder / "run.h5", model), []
        for step in range(2):
            backward(torch, model, seed=step)
            expected.append({name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()})
            dump.step(loss=0.5)
        dump.close()
        with h5py.File(self.folder / "run.h5") as file:
            self.assertEqual(sorted(file), ["step000", "step001"])
            for step in range(2):
                for name, gradient in expected[step].items():
                    dumped = file[f"step{step:03}/worker0/{name.replace('.', '/')}"][...]
                    np.testing.assert_array_equal(dumped, gradient)

    def test_workers_gradients_are_those_before_averaging_and_jsq_reads_them(self):
        import h5py

        workers = [multiprocessing.get_context("fork").Process(target=dump_as_worker, args=(rank, str(self.folder)))
                   for rank in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            self.assertEqual(worker.exitcode, 0)
        with h5py.File(self.folder / "run.h5") as file, np.load(self.folder / "averaged0.npz") as averaged:
            self.assertEqual(list(file), ["step001"])
            for name in averaged:
                mine, other = (file[f"step001/worker{rank}/{name.replace('.', '/')}"][...] for rank in range(2))
                self.assertFalse(np.array_equal(mine, other), name)
                np.testing.assert_allclose((mine + other) / 2, averaged[name], rtol=1e-5, atol=1e-6)
        replay = [PROGRAM, "replay", "--json", "-m", "fp32", self.folder / "run.h5"]
        replayed = json.loads(subprocess.run(replay, check=True, capture_output=True).stdout)
        self.assertEqual((replayed["workers"], replayed["elements"]), (2, 6 * 20 + 20 + 20 * 3 + 3))

    def test_a_step_without_gradients_is_an_error(self):
        import torch
        from dump_gradients import GradientDump

        dump = GradientDump(self.folder / "run.h5", small_model(torch))
        self.assertRaises(ValueError, dump.step)


class TrainDdp(unittest.TestCase):
    def train(self, *arguments):
        command = [sys.executable, str(SAMPLES / "train_ddp.py"), "--epochs", "1", *arguments]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(run.stdout.splitlines()[-1])

    def test_four_workers_end_with_the_same_parameters_within_their_bytes(self):
        row = self.train("--workers", "4", "--method", "topk", "--ratio", "50")
        self.assertTrue(row["workers_agree"])
        self.assertGreaterEqual(row["ratio"], 50)
        self.assertLess(row["ratio"], 52)

    def test_lossless_frames_train_as_plain_averaging_does(self):
        plain = self.train("--method", "sgd")
        through_frames = self.train("--method", "fp32", "--ratio", "0.9")
        self.assertAlmostEqual(plain["loss"], through_frames["loss"], delta=1e-3)

    def test_a_ratio_that_a_method_cannot_reach_is_not_trained(self):
        from train_ddp import OutOfReach, refuse_what_is_out_of_reach

        shapes = [("weight", (100, 400)), ("bias", (100,))]
        with self.assertRaises(OutOfReach) as caught:
            refuse_what_is_out_of_reach("qsgd", 1000, shapes)
        self.assertLess(caught.exception.ratio, 100)
        refuse_what_is_out_of_reach("topk", 100, shapes)


if __name__ == "__main__":
    if missing():
        print(f"skipped: {', '.join(missing())} not installed; tools/setup.sh samples installs what is missing")
        sys.exit(77)
    unittest.main()

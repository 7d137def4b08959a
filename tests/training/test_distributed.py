"""`torchrun` with two processes on the CPU gives what one process gives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.conftest import REPOSITORY, Fit
from training.config import Schedule, Stage
from training.distributed import ProcessGroup
from training.errors import ConfigError


def test_two_processes_learn_what_one_learns(fit: Fit, photos: Path, loss_weights: Path, tmp_path: Path) -> None:
    options: tuple[str, ...] = (
        "upscale", "--factor", "2", "--stages", "4x4@48", "--warm-up", "1", "--precision", "float32"
    )  # fmt: skip
    assert fit(*options) == 0
    command: list[str | Path] = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training.fit",
        *options, "--photos", photos, "--loss-weights", loss_weights, "--zoo", tmp_path / "zoo-of-two",
        "--run-dir", tmp_path / "run-of-two", "--device", "cpu", "--threads", "1", "--data-processes", "0",
    ]  # fmt: skip

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
    one, two = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("run", "run-of-two"))
    assert one["progress"]["step"] == two["progress"]["step"] == 4
    for name, value in one["task"].items():
        # Adam turns rounding of tiny gradients into steps of up to its learning rate, 1e-3.
        assert (value - two["task"][name]).float().abs().mean() < 1e-4, name
    assert (tmp_path / "zoo-of-two" / "x2.pt").exists()
    assert finished.stderr.count("Wrote x2") == 1


def test_processes_count_a_broken_photo_once(photos: Path, loss_weights: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(photos, tmp_path / "mixed")
    for name in ("a.jpg", "b.jpg"):
        (mixed / name).write_text("no picture")
    command: list[str | Path] = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training.fit",
        "upscale", "--factor", "2", "--stages", "9x4@32", "--feature-weight", "0", "--texture-weight", "0",
        "--photos", mixed, "--loss-weights", loss_weights, "--zoo", tmp_path / "zoo", "--run-dir", tmp_path / "run",
        "--device", "cpu", "--threads", "1", "--data-processes", "0",
    ]  # fmt: skip

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("2 unreadable photos were passed over.") == 1
    # By each of the processes.
    assert finished.stderr.count("a.jpg cannot be read") == 2


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(ConfigError, match="A batch of 3 cannot be shared evenly by 2 processes"):
        ProcessGroup(rank=0, size=2).check(Schedule((Stage(1, 4, 32), Stage(1, 3, 32))))


def test_a_process_alone_sums_to_itself_and_keeps_its_device() -> None:
    alone = ProcessGroup()

    assert alone.leads
    assert alone.sum([1.0, 2.0]) == [1.0, 2.0]
    assert alone.device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_cuda_device_is_said_plainly() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        ProcessGroup().device("cuda")

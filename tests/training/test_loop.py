"""What the loop does when the machine fails it: memory, disk, signals."""

import errno
import math
import signal
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from training.checkpoint import Progress, load_checkpoint, save_checkpoint, set_aside, write_whole
from training.config import Schedule, Stage
from training.data import CropPolicy, list_photos
from training.errors import CheckpointError, ConfigError, DeviceMemoryError
from training.journal import open_journal
from training.loop import RunSettings, Trainer
from training.memory import largest_fitting, memory_error
from training.stop import StopRequest


class HungryTask(nn.Module):
    """Runs out of memory with more than `most` pictures."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, pictures_BCHW: Tensor, number_B: Tensor) -> dict[str, Tensor]:
        if len(pictures_BCHW) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"total": (pictures_BCHW.mean() - self.weight).square()}


class PairTask(nn.Module):
    """Learns the pictures' brightness twice."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = nn.Parameter(torch.zeros(()))
        self.quick = nn.Parameter(torch.zeros(()))

    def forward(self, pictures_BCHW: Tensor, number_B: Tensor) -> dict[str, Tensor]:
        values = torch.stack([self.slow, self.quick])
        return {"total": (pictures_BCHW.mean() - values).square().sum()}


def trainer(task: nn.Module, photos: Path, folder: Path, stage: Stage) -> Trainer:
    settings = RunSettings(tuple(list_photos(photos)), folder, torch.device("cpu"), data_processes=0)
    return Trainer(task, Schedule((stage,)), CropPolicy(), settings, {}, lambda: None)


def test_parameters_learn_at_their_own_pace(photos: Path, tmp_path: Path) -> None:
    task = PairTask()
    learning = trainer(task, photos, tmp_path, Stage(1, 2, 32))
    learning.paces = {"quick": 5.0}
    learning.run()
    assert task.slow.item() > 0
    assert task.quick.item() == pytest.approx(5 * task.slow.item(), rel=1e-3)


def test_out_of_memory_says_which_batch_fits(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceMemoryError, match=r"12 pictures of 64 px do not fit .* a batch of 3 fits"):
        trainer(HungryTask(most=4), photos, tmp_path, Stage(2, 12, 64)).run()


def test_what_was_learned_before_memory_ran_out_is_kept(photos: Path, tmp_path: Path) -> None:
    task = HungryTask(most=2)
    learning = trainer(task, photos, tmp_path, Stage(2, 2, 32))
    learning.schedule = Schedule((Stage(2, 2, 32), Stage(1, 4, 32)))
    with pytest.raises(DeviceMemoryError, match="a batch of 2 fits"):
        learning.run()

    again = HungryTask(most=2)
    going_on = trainer(again, photos, tmp_path, Stage(2, 2, 32))
    going_on.settings = replace(going_on.settings, resume=True)
    going_on.restore()

    assert going_on.progress.step == 2
    assert again.weight.item() == task.weight.item() != 0


def test_processes_that_train_together_try_no_smaller_batch_alone() -> None:
    assert "try half of the batch" in str(memory_error(torch.rand(4, 3, 64, 64), None))
    assert "try pictures of 32 px" in str(memory_error(torch.rand(1, 3, 64, 64), None))


def test_what_a_failed_step_held_is_free_when_smaller_batches_are_tried(photos: Path, tmp_path: Path) -> None:
    held: list[weakref.ref[Tensor]] = []

    class HoldingTask(HungryTask):
        def forward(self, pictures_BCHW: Tensor, number_B: Tensor) -> dict[str, Tensor]:
            assert not any(each() is not None for each in held)
            activation = pictures_BCHW * self.weight
            held.append(weakref.ref(activation))
            return super().forward(pictures_BCHW, number_B)

    with pytest.raises(DeviceMemoryError, match="a batch of 3 fits"):
        trainer(HoldingTask(most=4), photos, tmp_path, Stage(2, 12, 64)).run()


def test_out_of_memory_with_a_single_picture_asks_for_smaller_ones(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceMemoryError, match="try pictures of 32 px"):
        trainer(HungryTask(most=0), photos, tmp_path, Stage(2, 2, 64)).run()


@pytest.mark.parametrize(("most", "fitting"), [(8, 8), (5, 4), (1, 1), (0, 0)])
def test_the_largest_batch_that_fits(most: int, fitting: int) -> None:
    def attempt(batch: int) -> None:
        if batch > most:
            raise torch.OutOfMemoryError

    assert largest_fitting(attempt, 16) == fitting


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "zoo" / "x4.pt"
    write_whole(path, lambda temporary: None)
    path.write_text("before")

    def fill_the_disk(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left on device.*Is the disk full"):
        write_whole(path, fill_the_disk)
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_said_of_vectors_too(tmp_path: Path) -> None:
    def fill_the_disk(temporary: Path) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with pytest.raises(CheckpointError, match="Is the disk full"):
        write_whole(tmp_path / "red.safetensors", fill_the_disk)


def test_a_checkpoint_survives_the_round_trip_and_is_not_taken_by_another_network(tmp_path: Path) -> None:
    path, task = tmp_path / "checkpoint.pt", nn.Linear(2, 2)
    optimizer = torch.optim.Adam(task.parameters())
    progress = Progress(step=3, seconds=1.5, losses={"total": 0.5})
    save_checkpoint(path, task, optimizer, progress, {"width": 16})

    assert load_checkpoint(path, nn.Linear(2, 2), optimizer, {"width": 16}) == progress
    with pytest.raises(CheckpointError, match="other settings"):
        load_checkpoint(path, nn.Linear(2, 2), optimizer, {"width": 32})
    with pytest.raises(CheckpointError, match="another network"):
        load_checkpoint(path, nn.Linear(2, 2, bias=False), optimizer, {"width": 16})
    kept = set_aside(path)
    assert kept.exists()
    assert not path.exists()


def test_a_checkpoint_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    path, task = tmp_path / "checkpoint.pt", nn.Linear(2, 2)
    optimizer = torch.optim.Adam(task.parameters())
    save_checkpoint(path, task, optimizer, Progress(step=3), {})
    state = torch.load(path, weights_only=True)
    del state["progress"]["losses"]
    state["progress"]["broken_photos"] = 7  # which was counted otherwise then
    torch.save(state, path)

    assert load_checkpoint(path, task, optimizer, {}) == Progress(step=3)


def test_a_signal_asks_to_stop_and_a_second_one_insists() -> None:
    stop = StopRequest(math.inf)
    with stop.on_signals():
        assert not stop.is_due()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_due()
        assert stop.reason == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_time_limit_asks_to_stop() -> None:
    assert StopRequest(0.0).is_due()
    assert not StopRequest(3600.0).is_due()


def test_without_tensorboard_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(ConfigError, match="pip install tensorboard"):
        open_journal(tmp_path)


def test_tensorboard_gets_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")

    open_journal(tmp_path)(10, {"total": 0.5})

    assert list(tmp_path.glob("events.*"))

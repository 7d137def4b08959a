from collections.abc import Callable

import pytest
import torch

from worker.limits import (
    BATCHES,
    SIDE,
    UNMEASURED_PX,
    UNMEASURED_RESULT_PX,
    Limits,
    find_batch,
    is_out_of_memory,
)

TRUNK, UPSCALER = "trunk", "upscaler"


class Device:
    """Computes pictures in no time, but says that it took some."""

    def __init__(
        self, seconds: Callable[[int], float], memory: int = 1000, planning_s: float = 0.0, compiling_s: float = 0.0
    ) -> None:
        self._seconds = seconds
        self._memory = memory
        self._extra_s = (planning_s, compiling_s, 0.0)
        self.now = 0.0
        self.runs: list[int] = []

    def clock(self) -> float:
        return self.now

    def run(self, pictures: int) -> None:
        if pictures > self._memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.now += self._seconds(pictures) + self._extra_s[min(self.runs.count(pictures), 2)]
        self.runs.append(pictures)

    def find(self, limit_s: float = 100.0) -> int:
        return find_batch(self.run, BATCHES, limit_s, self.clock)


def test_the_batch_at_the_knee_is_chosen() -> None:
    # 8 pictures side by side; more wait for each other.
    assert Device(lambda pictures: 0.010 * max(pictures / 8, 1)).find() == 8


def test_a_device_that_gains_nothing_from_batches_gets_single_pictures() -> None:
    assert Device(lambda pictures: 0.030 * pictures).find() == 1
    assert Device(lambda pictures: 0.001 + 0.030 * pictures).find() == 1


def test_a_device_that_always_gains_gets_the_greatest_batch() -> None:
    assert Device(lambda pictures: 1.0).find() == BATCHES[-1]


def test_what_a_shape_costs_at_first_does_not_count() -> None:
    assert Device(lambda pictures: 0.010 * max(pictures / 8, 1), planning_s=1.0).find() == 8
    # As much as TorchScript takes on a GPU, with the time that is given there.
    quick = Device(lambda pictures: 0.0002 * max(pictures / 8, 1), planning_s=0.5, compiling_s=5.0)
    assert quick.find(limit_s=1.5) == 8


def test_the_time_given_is_kept() -> None:
    device = Device(lambda pictures: 0.1 * pictures**0.5)
    device.find(limit_s=2.0)
    assert device.now <= 2.0
    assert max(device.runs) < BATCHES[-1]


def test_a_slow_device_is_tried_with_a_single_picture() -> None:
    device = Device(lambda pictures: 60.0 * pictures)
    assert device.find(limit_s=0.5) == 1
    assert set(device.runs) == {1}


def test_running_out_of_memory_ends_the_search() -> None:
    assert Device(lambda pictures: 1.0, memory=20).find() == 16


def test_a_network_that_cannot_compute_one_picture_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        Device(lambda pictures: 1.0, memory=0).find()


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def run(pictures: int) -> None:
        if pictures > 1:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        find_batch(run, BATCHES, 100.0)


def test_a_batch_is_measured_unless_it_is_given() -> None:
    measured, given = Limits(None, 4000), Limits(123, 4000)
    for limits in (measured, given):
        limits.measure(TRUNK, lambda pictures: None, 0.0)
    assert measured.batch_px(TRUNK) == SIDE * SIDE
    assert given.batch_px(TRUNK) == 123


def test_a_batch_is_several_rounds_of_what_is_computed_side_by_side() -> None:
    limits = Limits(None, 4000)
    sizes: list[int] = []
    limits.measure(TRUNK, sizes.append, 0.0, side_by_side=3, rounds=4)
    assert sizes == [3]
    assert limits.batch_px(TRUNK, 100 * 100) == 4 * 3 * SIDE * SIDE
    # One round at least of larger pictures, up to what memory bears for certain.
    assert limits.batch_px(TRUNK, 550 * 550) == 3 * 550 * 550
    assert limits.batch_px(TRUNK, 600 * 600) == 4 * 3 * SIDE * SIDE


def test_many_pictures_of_middle_size_are_computed_side_by_side_where_there_are_cores_for_them() -> None:
    limits = Limits(None, 4000)
    limits.measure(TRUNK, lambda pictures: None, 0.0, side_by_side=16)
    assert limits.batch_px(TRUNK, 512 * 512) == 16 * 512 * 512
    assert limits.batch_px(TRUNK, 520 * 520) == 16 * SIDE * SIDE


def test_when_memory_runs_out_nothing_more_is_computed_side_by_side() -> None:
    limits = Limits(None, 4000)
    limits.measure(TRUNK, lambda pictures: None, 0.0, side_by_side=2, rounds=4)
    before = limits.remembered(TRUNK)
    limits.halve_batch(TRUNK, 2 * 700 * 700)
    assert limits.batch_px(TRUNK, 700 * 700) == 4 * SIDE * SIDE
    limits.restore(TRUNK, before)
    assert limits.batch_px(TRUNK, 700 * 700) == 2 * 700 * 700


def test_a_network_that_was_not_measured_gets_the_least_batch_of_the_others() -> None:
    limits = Limits(None, 4000)
    assert limits.batch_px(TRUNK) == UNMEASURED_PX
    limits.measure(TRUNK, lambda pictures: None, 0.0)
    assert limits.batch_px(UPSCALER) == SIDE * SIDE


def test_limits_of_one_network_are_not_those_of_another() -> None:
    limits = Limits(1000, 4000)
    limits.halve_batch(TRUNK, 800)
    limits.limit_tile(TRUNK, 500)
    assert (limits.batch_px(TRUNK), limits.tile_px(TRUNK)) == (400, 500)
    assert (limits.batch_px(UPSCALER), limits.tile_px(UPSCALER)) == (1000, 4000)


def test_a_batch_never_grows_by_being_halved() -> None:
    limits = Limits(1000, 4000)
    limits.halve_batch(TRUNK, 5000)
    assert limits.batch_px(TRUNK) == 500
    limits.halve_batch(TRUNK, 5000)
    assert limits.batch_px(TRUNK) == 250


def test_a_tile_starts_as_asked_until_memory_runs_out() -> None:
    limits = Limits(1000, 4000)
    assert limits.tile_px(TRUNK, 300) == 300
    limits.limit_tile(TRUNK, 200)
    assert limits.tile_px(TRUNK, 300) == 200


def test_what_was_found_out_can_be_forgotten() -> None:
    limits = Limits(1000, 4000)
    nothing = limits.remembered(TRUNK)
    limits.halve_batch(TRUNK, 800)
    something = limits.remembered(TRUNK)
    limits.halve_batch(TRUNK, 800)
    limits.limit_tile(TRUNK, 500)
    limits.restore(TRUNK, something)
    assert (limits.batch_px(TRUNK), limits.tile_px(TRUNK)) == (400, 4000)
    limits.restore(TRUNK, nothing)
    assert (limits.batch_px(TRUNK), limits.tile_px(TRUNK)) == (1000, 4000)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc"),
        RuntimeError("Failed to allocate 1073741824 bytes of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_a_lack_of_memory_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError(), RuntimeError("CUDA error: invalid argument")])
def test_a_bug_is_no_lack_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_what_comes_of_tiles_that_were_not_measured_is_bounded() -> None:
    limits = Limits(batch_px=None, tile_px=4_000_000)
    assert limits.tiles_px(UPSCALER, SIDE * SIDE, factor=2) == UNMEASURED_PX
    assert limits.tiles_px(UPSCALER, SIDE * SIDE, factor=8) == UNMEASURED_RESULT_PX // 64

    limits.halve_batch(UPSCALER, limits.tiles_px(UPSCALER, SIDE * SIDE, factor=8))
    assert limits.tiles_px(UPSCALER, SIDE * SIDE, factor=8) == UNMEASURED_RESULT_PX // 128


def test_what_was_measured_or_given_is_not_bounded_by_what_comes_of_it() -> None:
    limits = Limits(batch_px=None, tile_px=4_000_000)
    limits.measure(UPSCALER, lambda _: None, limit_s=1.0, side_by_side=2, rounds=4)
    assert limits.tiles_px(UPSCALER, SIDE * SIDE, factor=8) == 2 * 4 * SIDE * SIDE
    assert Limits(batch_px=3_000_000, tile_px=4_000_000).tiles_px(UPSCALER, SIDE * SIDE, factor=8) == 3_000_000

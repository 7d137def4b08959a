import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.card import ModelCard, Task
from tests.pictures import draw_photo
from tests.worker.stages import px_of_photo
from worker.arrays import Norms, Pixels
from worker.catalog import Catalog, LoadedTrunk, LoadedUpscaler, ZooLoader
from worker.contract import ErrorCode
from worker.engine import LEAST_TILE_PX, Engine, EngineTask, EnlargeTask, PaintTask, Reason
from worker.errors import DeviceLostError, JobError
from worker.limits import SIDE
from worker.runtimes import Network, Values
from worker.runtimes.methods import Method
from worker.runtimes.torchscript import TorchScriptRuntime

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."
MUCH_PX = 10**9


class Inverting:
    """A network that inverts photos, or doubles their sides, and sees nothing beyond a pixel."""

    blocks = 0
    side_by_side = 1

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        return 255 - pixels_BHWC

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        return pixels_BHWC.repeat(2, axis=1).repeat(2, axis=2)

    def reach(self, method: Method) -> int | None:
        return 0 if method is Method.FORWARD else None

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        raise NotImplementedError

    def in_float32(self) -> Network | None:
        return None

    def end_stage(self) -> None:
        pass

    def free_memory(self) -> None:
        pass


class Faulty:
    """A network that fails for photos whose first pixel is black, and for more pixels at once than fit."""

    def __init__(self, network: Network, fits_px: int = MUCH_PX, message: str = OUT_OF_MEMORY) -> None:
        self._network = network
        self._message = message
        self.fits_px = fits_px
        self.blocks = network.blocks
        self.side_by_side = network.side_by_side
        self.given: list[tuple[int, ...]] = []
        """Shapes of all that was computed."""
        self.failures = 0
        self.freed = 0

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        self._take(pixels_BHWC, pixels_BHWC[..., 0].size)
        return self._network.paint(pixels_BHWC, norm_BP)

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        self._take(pixels_BHWC, pixels_BHWC[..., 0].size)
        return self._network.enlarge(pixels_BHWC)

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        first = inputs[0]
        self._take(first, px_of_photo(method, first))
        return self._network.stage(method, *inputs, block=block)

    def reach(self, method: Method) -> int | None:
        return self._network.reach(method)

    def in_float32(self) -> Network | None:
        return self._network.in_float32()

    def end_stage(self) -> None:
        pass

    def free_memory(self) -> None:
        self.freed += 1

    def _take(self, values: Pixels | Values, px: int) -> None:
        if px > self.fits_px or (values.dtype == np.uint8 and (values[:, 0, 0] == 0).all(axis=1).any()):
            self.failures += 1
            raise RuntimeError(self._message)
        self.given.append(values.shape)


@pytest.fixture(scope="module")
def catalog(small_zoo: Path) -> Catalog:
    return ZooLoader(TorchScriptRuntime("cpu")).load(small_zoo)


@pytest.fixture
def reports() -> Counter[Reason]:
    return Counter()


def engine_that_tells(reports: Counter[Reason], batch_px: int | None = MUCH_PX, whole_px: int = MUCH_PX) -> Engine:
    def report(reason: Reason) -> None:
        reports[reason] += 1

    return Engine(batch_px, whole_px, report)


def trunk_of(network: Network) -> LoadedTrunk:
    return LoadedTrunk(ModelCard("trunk", Task.STYLE_TRUNK, "test", 1, "ab", norm_size=2), network)


def upscaler_of(network: Network) -> LoadedUpscaler:
    return LoadedUpscaler(ModelCard("x2", Task.UPSCALE, "test", 1, "cd", factor=2), 2, network)


def paint_tasks(network: Network, levels: list[int], side: int = 16) -> list[EngineTask]:
    trunk = trunk_of(network)
    return [PaintTask(np.full((side, side, 3), level, np.uint8), trunk, np.zeros(2, np.float32)) for level in levels]


def photo(height: int, width: int) -> Pixels:
    return np.asarray(draw_photo(width, height))


def style_task(catalog: Catalog, pixels_HWC: Pixels, network: Network) -> PaintTask:
    red = catalog.styles["red"]
    return PaintTask(pixels_HWC, LoadedTrunk(red.trunk.card, network), red.norm_P)


def picture(result: Pixels | JobError) -> Pixels:
    assert not isinstance(result, JobError), result
    return result


def refusal(result: Pixels | JobError) -> ErrorCode:
    assert isinstance(result, JobError)
    return result.code


def assert_near(actual_HWC: Pixels, expected_HWC: Pixels) -> None:
    assert actual_HWC.shape == expected_HWC.shape
    assert np.abs(actual_HWC.astype(int) - expected_HWC).max() <= 1


def test_a_good_batch_is_computed_at_once(reports: Counter[Reason]) -> None:
    network = Faulty(Inverting())
    engine, tasks = engine_that_tells(reports), paint_tasks(network, [10, 20, 30])
    assert engine.plan(tasks) == [[0, 1, 2]]
    assert [picture(result)[0, 0, 0] for result in engine.run(tasks)] == [245, 235, 225]
    assert network.given == [(3, 16, 16, 3)]
    assert not reports


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (OUT_OF_MEMORY, ErrorCode.TOO_LARGE, "half_batch"),
        ("a bug", ErrorCode.INTERNAL, "failed_batch"),
        ("CUDA error: invalid configuration argument", ErrorCode.INTERNAL, "failed_batch"),
    ],
)
def test_a_poisoned_picture_fails_alone(
    place: int, message: str, code: ErrorCode, reason: str, reports: Counter[Reason], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    levels = [10, 20, 30, 40, 50]
    levels[place] = 0
    results = engine_that_tells(reports).run(paint_tasks(Faulty(Inverting(), message=message), levels))
    assert refusal(results.pop(place)) is code
    assert [picture(result)[0, 0, 0] for result in results] == [255 - level for level in levels if level]
    assert set(reports) == {reason}


def test_other_pictures_are_what_they_are_without_the_poisoned_one(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    network = Faulty(catalog.styles["red"].trunk.network, message="a bug")
    good = [style_task(catalog, photo(40, 56) // level + 1, network) for level in (1, 2, 3)]
    poisoned = style_task(catalog, np.zeros((40, 56, 3), np.uint8), network)
    engine = Engine(MUCH_PX)
    expected = engine.run(good)
    first, failed, *others = engine.run([good[0], poisoned, *good[1:]])
    assert refusal(failed) is ErrorCode.INTERNAL
    for result, without in zip([first, *others], expected, strict=True):
        assert np.array_equal(picture(result), picture(without))


def test_a_bug_is_logged_and_changes_no_limits(caplog: pytest.LogCaptureFixture) -> None:
    network = Faulty(Inverting(), message="a bug")
    engine, tasks = Engine(MUCH_PX), paint_tasks(network, [10, 0])
    engine.run(tasks)
    assert "a bug" in caplog.text
    assert engine.budget_px(tasks[0].key) == MUCH_PX
    assert network.freed == 0


@pytest.mark.parametrize(
    "message",
    ["CUDA error: an illegal memory access was encountered", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"],
)
@pytest.mark.parametrize("levels", [[10], [10, 20, 30]])
def test_a_gpu_that_computes_nothing_any_more_is_no_fault_of_the_pictures(
    levels: list[int], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    engine, network = Engine(MUCH_PX), Faulty(Inverting(), fits_px=0, message=message)
    with pytest.raises(DeviceLostError):
        engine.run(paint_tasks(network, levels))


def test_half_a_batch_is_tried_and_remembered(reports: Counter[Reason]) -> None:
    network = Faulty(Inverting(), fits_px=2 * 16 * 16)
    engine, tasks = engine_that_tells(reports), paint_tasks(network, [10, 20, 30, 40])
    results = engine.run(tasks)
    assert [picture(result)[0, 0, 0] for result in results] == [245, 235, 225, 215]
    assert (network.failures, network.freed, reports["half_batch"]) == (1, 1, 1)
    for batch in engine.plan(tasks):
        engine.run([tasks[index] for index in batch])
    assert engine.plan(tasks) == [[0, 1], [2, 3]]
    assert network.failures == 1
    assert engine.budget_px(EnlargeTask(photo(16, 16), upscaler_of(Inverting())).key) == MUCH_PX


class Shared(Inverting):
    """A network on a device that has memory for one batch; the first keeps it until it is told to end."""

    def __init__(self) -> None:
        self.entered, self.may_end = threading.Event(), threading.Event()
        self.tried: list[int] = []
        """Pictures in each batch."""

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        self.tried.append(len(pixels_BHWC))
        if not self.entered.is_set():
            self.entered.set()
            assert self.may_end.wait(60)
        elif not self.may_end.is_set():
            self.may_end.set()
            raise RuntimeError(OUT_OF_MEMORY)
        return super().paint(pixels_BHWC, norm_BP)


def test_memory_that_another_batch_has_is_waited_for(reports: Counter[Reason]) -> None:
    network, engine = Shared(), engine_that_tells(reports)
    tasks = paint_tasks(network, [10, 20, 30])
    with ThreadPoolExecutor(1) as other:
        first = other.submit(engine.run, tasks[:1])
        assert network.entered.wait(60)
        results = engine.run(tasks[1:])
        assert picture(first.result()[0])[0, 0, 0] == 245
    assert [picture(result)[0, 0, 0] for result in results] == [235, 225]
    assert network.tried == [1, 2, 2]
    assert not reports
    assert engine.budget_px(tasks[0].key) == MUCH_PX


def test_tiles_are_tried_and_remembered(catalog: Catalog, reports: Counter[Reason]) -> None:
    real = catalog.styles["red"].trunk.network
    network = Faulty(real, fits_px=40_000)
    engine, task = engine_that_tells(reports), style_task(catalog, photo(301, 262), network)
    whole_HWC = real.paint(task.pixels_HWC[None], task.norm_P[None])[0]
    assert_near(picture(engine.run([task])[0]), whole_HWC)
    assert (network.failures, reports["tiles"], reports["half_batch"]) == (1, 1, 0)
    assert network.freed
    assert_near(picture(engine.run([task])[0]), whole_HWC)
    assert network.failures == 1


def test_a_batch_that_does_not_fit_ends_in_tiles(catalog: Catalog, reports: Counter[Reason]) -> None:
    network = Faulty(catalog.styles["red"].trunk.network, fits_px=40_000)
    task = style_task(catalog, photo(260, 256), network)
    results = engine_that_tells(reports).run([task, task])
    assert np.array_equal(picture(results[0]), picture(results[1]))
    assert (reports["half_batch"], reports["tiles"]) == (1, 1)


def test_what_does_not_fit_in_the_smallest_tiles_is_too_large(catalog: Catalog, reports: Counter[Reason]) -> None:
    network = Faulty(catalog.styles["red"].trunk.network, fits_px=LEAST_TILE_PX // 4)
    engine = engine_that_tells(reports)
    small, large = (style_task(catalog, photo(side, side), network) for side in (48, 512))
    assert refusal(engine.run([large])[0]) is ErrorCode.TOO_LARGE
    assert reports["tiles"] == 2
    # What did not help is not remembered: it would slow down all that come after.
    assert engine.plan([small] * 4) == [[0, 1, 2, 3]]
    network.fits_px = MUCH_PX
    network.given.clear()
    engine.run([large])
    assert network.given == [(1, 512, 512, 3)]


def test_large_photos_are_painted_in_tiles_from_the_start(catalog: Catalog, reports: Counter[Reason]) -> None:
    real = catalog.styles["red"].trunk.network
    network = Faulty(real, fits_px=100 * 100)
    engine = engine_that_tells(reports, whole_px=100 * 100)
    for size in ((100, 100), (101, 131)):
        task = style_task(catalog, photo(*size), network)
        (whole_HWC,) = real.paint(task.pixels_HWC[None], task.norm_P[None])
        assert_near(picture(engine.run([task])[0]), whole_HWC)
    assert not reports


def test_a_trunk_without_stages_paints_large_photos_in_one_piece() -> None:
    network = Faulty(Inverting())
    engine, (task,) = Engine(MUCH_PX, whole_px=100), paint_tasks(network, [10], side=32)
    assert picture(engine.run([task])[0])[0, 0, 0] == 245
    network.fits_px = 100
    assert refusal(engine.run([task])[0]) is ErrorCode.TOO_LARGE


def test_photos_of_several_sizes_are_enlarged_together() -> None:
    network = Faulty(Inverting())
    photos = [photo(500, 200), photo(505, 200), photo(512, 200)]
    tasks: list[EngineTask] = [EnlargeTask(each, upscaler_of(network)) for each in photos]
    engine = Engine(MUCH_PX)
    assert engine.plan(tasks) == [[0, 1, 2]]
    for result, each in zip(engine.run(tasks), photos, strict=True):
        assert np.array_equal(picture(result), each.repeat(2, axis=0).repeat(2, axis=1))
    assert network.given == [(6, 256, 200, 3)]


def test_fewer_tiles_at_once_are_tried_before_smaller_ones(reports: Counter[Reason]) -> None:
    network = Faulty(Inverting(), fits_px=256 * 256)
    engine, task = engine_that_tells(reports), EnlargeTask(photo(512, 768), upscaler_of(network))
    expected_HWC = task.pixels_HWC.repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(picture(engine.run([task])[0]), expected_HWC)
    assert set(network.given) == {(1, 256, 256, 3)}
    assert set(reports) == {"half_batch"}
    failures = network.failures
    assert np.array_equal(picture(engine.run([task])[0]), expected_HWC)
    assert network.failures == failures


def test_smaller_tiles_are_tried_when_one_does_not_fit(reports: Counter[Reason]) -> None:
    network = Faulty(Inverting(), fits_px=LEAST_TILE_PX)
    engine, task = engine_that_tells(reports), EnlargeTask(photo(512, 300), upscaler_of(network))
    assert np.array_equal(picture(engine.run([task])[0]), task.pixels_HWC.repeat(2, axis=0).repeat(2, axis=1))
    assert reports["tiles"] == 1
    network.fits_px = 0
    assert refusal(engine.run([task])[0]) is ErrorCode.TOO_LARGE


def test_an_upscaler_that_sees_the_whole_photo_gets_it_whole() -> None:
    class Global(Inverting):
        def reach(self, method: Method) -> int | None:
            return None

    network = Faulty(Global())
    task = EnlargeTask(photo(300, 520), upscaler_of(network))
    assert (task.key.height, task.key.width) == (300, 520)
    assert picture(Engine(MUCH_PX).run([task])[0]).shape == (600, 1040, 3)
    assert network.given == [(1, 300, 520, 3)]


def test_black_paintings_in_half_precision_are_reported(reports: Counter[Reason]) -> None:
    class Half(Inverting):
        def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
            return np.zeros_like(pixels_BHWC)

        def in_float32(self) -> Network | None:
            return Inverting()

    (result,) = engine_that_tells(reports).run(paint_tasks(Half(), [10]))
    assert picture(result)[0, 0, 0] == 245
    assert reports == {"float32": 1}


def test_batches_are_measured_where_none_is_given() -> None:
    trunk, upscaler = trunk_of(Inverting()), upscaler_of(Inverting())
    tasks: list[EngineTask] = [*paint_tasks(trunk.network, [1]), EnlargeTask(photo(16, 16), upscaler)]
    measured, given = Engine(None), Engine(1000)
    for engine in (measured, given):
        engine.measure([trunk, upscaler])
    assert [measured.budget_px(task.key) % SIDE**2 for task in tasks] == [0, 0]
    assert measured.starting_budget_px == min(measured.budget_px(task.key) for task in tasks)
    assert [given.budget_px(task.key) for task in tasks] == [1000, 1000]


def test_a_network_that_was_trained_again_needs_no_measuring() -> None:
    class SideBySide(Inverting):
        side_by_side = 3

    trunk = trunk_of(SideBySide())
    engine = Engine(None)
    engine.measure([trunk, upscaler_of(Inverting())])
    again = LoadedTrunk(replace(trunk.card, digest="ef"), trunk.network)
    keys = [PaintTask(photo(16, 16), each, np.zeros(2, np.float32)).key for each in (trunk, again)]
    assert keys[0] != keys[1]
    assert [engine.budget_px(key) for key in keys] == [3 * SIDE**2] * 2


def test_what_measuring_takes_is_given_back() -> None:
    class Holding(Inverting):
        holds = False

        def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
            self.holds = True
            return super().paint(pixels_BHWC, norm_BP)

        def free_memory(self) -> None:
            self.holds = False

    network = Holding()
    Engine(None).measure([trunk_of(network)])
    assert not network.holds


def test_batches_stay_within_the_budget() -> None:
    tasks = paint_tasks(Inverting(), [10, 20, 30])
    assert Engine(2 * 16 * 16).plan(tasks) == [[0, 1], [2]]
    assert Engine(1).plan(tasks) == [[0], [1], [2]]
    assert Engine(1).plan([]) == []


def test_each_call_of_the_device_is_noted_and_its_idleness() -> None:
    seen: list[float | None] = []

    class Looking(Inverting):
        def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
            seen.append(engine.busy_since)
            return super().paint(pixels_BHWC, norm_BP)

    busy_s: list[float] = []
    engine = Engine(MUCH_PX, count_busy=busy_s.append)
    engine.run(paint_tasks(Faulty(Looking(), message="a bug"), [10, 0]))
    engine.run(paint_tasks(Looking(), [10]))
    assert len(busy_s) >= 3  # each call, so that a large picture does not look like a device that hangs
    assert min(busy_s) >= 0
    assert None not in seen
    assert len(set(seen)) == len(seen) == 2
    assert engine.busy_since is None

"""The stages of a worker, on real pictures and a real zoo, without a queue."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from tests.pictures import draw_photo, encode
from worker.answers import Answer
from worker.catalog import Catalog, ZooLoader
from worker.contract import ErrorCode, JobStatus, PictureFormat, StyleJob, UpscaleJob
from worker.engine import Engine, EnlargeTask
from worker.metrics import WorkerMetrics
from worker.pipeline import AHEAD, MOST_WAITING, TAKEN_TOGETHER, PicturePipeline, Request
from worker.runtimes.torchscript import TorchScriptRuntime

SIDE = 64
PHOTO = encode(draw_photo(SIDE, SIDE))
BATCH_PX = 4 * SIDE * SIDE
DECODERS = 2


class GatedEngine(Engine):
    """An engine that computes a batch when it is told to."""

    def __init__(self) -> None:
        super().__init__(BATCH_PX)
        self.entered: SimpleQueue[int] = SimpleQueue()
        """Sizes of the batches that came to the device."""
        self.gate = self.large_gate = threading.Semaphore(0)
        """Lets batches pass; those of a large picture have another one where a test gives them one."""

    def run(self, tasks: Any) -> Any:
        self.entered.put(len(tasks))
        gate = self.large_gate if tasks[0].key.pixels > BATCH_PX else self.gate
        assert gate.acquire(timeout=60)
        return super().run(tasks)


@dataclass
class Bench:
    pipeline: PicturePipeline
    engine: GatedEngine
    codec: ThreadPoolExecutor
    answers: SimpleQueue[tuple[Request, Answer]] = field(default_factory=SimpleQueue)

    def submit(self, count: int, **changes: Any) -> list[Request]:
        requests = [Request(job(index, **changes), PHOTO) for index in range(count)]
        self.pipeline.submit(requests)
        return requests

    def answer(self) -> Answer:
        return self.answers.get(timeout=60)[1]

    def wait_until_passed_over(self, count: int) -> None:
        until(lambda: self.pipeline._ready.aside == count)


@pytest.fixture
def catalog(small_zoo: Path) -> Catalog:
    return ZooLoader(TorchScriptRuntime("cpu")).load(small_zoo)


@contextmanager
def bench(
    catalog: Catalog,
    max_batch: int = 32,
    max_delay_s: float = 0.0,
    batches_at_once: int = 1,
    as_one_px: float = math.inf,
) -> Iterator[Bench]:
    engine, metrics = GatedEngine(), WorkerMetrics()
    with ThreadPoolExecutor(DECODERS) as codec:
        pipeline = PicturePipeline(
            catalog,
            engine,
            codec,
            metrics,
            max_batch,
            max_delay_s,
            DECODERS,
            batches_at_once=batches_at_once,
            as_one_px=as_one_px,
        )
        made = Bench(pipeline, engine, codec)
        made.pipeline.start(lambda request, answer: made.answers.put((request, answer)))
        yield made
        made.engine.gate.release(1000)
        made.pipeline.stop()
    assert made.pipeline.failure is None


def job(index: int, **changes: Any) -> StyleJob:
    common: dict[str, Any] = {
        "id": f"{index:032x}",
        "reply_to": "nobody",
        "submitted_at": time.time(),
        "deadline": time.time() + 600,
        "format": PictureFormat.PNG,
        "quality": 90,
        "result_ttl_s": 600,
        "styles": {"red" if index % 2 else "blue": 1.0},
    }
    return StyleJob(**{**common, **changes})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_next_batch_fills_while_one_is_computed(catalog: Catalog) -> None:
    with bench(catalog) as made:
        made.submit(1)
        assert made.engine.entered.get(timeout=60) == 1  # a free device waits for nobody
        made.submit(6)
        until(lambda: made.pipeline.wait_for_room(0) < AHEAD * 4)
        made.engine.gate.release(3)
        sizes = [made.engine.entered.get(timeout=60) for _ in range(2)]
        assert [made.answer().result.status for _ in range(7)] == [JobStatus.FINISHED] * 7
        assert sum(sizes) == 6
        assert max(sizes) <= 4


def test_a_busy_device_that_takes_two_batches_gets_the_next_when_it_is_full(catalog: Catalog) -> None:
    with bench(catalog, batches_at_once=2) as made:
        made.submit(1)
        assert made.engine.entered.get(timeout=60) == 1  # a free device waits for nobody
        made.submit(3)
        until(lambda: len(made.pipeline._ready) == 3)
        assert made.engine.entered.empty()
        made.submit(2)
        assert made.engine.entered.get(timeout=60) == 4
        made.engine.gate.release(2)
        assert made.engine.entered.get(timeout=60) == 1
        made.engine.gate.release(1)
        assert [made.answer().result.status for _ in range(6)] == [JobStatus.FINISHED] * 6


def test_a_busy_device_that_computes_pictures_one_by_one_gets_what_is_ready(catalog: Catalog) -> None:
    with bench(catalog, batches_at_once=3, as_one_px=0) as made:
        for _ in range(3):
            made.submit(1)
            assert made.engine.entered.get(timeout=60) == 1
        made.submit(6)
        until(lambda: len(made.pipeline._ready) == 6)
        assert made.engine.entered.empty()
        made.engine.gate.release(1)
        assert made.engine.entered.get(timeout=60) == 4
        made.engine.gate.release(10)
        assert made.engine.entered.get(timeout=60) == 2
        assert [made.answer().result.status for _ in range(9)] == [JobStatus.FINISHED] * 9


def test_pictures_that_are_computed_as_one_wait_for_each_other_and_for_no_others(catalog: Catalog) -> None:
    def tiny(count: int) -> list[Request]:
        return [Request(job(index), encode(draw_photo(16, 16))) for index in range(count)]

    with bench(catalog, batches_at_once=3, as_one_px=16 * 16) as made:
        made.submit(1)
        assert made.engine.entered.get(timeout=60) == 1
        made.pipeline.submit(tiny(1))
        assert made.engine.entered.get(timeout=60) == 1
        made.pipeline.submit(tiny(3))
        until(lambda: len(made.pipeline._ready) == 3)
        assert made.engine.entered.empty()
        made.engine.gate.release(2)
        assert made.engine.entered.get(timeout=60) == 3
        made.engine.gate.release(1)
        assert [made.answer().result.status for _ in range(5)] == [JobStatus.FINISHED] * 5


def test_small_pictures_need_not_wait_for_the_end_of_a_large_one(catalog: Catalog) -> None:
    with bench(catalog, batches_at_once=2, as_one_px=0) as made:
        made.pipeline.submit([large := Request(job(1), encode(draw_photo(3 * SIDE, 2 * SIDE)))])
        assert made.engine.entered.get(timeout=60) == 1
        small = made.submit(1)
        assert made.engine.entered.get(timeout=60) == 1
        made.engine.gate.release(2)
        assert {id(made.answers.get(timeout=60)[0]) for _ in range(2)} == {id(large), id(small[0])}


def test_small_pictures_pass_large_ones_that_wait_for_the_end_of_another(catalog: Catalog) -> None:
    with bench(catalog, batches_at_once=2, as_one_px=0) as made:
        made.engine.large_gate = threading.Semaphore(0)
        made.engine.gate.release(1000)
        large = [Request(job(index), encode(draw_photo(3 * SIDE, 2 * SIDE))) for index in range(1 + AHEAD)]
        made.pipeline.submit(large[:1])
        assert made.engine.entered.get(timeout=60) == 1
        for place in range(1, len(large)):
            made.pipeline.submit(large[place : place + 1])
            made.wait_until_passed_over(place)
        small = made.submit(2)
        assert {id(made.answers.get(timeout=60)[0]) for _ in small} == {id(request) for request in small}
        for request in large:
            made.engine.large_gate.release(1)
            assert made.answers.get(timeout=60)[0] is request


def test_no_more_large_pictures_are_passed_over_than_are_worth_being_ready(catalog: Catalog) -> None:
    with bench(catalog, batches_at_once=2, as_one_px=0) as made:
        made.engine.large_gate = threading.Semaphore(0)
        made.engine.gate.release(1000)
        large = [Request(job(index), encode(draw_photo(3 * SIDE, 4 * SIDE))) for index in range(2 + AHEAD)]
        for request in large:
            made.pipeline.submit([request])
        made.wait_until_passed_over(AHEAD)
        until(lambda: len(made.pipeline._ready) == 1)
        assert made.pipeline.wait_for_room(0) == 0
        small = made.submit(1)
        made.engine.large_gate.release(1000)
        answered = {id(made.answers.get(timeout=60)[0]) for _ in range(len(large) + 1)}
        assert answered == {id(request) for request in (*large, *small)}


def test_what_waits_behind_a_large_picture_goes_as_soon_as_that_has_gone(catalog: Catalog) -> None:
    with bench(catalog, batches_at_once=3, as_one_px=0) as made:
        made.submit(1)
        assert made.engine.entered.get(timeout=60) == 1
        made.pipeline.submit([Request(job(1), encode(draw_photo(3 * SIDE, 2 * SIDE)))])
        until(lambda: len(made.pipeline._ready) == 1)
        made.submit(2)
        until(lambda: len(made.pipeline._ready) == 3)
        assert made.engine.entered.empty()
        made.engine.gate.release(1)
        assert sorted(made.engine.entered.get(timeout=60) for _ in range(2)) == [1, 2]
        made.engine.gate.release(2)
        assert [made.answer().result.status for _ in range(4)] == [JobStatus.FINISHED] * 4


def test_a_picture_larger_than_a_batch_has_the_memory_to_itself(catalog: Catalog) -> None:
    with bench(catalog, batches_at_once=2) as made:
        made.submit(1)
        assert made.engine.entered.get(timeout=60) == 1
        made.pipeline.submit([Request(job(1), encode(draw_photo(3 * SIDE, 2 * SIDE)))])
        until(lambda: len(made.pipeline._ready) == 1)
        assert made.engine.entered.empty()
        made.engine.gate.release(1)
        assert made.engine.entered.get(timeout=60) == 1
        made.engine.gate.release(1)
        assert [made.answer().result.status for _ in range(2)] == [JobStatus.FINISHED] * 2


def test_there_is_room_for_so_much_and_no_more(catalog: Catalog) -> None:
    with bench(catalog) as made:
        made.submit(1)
        made.engine.entered.get(timeout=60)
        made.submit(3 * MOST_WAITING)
        assert made.pipeline.wait_for_room(0) == 0
        made.engine.gate.release(1000)
        for _ in range(3 * MOST_WAITING + 1):
            assert made.answer().result.status is JobStatus.FINISHED
        assert made.pipeline.wait_for_room(60) > 0


def test_there_is_room_for_several_of_many_small_pictures_or_for_none(catalog: Catalog) -> None:
    small = [Request(job(index), encode(draw_photo(16, 16))) for index in range(MOST_WAITING)]
    decoders_may_go_on = threading.Event()
    with bench(catalog) as made:
        made.engine.gate.release(1000)
        made.pipeline.submit(small)  # so that it expects more of them
        for _ in small:
            made.answer()
        for _ in range(DECODERS):
            made.codec.submit(decoders_may_go_on.wait, 60)
        made.pipeline.submit(small[TAKEN_TOGETHER:])
        assert made.pipeline.wait_for_room(0) == TAKEN_TOGETHER
        made.pipeline.submit(small[:1])
        assert made.pipeline.wait_for_room(0) == 0
        decoders_may_go_on.set()
        assert made.pipeline.wait_for_room(60) >= TAKEN_TOGETHER


def test_small_pictures_do_not_let_more_large_ones_in_than_are_decoded_at_once(catalog: Catalog) -> None:
    with bench(catalog) as made:
        made.engine.gate.release(1000)
        made.submit(32)  # a fraction of the size that is expected at first
        for _ in range(32):
            made.answer()
        held = threading.Semaphore(0)
        for _ in range(DECODERS):
            made.codec.submit(held.acquire)
        made.submit(8)
        decoding = len(made.pipeline._decoding)
        held.release(DECODERS)
        assert decoding == DECODERS
        assert [made.answer().result.status for _ in range(8)] == [JobStatus.FINISHED] * 8


def test_large_files_are_not_decoded_side_by_side(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.pipeline.MOST_HELD_PX", 3 * SIDE * SIDE)
    with bench(catalog) as made:
        made.engine.gate.release(1000)
        held = threading.Semaphore(0)
        for _ in range(DECODERS):
            made.codec.submit(held.acquire)
        large = [job(index, pixels=2 * SIDE * SIDE, size=SIDE) for index in range(3)]
        made.pipeline.submit([Request(each, PHOTO) for each in large])
        decoding = len(made.pipeline._decoding)
        held.release(DECODERS)
        assert decoding == 1
        assert [made.answer().result.status for _ in range(3)] == [JobStatus.FINISHED] * 3


@pytest.mark.parametrize(("progressive", "expected"), [(False, DECODERS), (True, 1)])
def test_a_large_jpeg_takes_its_whole_room_only_if_it_is_decoded_whole(
    progressive: bool, expected: int, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a progressive one, every coefficient lies in memory before it is reduced."""
    large = encode(draw_photo(10 * SIDE, 10 * SIDE), "JPEG", progressive=progressive)
    monkeypatch.setattr("worker.pipeline.MOST_HELD_PX", 150 * SIDE * SIDE)
    with bench(catalog) as made:
        made.engine.gate.release(1000)
        held = threading.Semaphore(0)
        for _ in range(DECODERS):
            made.codec.submit(held.acquire)
        jobs = [job(index, pixels=100 * SIDE * SIDE, size=SIDE) for index in range(3)]
        made.pipeline.submit([Request(each, large) for each in jobs])
        decoding = len(made.pipeline._decoding)
        held.release(DECODERS)
        assert decoding == expected
        assert [made.answer().result.status for _ in range(3)] == [JobStatus.FINISHED] * 3


def test_there_is_no_more_room_for_files_that_are_announced_as_large(catalog: Catalog) -> None:
    with bench(catalog) as made:
        made.engine.gate.release(1000)
        for _ in made.submit(32):
            made.answer()
        assert made.pipeline.wait_for_room(0) > 1
        held = threading.Semaphore(0)
        for _ in range(DECODERS):
            made.codec.submit(held.acquire)
        made.pipeline.submit([Request(job(0, pixels=AHEAD * BATCH_PX), PHOTO)])
        room = made.pipeline.wait_for_room(0)
        held.release(DECODERS)
        assert room == 0
        assert made.answer().result.status is JobStatus.FINISHED


def test_a_network_that_cannot_say_how_far_it_sees_fails_its_jobs(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: EnlargeTask) -> None:
        raise RuntimeError("no gradients")

    monkeypatch.setattr(EnlargeTask, "key", property(fail))
    with bench(catalog) as made:
        common = {name: value for name, value in job(0).to_kwargs().items() if name in UpscaleJob.__dataclass_fields__}
        made.pipeline.submit([Request(UpscaleJob(**common, factor=2), PHOTO)])
        assert made.answer().result.error is ErrorCode.INTERNAL


def test_a_job_that_is_late_costs_the_device_nothing(catalog: Catalog) -> None:
    with bench(catalog) as made:
        made.submit(1)
        made.engine.entered.get(timeout=60)
        deadline = time.time() + 1
        made.submit(1, deadline=deadline)  # decoded in time, and then late
        until(lambda: time.time() > deadline)
        made.engine.gate.release(1)
        answers = [made.answer(), made.answer()]
        assert {answer.result.error for answer in answers} == {None, ErrorCode.DEADLINE}
        assert made.engine.entered.empty()


def test_a_device_may_wait_for_a_batch_to_fill(catalog: Catalog) -> None:
    with bench(catalog, max_batch=3, max_delay_s=3600) as made:
        made.submit(2)
        until(lambda: len(made.pipeline._ready) == 2)
        assert made.engine.entered.empty()
        made.submit(1)
        assert made.engine.entered.get(timeout=60) == 3


def test_styles_share_a_batch_and_bad_pictures_fail_alone(catalog: Catalog) -> None:
    with bench(catalog) as made:
        made.engine.gate.release(1000)
        made.pipeline.submit([Request(job(0), PHOTO[:-400]), Request(job(1), None), Request(job(2), PHOTO)])
        found = {request.job.id: answer for request, answer in (made.answers.get(timeout=60) for _ in range(3))}
        errors = [found[f"{index:032x}"].result.error for index in range(3)]
        assert errors == [ErrorCode.BROKEN_PICTURE, ErrorCode.INPUT_LOST, None]


def test_a_fault_in_a_codecs_thread_is_told(catalog: Catalog) -> None:
    def refuse(request: Request, answer: Answer) -> None:
        raise SystemError("a bug")

    with ThreadPoolExecutor(1) as codec:
        pipeline = PicturePipeline(catalog, GatedEngine(), codec, WorkerMetrics(), 1)
        pipeline.start(refuse)
        pipeline.submit([Request(job(0), b"no picture")])
        until(lambda: pipeline.failure is not None)
        pipeline.stop()
    assert isinstance(pipeline.failure, SystemError)


def test_a_fault_in_the_device_thread_is_told(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(GatedEngine):
        def run(self, tasks: Any) -> Any:
            raise SystemError("a bug")

    with ThreadPoolExecutor(1) as codec:
        pipeline = PicturePipeline(catalog, Faulty(), codec, WorkerMetrics(), 1)
        pipeline.start(lambda request, answer: None)
        pipeline.submit([Request(job(0), PHOTO)])
        until(lambda: pipeline.failure is not None)
        pipeline.stop()
    assert isinstance(pipeline.failure, SystemError)

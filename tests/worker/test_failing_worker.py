"""A worker in this process whose device or whose Redis fails."""

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.pictures import draw_photo, encode
from tests.redis_server import RedisServer
from tests.worker.running import Client
from worker import connection
from worker.answers import Answer
from worker.arrays import Norms, Pixels
from worker.catalog import ZooLoader
from worker.closing import Closing, JobCloser, read_job
from worker.connection import PAUSE_S
from worker.consumer import BatchWorker
from worker.contract import ErrorCode, JobResult, JobStatus, Lane
from worker.engine import Engine
from worker.errors import DeviceLostError
from worker.metrics import WorkerMetrics
from worker.pipeline import PicturePipeline
from worker.runtimes.torchscript import TorchScriptNetwork, TorchScriptRuntime

PHOTO = encode(draw_photo(60, 44))


@contextmanager
def making_worker(connection: Redis, small_zoo: Path, max_delay_s: float = 0.0) -> Iterator[BatchWorker]:
    catalog, metrics = ZooLoader(TorchScriptRuntime("cpu")).load(small_zoo), WorkerMetrics()
    with ThreadPoolExecutor(2) as codec:
        pipeline = PicturePipeline(catalog, Engine(1_000_000), codec, metrics, 8, max_delay_s)
        yield BatchWorker(connection, pipeline, "worker", metrics)


@pytest.fixture
def worker(connection: Redis, small_zoo: Path) -> Iterator[BatchWorker]:
    with making_worker(connection, small_zoo) as worker:
        yield worker


def run(worker: BatchWorker) -> Future[None]:
    """Lets it work in a thread, of which a test that fails does not wait for the end."""
    ended: Future[None] = Future()

    def work() -> None:
        try:
            worker.run()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=work, daemon=True).start()
    return ended


@pytest.mark.parametrize("lane", Lane)
def test_a_worker_whose_gpu_is_lost_ends(
    client: Client, worker: BatchWorker, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(TorchScriptNetwork, "paint", fail)
    jobs = [client.stylize(PHOTO, lane=lane) for _ in range(3)]
    with pytest.raises(DeviceLostError):
        run(worker).result(timeout=60)
    assert not any(client.is_answered(job) for job in jobs)


def test_a_picture_that_kills_its_worker_fails_alone(
    client: Client, connection: Redis, small_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint, lost = TorchScriptNetwork.paint, threading.Event()

    def fail(self: TorchScriptNetwork, pixels_BHWC: Pixels, norm_BP: Norms) -> Any:
        if not pixels_BHWC.any(axis=(1, 2, 3)).all():
            lost.set()
        if lost.is_set():
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return paint(self, pixels_BHWC, norm_BP)

    monkeypatch.setattr(TorchScriptNetwork, "paint", fail)
    together_s = 0.5
    others = [client.stylize(PHOTO, retries=1) for _ in range(3)]
    killer = client.stylize(encode(Image.new("RGB", (60, 44))), retries=1)
    for deaths in (1, 2):
        lost.clear()
        with making_worker(connection, small_zoo, together_s) as worker, pytest.raises(DeviceLostError):
            run(worker).result(timeout=60)
        if deaths == 1:
            client.put_back()
    lost.clear()
    with making_worker(connection, small_zoo, together_s) as worker:
        ended = run(worker)
        assert [client.wait(job)[0].status for job in others] == [JobStatus.FINISHED] * 3
        assert client.wait(killer)[0].error is ErrorCode.INTERNAL
        worker.request_stop(signal.SIGTERM, None)
        ended.result(timeout=60)


def test_all_that_is_answered_by_the_end_is_closed(client: Client, worker: BatchWorker) -> None:
    jobs = [client.stylize(PHOTO) for _ in range(2)]
    answer = Answer(JobResult(status=JobStatus.FINISHED))
    for taken in worker._lanes.take(len(jobs)).jobs:
        worker._closings.put(Closing(taken, read_job(taken.data), answer))
    worker._closings.put(None)
    closer = threading.Thread(target=worker._close_answered, daemon=True)
    closer.start()
    closer.join(timeout=60)
    assert not closer.is_alive()
    assert [client.wait(job)[0].status for job in jobs] == [JobStatus.FINISHED] * 2


def test_a_result_that_redis_does_not_take_stops_no_other(
    client: Client, worker: BatchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = JobCloser.close

    def hang_up_on_large_ones(self: JobCloser, closings: Sequence[Closing], *, idle: bool) -> int:
        if any(len(closing.answer.picture or b"") > 10_000 for closing in closings):
            raise RedisConnectionError("Connection closed by server.")
        return close(self, closings, idle=idle)

    monkeypatch.setattr(connection, "PAUSE_S", 0.0)
    monkeypatch.setattr(JobCloser, "close", hang_up_on_large_ones)
    large, small = client.stylize(encode(draw_photo(200, 200))), client.stylize(PHOTO)
    ended = run(worker)
    assert client.wait(small)[0].status is JobStatus.FINISHED
    result, picture = client.wait(large)
    assert (result.error, picture) == (ErrorCode.TOO_LARGE, None)
    worker.request_stop(signal.SIGTERM, None)
    ended.result(timeout=60)
    assert worker._unsent_bytes == 0


class Pauses(threading.Event):
    """A wish to stop that nobody waits for; it counts who would."""

    def __init__(self) -> None:
        super().__init__()
        self.taken_s: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.taken_s.append(timeout)
        return self.is_set()


@pytest.mark.parametrize(
    ("refuse", "accept"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ],
    ids=["full", "without replicas", "read-only"],
)
def test_a_redis_that_takes_nothing_is_asked_now_and_then_and_complained_of_once(
    client: Client, worker: BatchWorker, caplog: pytest.LogCaptureFixture, refuse: str, accept: str
) -> None:
    caplog.set_level("INFO", "worker")
    worker._stop = pauses = Pauses()
    client.connection.execute_command(*refuse.split())  # type: ignore[no-untyped-call]
    for _ in range(3):
        worker._serve(Lane.INTERACTIVE, worker._recover_lost_jobs)
        worker._serve(Lane.BULK)
    assert pauses.taken_s == [PAUSE_S] * 6
    assert len(caplog.messages) == 1
    client.connection.execute_command(*accept.split())  # type: ignore[no-untyped-call]
    job = client.stylize(PHOTO)
    for _ in range(2):
        worker._serve(Lane.INTERACTIVE)
    assert caplog.messages[0].startswith("Redis cannot be used")
    assert caplog.messages[1:] == ["Redis answers again."]
    assert client.queue.started_job_registry.get_job_ids(cleanup=False) == [job]


def test_a_worker_that_starts_while_redis_is_full_makes_room(client: Client, worker: BatchWorker) -> None:
    jobs = [client.stylize(PHOTO) for _ in range(3)]
    client.connection.config_set("maxmemory", 1)
    ended = run(worker)
    assert [client.wait(job)[0].status for job in jobs] == [JobStatus.FINISHED] * 3
    client.connection.config_set("maxmemory", 0)
    while not client.connection.sismember("rq:workers", worker.key):
        assert not ended.done()
    worker.request_stop(signal.SIGTERM, None)
    ended.result(timeout=60)


def is_busy(connection: Redis) -> bool:
    try:
        return not connection.ping()
    except ResponseError as error:
        return str(error).startswith("BUSY")


def test_a_redis_that_runs_somebodys_script_for_long_is_waited_for(
    redis: RedisServer, client: Client, worker: BatchWorker
) -> None:
    worker._stop = pauses = Pauses()
    client.connection.config_set("lua-time-limit", 1)
    with redis.connect() as blocked, ThreadPoolExecutor(1) as thread:
        script = thread.submit(blocked.eval, "while true do end", 0)
        while not is_busy(client.connection):
            assert not script.done()
        try:
            for lane in Lane:
                worker._serve(lane)
        finally:
            client.connection.script_kill()
        with pytest.raises(ResponseError, match="killed"):
            script.result(timeout=60)
    assert pauses.taken_s == [PAUSE_S] * 2
    job = client.stylize(PHOTO)
    worker._serve(Lane.INTERACTIVE)
    assert worker._taken.keys() == {job}


def test_a_worker_outlives_that_the_redis_it_waits_for_becomes_a_replica(
    redis: RedisServer, connection: Redis, small_zoo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.connect() as own, making_worker(own, small_zoo) as worker:
        worker._stop = pauses = Pauses()
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(worker._serve, Lane.INTERACTIVE)
            while not connection.info("clients")["blocked_clients"]:
                assert not waiting.done()
            connection.replicaof("127.0.0.1", 1)
            waiting.result(timeout=60)
        assert pauses.taken_s[-1:] == [PAUSE_S]
        assert "UNBLOCKED" in caplog.text

        connection.replicaof("NO", "ONE")
        job = Client(connection).stylize(PHOTO)
        worker._serve(Lane.INTERACTIVE)
        assert worker._taken.keys() == {job}

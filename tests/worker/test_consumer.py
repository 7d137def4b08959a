"""The worker as a process of its own, on a real Redis."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from rq import Worker as RqWorker
from rq.job import Job as RqJob

from tests.pictures import decode, draw_photo, encode
from tests.redis_server import RedisServer
from tests.worker.newer import submit_newer
from tests.worker.running import Client, Worker, running_worker
from worker.answers import Answer
from worker.closing import Closing, read_job
from worker.consumer import BEAT_S, LOOK_S, RECOVERY_S, UNSEEN_S, BatchWorker
from worker.contract import (
    STYLIZE_TASK,
    ErrorCode,
    JobStatus,
    Lane,
    WorkerReport,
    input_key,
    looked_key,
    recovery_lock_key,
    started_channel,
    worker_key,
    workers_key,
)
from worker.errors import JobError
from worker.lanes import LEASE_S, Lanes
from worker.metrics import WorkerMetrics
from worker.pipeline import PicturePipeline

PHOTO = encode(draw_photo(60, 44))


@pytest.fixture
def idle(connection: Redis) -> BatchWorker:
    """A worker in this process that does nothing by itself."""
    return BatchWorker(connection, cast(PicturePipeline, None), "idle", WorkerMetrics())


@pytest.fixture
def worker(redis: RedisServer, small_zoo: Path) -> Iterator[Worker]:
    with running_worker(redis.url, small_zoo) as worker:
        yield worker


def test_pictures_are_painted_and_enlarged(client: Client, worker: Worker) -> None:
    jobs = [client.stylize(PHOTO), client.stylize(PHOTO, styles={"blue": 1.0}), client.upscale(PHOTO)]
    answers = [client.wait(job) for job in jobs]
    pictures = [decode(picture or b"") for _, picture in answers]
    assert [picture.size for picture in pictures] == [(60, 44), (60, 44), (120, 88)]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    for result, _ in answers:
        assert result.status is JobStatus.FINISHED
        assert set(result.timings_ms) == {"queue", "decode", "infer", "encode"}
    assert (answers[2][0].width, answers[2][0].height) == (120, 88)


def test_rq_sees_what_happened(client: Client, worker: Worker) -> None:
    good, bad = client.stylize(PHOTO), client.stylize(b"no picture")
    client.wait(good)
    client.wait(bad)
    assert worker.stop() == 0
    assert client.queue.finished_job_registry.get_job_ids() == [good]
    assert client.queue.failed_job_registry.get_job_ids() == [bad]
    assert client.queue.started_job_registry.count == 0
    assert client.queue.count == 0
    assert client.queue.intermediate_queue.get_job_ids() == []
    assert client.connection.exists(input_key(good), input_key(bad)) == 0
    assert client.connection.ttl(f"rq:job:{bad}") > 0


def test_bad_jobs_fail_alone_and_say_why(client: Client, redis: RedisServer, small_zoo: Path) -> None:
    jobs = {
        client.stylize(PHOTO[:-500]): ErrorCode.BROKEN_PICTURE,
        client.stylize(PHOTO, styles={"green": 1.0}): ErrorCode.UNKNOWN_STYLE,
        client.upscale(PHOTO, factor=8): ErrorCode.UNKNOWN_FACTOR,
        client.stylize(PHOTO, deadline=1.0): ErrorCode.DEADLINE,
        client.stylize(PHOTO): None,
    }
    expired = client.stylize(PHOTO)
    client.connection.delete(input_key(expired))
    jobs[expired] = ErrorCode.INPUT_LOST
    with running_worker(redis.url, small_zoo):  # started last: one batch holds them all
        for job, code in jobs.items():
            result, picture = client.wait(job)
            assert result.error is code
            assert (picture is None) == (code is not None)
            assert bool(result.detail) == (code is not None)


def test_both_lanes_are_served_and_the_start_of_each_job_is_told(client: Client, worker: Worker) -> None:
    heard = client.connection.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    heard.subscribe(started_channel())
    assert heard.get_message(timeout=10) is None  # the confirmation
    for lane in Lane:
        job = client.stylize(PHOTO, lane=lane)
        assert client.wait(job)[0].status is JobStatus.FINISHED
        assert heard.get_message(timeout=10)["data"].decode().split() == [job]
        assert client.queues[lane].finished_job_registry.get_job_ids() == [job]


def test_who_waits_for_an_answer_comes_before_bulk(client: Client, redis: RedisServer, small_zoo: Path) -> None:
    # Threads decode side by side: one that has a bulk picture must not be done before the last interactive one.
    large = encode(draw_photo(1500, 1200))
    bulk = [client.stylize(large, lane=Lane.BULK) for _ in range(6)]
    interactive = [client.stylize(PHOTO) for _ in range(6)]
    with running_worker(redis.url, small_zoo, max_batch="1"):
        for job in bulk:
            client.wait(job)
    assert set(client.announced[:6]) == set(interactive)


def test_a_cancelled_job_is_dropped(client: Client, redis: RedisServer, small_zoo: Path) -> None:
    cancelled, kept = client.stylize(PHOTO), client.stylize(PHOTO)
    job = client.queue.fetch_job(cancelled)
    assert job is not None
    job.cancel()
    with running_worker(redis.url, small_zoo):
        client.wait(kept)
    assert cancelled not in client.announced


def test_jobs_of_a_killed_worker_are_answered_once_by_another(
    client: Client, redis: RedisServer, small_zoo: Path
) -> None:
    large = encode(draw_photo(1500, 1200), "JPEG")
    with running_worker(redis.url, small_zoo) as first:
        jobs = [client.stylize(large) for _ in range(4)]
        client.wait_until_started(jobs)
        first.kill()
    with running_worker(redis.url, small_zoo):
        for job in jobs:
            assert client.wait(job)[0].status is JobStatus.FINISHED
    assert sorted(client.announced) == sorted(jobs)
    assert client.queue.started_job_registry.count == 0


def test_a_job_that_was_popped_but_not_started_is_not_lost(client: Client, redis: RedisServer, small_zoo: Path) -> None:
    job = client.stylize(PHOTO)
    # What a worker leaves behind that dies between pop and start.
    client.connection.lmove(client.queue.key, client.queue.intermediate_queue_key)
    with running_worker(redis.url, small_zoo):
        assert client.wait(job)[0].status is JobStatus.FINISHED


def test_a_job_that_kills_every_worker_is_given_up(client: Client, redis: RedisServer, small_zoo: Path) -> None:
    large = encode(draw_photo(1500, 1200), "JPEG")
    job = client.stylize(large, retries=1)
    killed: frozenset[str] = frozenset()
    for _ in range(2):
        with running_worker(redis.url, small_zoo) as worker:
            killed |= client.wait_until_started([job], killed)
            worker.kill()
    with running_worker(redis.url, small_zoo) as worker:
        result, _ = client.wait(job)
        assert worker.stop() == 0
    assert result.error is ErrorCode.INTERNAL
    assert client.queue.failed_job_registry.get_job_ids() == [job]


def test_a_worker_finishes_what_it_has_before_it_ends(client: Client, redis: RedisServer, small_zoo: Path) -> None:
    large = encode(draw_photo(1200, 900), "JPEG")
    with running_worker(redis.url, small_zoo, max_batch="2") as worker:
        # Far more than a worker has in hand: however late this process hears of the first one, some still wait.
        jobs = [client.stylize(large) for _ in range(60)]
        client.wait_until_started(jobs)
        assert worker.stop() == 0
    waiting = client.queue.get_job_ids()
    assert waiting
    for job in set(jobs) - set(waiting):
        assert client.wait(job)[0].status is JobStatus.FINISHED
    assert client.queue.started_job_registry.count == 0


def test_redis_may_go_and_come_back(client: Client, redis: RedisServer, worker: Worker) -> None:
    redis.stop()
    worker.wait_until_logged("Redis cannot be used")
    redis.start()
    with redis.connect() as connection:
        again = Client(connection)
        assert again.wait(again.stylize(PHOTO))[0].status is JobStatus.FINISHED


def look(*workers: BatchWorker) -> None:
    """Lets workers look for lost jobs, one after the other, as each does when it is its turn."""
    for worker in workers:
        worker.connection.delete(recovery_lock_key())
        worker._recover_lost_jobs()


def end_leases(connection: Redis) -> None:
    """All that are given by now, as when nobody can give a sign of life for longer than that."""
    for lane in Lane:
        registry = f"rq:wip:{lane.queue}"
        for both in cast("list[bytes]", connection.zrange(registry, 0, -1)):
            connection.zadd(registry, {both: 1})


def test_a_worker_does_not_take_its_own_jobs_for_lost(client: Client, idle: BatchWorker) -> None:
    job, others = client.stylize(PHOTO), client.stylize(PHOTO)
    (taken,) = idle._lanes.take(1).jobs
    idle._taken[job] = taken
    Lanes(client.connection, "dead").take(1)
    look(idle)
    end_leases(client.connection)
    look(idle)
    assert client.queue.get_job_ids() == [others]
    assert client.queue.started_job_registry.get_job_ids() == [job]


def test_no_living_worker_loses_its_jobs_because_redis_was_away(client: Client, connection: Redis) -> None:
    here, there = (BatchWorker(connection, cast(PicturePipeline, None), n, WorkerMetrics()) for n in ("here", "there"))
    job, lost = client.stylize(PHOTO), client.stylize(PHOTO, lane=Lane.BULK)
    (taken,) = here._lanes.take(1).jobs
    here._taken[job] = taken
    Lanes(connection, "dead").take(1)
    look(here, there)
    end_leases(connection)
    # As the time does that Redis is away.
    connection.delete(looked_key())
    look(there)
    here._beat_once()
    look(there, here)
    assert client.queue.started_job_registry.get_job_ids() == [job]
    assert connection.hget(RqJob.key_for(job), "retries_left") == b"3"
    assert client.queues[Lane.BULK].get_job_ids() == [lost]


def test_looks_follow_each_other_before_the_last_is_forgotten(connection: Redis, idle: BatchWorker) -> None:
    look(idle)
    assert 0 < connection.ttl(looked_key()) <= UNSEEN_S
    assert RECOVERY_S + LOOK_S < UNSEEN_S <= LEASE_S - 1 - BEAT_S


def test_jobs_of_a_killed_worker_run_again_within_ten_seconds(
    client: Client, redis: RedisServer, small_zoo: Path
) -> None:
    with running_worker(redis.url, small_zoo) as first, running_worker(redis.url, small_zoo) as second:
        job = client.stylize(encode(draw_photo(1500, 1200), "JPEG"))
        execution = client.wait_until_started([job])
        holder = cast(bytes, client.connection.hget(RqJob.key_for(job), "worker_name")).decode()
        (killed,) = [each for each in (first, second) if f"-{each.process.pid}-" in holder]
        killed.kill()
        killed_at = time.monotonic()
        client.wait_until_started([job], execution)
        assert time.monotonic() - killed_at < 10
        assert client.wait(job)[0].status is JobStatus.FINISHED


@pytest.mark.parametrize("task", [STYLIZE_TASK, "impasto.engrave"])
def test_who_asks_for_what_a_newer_version_does_is_told_at_once(client: Client, worker: Worker, task: str) -> None:
    result, picture = client.wait(submit_newer(client, PHOTO, task=task))
    assert (result.error, picture) == (ErrorCode.INTERNAL, None)
    assert "another version" in result.detail


def test_dead_workers_are_forgotten_in_both_lanes(connection: Redis, idle: BatchWorker) -> None:
    dead = BatchWorker(connection, cast(PicturePipeline, None), "dead", WorkerMetrics())
    for each in (dead, idle):
        each._register()
    connection.delete(dead.key)  # it has expired
    look(idle, idle)
    for key in ("rq:workers", *(f"rq:workers:{lane.queue}" for lane in Lane)):
        assert connection.smembers(key) == {idle.key.encode()}


def test_a_worker_may_register_again(connection: Redis, idle: BatchWorker) -> None:
    # Redis did as it was told, and its answer was lost.
    for _ in range(2):
        idle._register()
    assert [worker.name for worker in RqWorker.all(connection)] == ["idle"]
    assert connection.ttl(idle.key) > 0


def test_a_worker_that_redis_forgot_registers_again(connection: Redis, idle: BatchWorker) -> None:
    idle._beat_once()
    connection.flushdb()
    idle.heartbeat()  # it was full before it could write the rest
    idle._beat_once()
    assert [worker.birth_date for worker in RqWorker.all(connection)] == [idle.birth_date]


def test_a_redis_that_is_full_stops_nobody_who_takes_jobs(client: Client, idle: BatchWorker) -> None:
    client.connection.config_set("maxmemory", 1)
    idle._recover_lost_jobs()


def test_an_answer_that_comes_too_late_leaves_the_jobs_later_run_alone(client: Client, idle: BatchWorker) -> None:
    job = client.stylize(PHOTO)
    (first,) = idle._lanes.take(1).jobs
    client.put_back()
    (second,) = idle._lanes.take(1).jobs
    idle._taken[job] = second
    failed = Answer.failed(JobError(ErrorCode.INTERNAL, "a bug"))
    idle._forget([Closing(first, None, failed)])
    assert idle._taken == {job: second}
    idle._forget([Closing(second, None, failed)])
    assert idle._taken == {}


def test_the_log_names_jobs_that_a_fault_of_ours_failed(
    client: Client, idle: BatchWorker, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [client.stylize(PHOTO) for _ in range(2)]
    first, second = idle._lanes.take(2).jobs
    for taken, code in ((first, ErrorCode.INTERNAL), (second, ErrorCode.BROKEN_PICTURE)):
        idle._closings.put(Closing(taken, read_job(taken.data), Answer.failed(JobError(code, "It says why."))))
    idle._closings.put(None)
    idle._close_answered()
    assert f"Job {jobs[0]} gets no picture: It says why." in caplog.text
    assert jobs[1] not in caplog.text


def test_a_worker_reports_what_it_serves_until_it_ends(connection: Redis, worker: Worker) -> None:
    names: Any = connection.zrange(workers_key(), 0, -1)
    while not names:
        names = connection.zrange(workers_key(), 0, -1)
    report = WorkerReport.from_json(connection.get(worker_key(names[0].decode())) or b"")
    assert [style.name for style in report.styles] == ["blue", "red"]
    assert report.runtime == "openvino"
    assert worker.stop() == 0
    assert connection.zcard(workers_key()) == 0


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"zoo_dir": "/nowhere"}, "IMPASTO_ZOO_DIR"),
        ({"device": "cuda"}, "sees no GPU"),
        ({"precision": "float16"}, "float16"),
        ({"redis_url": "http://here"}, "IMPASTO_REDIS_URL"),
        ({"max_batch": "none"}, "IMPASTO_MAX_BATCH"),
    ],
)
def test_a_worker_that_cannot_start_says_why(setting: dict[str, str], sentence: str, small_zoo: Path) -> None:
    worker = Worker("redis://127.0.0.1:1", small_zoo, **setting)
    _, log = worker.process.communicate(timeout=60)
    assert worker.process.returncode in (1, 2)
    assert sentence in log.splitlines()[-1]
    assert "Traceback" not in log


def test_the_signal_between_pop_and_start_loses_nothing(client: Client, redis: RedisServer, small_zoo: Path) -> None:
    with running_worker(redis.url, small_zoo) as worker:
        jobs = [client.stylize(PHOTO) for _ in range(20)]
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=60) == 0
    with running_worker(redis.url, small_zoo):
        for job in jobs:
            assert client.wait(job)[0].status is JobStatus.FINISHED
    assert sorted(client.announced) == sorted(jobs)

"""Taking from both lanes, on a real Redis."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import pytest
from redis import Redis
from rq.executions import ExecutionRegistry
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.utils import utcformat

from tests.worker.running import Client
from worker.contract import Lane, alone_key
from worker.lanes import LEASE_S, PATIENCE_S, Arrival, Lanes, TakenJob


@pytest.fixture
def lanes(connection: Redis) -> Lanes:
    return Lanes(connection, "worker")


def submit(client: Client, lane: Lane, count: int) -> list[str]:
    return [client.stylize(b"", lane=lane) for _ in range(count)]


def make_old(client: Client, job_ids: list[str]) -> None:
    for job_id in job_ids:
        enqueued_at = datetime.now(UTC) - timedelta(seconds=PATIENCE_S + 1)
        client.connection.hset(RqJob.key_for(job_id), "enqueued_at", utcformat(enqueued_at))


def take(lanes: Lanes, most: int, *arrivals: Arrival) -> list[str]:
    return [job.id for job in lanes.take(most, *arrivals).jobs]


def lose(client: Client, lane: Lane, job_ids: list[str]) -> list[str]:
    """Takes jobs, and lets the worker die that has them. Returns them as they wait again."""
    taken = take(Lanes(client.connection, "dead"), len(job_ids))
    assert sorted(taken) == sorted(job_ids)
    client.put_back(lane=lane)
    return client.queues[lane].get_job_ids()[: len(job_ids)]


def lose_twice(client: Client, lane: Lane, count: int) -> list[str]:
    """Jobs of an empty lane that must run alone from then on."""
    return lose(client, lane, lose(client, lane, submit(client, lane, count)))


def test_interactive_jobs_come_first_and_bulk_fills_up(client: Client, lanes: Lanes) -> None:
    bulk, interactive = submit(client, Lane.BULK, 3), submit(client, Lane.INTERACTIVE, 2)
    assert take(lanes, 4) == [*interactive, *bulk[:2]]
    assert take(lanes, 4) == bulk[2:]
    assert take(lanes, 4) == []


def test_bulk_never_starves_and_never_crowds_out(client: Client, lanes: Lanes) -> None:
    bulk, interactive = submit(client, Lane.BULK, 8), submit(client, Lane.INTERACTIVE, 20)
    make_old(client, bulk)
    assert take(lanes, 8) == [*bulk[:2], *interactive[:6]]
    assert take(lanes, 1) == bulk[2:3]


def test_bulk_crowds_nobody_out_where_there_is_room_for_one_job_at_a_time(client: Client, lanes: Lanes) -> None:
    bulk, interactive = submit(client, Lane.BULK, 8), submit(client, Lane.INTERACTIVE, 8)
    make_old(client, bulk)
    taken = [take(lanes, 1)[0] for _ in range(8)]
    assert taken == [bulk[0], *interactive[:3], bulk[1], *interactive[3:6]]


def test_large_uploads_are_taken_a_few_at_a_time(client: Client, lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.lanes.MOST_BYTES", 1000)
    jobs = [client.stylize(b"x" * size) for size in (600, 600, 600, 5000, 1)]
    arrival = lanes.wait(Lane.INTERACTIVE, 1)
    assert arrival is not None
    assert take(lanes, 5, arrival) == jobs[:2]
    assert take(lanes, 5) == jobs[2:4]
    assert take(lanes, 5) == jobs[4:]


def test_a_redis_that_is_full_takes_no_job_from_its_worker(client: Client, lanes: Lanes) -> None:
    submit(client, Lane.INTERACTIVE, 1)
    taken = lanes.take(1).jobs
    registry = client.queue.started_job_registry
    client.connection.zadd(registry.key, {f"{taken[0].id}:{taken[0].execution.id}": 1})
    client.connection.config_set("maxmemory", 1)
    lanes.keep(taken)
    ends_at = client.connection.zscore(registry.key, f"{taken[0].id}:{taken[0].execution.id}")
    assert ends_at is not None
    assert ends_at > time.time()


def test_what_is_taken_has_started_in_rqs_eyes(client: Client, lanes: Lanes) -> None:
    for lane in Lane:
        (job_id,) = submit(client, lane, 1)
        (taken,) = lanes.take(1).jobs
        job = client.queues[lane].fetch_job(job_id)
        assert job is not None
        assert job.get_status() is RqStatus.STARTED
        assert job.worker_name == "worker"
        assert [(each.id, each.worker_name) for each in job.get_executions()] == [(taken.execution.id, "worker")]
        assert client.queues[lane].started_job_registry.get_job_ids() == [job_id]
        assert client.connection.ttl(job.key) == -1


def leases(client: Client, taken: TakenJob) -> list[float]:
    """All that says how long a job in hand is still this worker's: seconds of the clock, then seconds left."""
    execution, registry = taken.execution, client.queues[taken.lane].started_job_registry
    its_executions = ExecutionRegistry(taken.id, client.connection).key
    found: list[Any] = [
        client.connection.hget(execution.key, "last_heartbeat"),
        client.connection.zscore(registry.key, execution.composite_key),
        client.connection.zscore(its_executions, execution.id),
        client.connection.ttl(execution.key),
        client.connection.ttl(its_executions),
    ]
    return [float(value) for value in found]


def test_jobs_in_hand_are_kept_as_rq_keeps_them(client: Client, lanes: Lanes) -> None:
    submit(client, Lane.BULK, 1)
    submit(client, Lane.INTERACTIVE, 1)
    jobs = lanes.take(2).jobs
    for job in jobs:  # as if all had been long ago
        registry = client.queues[job.lane].started_job_registry
        client.connection.hset(job.execution.key, "last_heartbeat", 1)
        client.connection.zadd(registry.key, {job.execution.composite_key: 1})
        client.connection.zadd(ExecutionRegistry(job.id, client.connection).key, {job.execution.id: 1})
        client.connection.expire(job.execution.key, 1000)
        client.connection.expire(ExecutionRegistry(job.id, client.connection).key, 1000)
    lanes.keep(jobs)
    ours = [leases(client, job) for job in jobs]
    with client.connection.pipeline() as pipe:
        for job in jobs:
            job.execution.heartbeat(client.queues[job.lane].started_job_registry, LEASE_S, pipeline=pipe)
        pipe.execute()
    for job, kept in zip(jobs, ours, strict=True):
        assert kept == pytest.approx(leases(client, job), abs=2)


def test_a_job_that_was_lost_is_not_kept(client: Client, lanes: Lanes) -> None:
    (job_id,) = submit(client, Lane.INTERACTIVE, 1)
    jobs = lanes.take(1).jobs
    client.put_back()
    client.connection.delete(jobs[0].execution.key)
    lanes.keep(jobs)
    assert client.queue.started_job_registry.count == 0
    assert not client.connection.exists(jobs[0].execution.key)
    assert client.queue.get_job_ids() == [job_id]


def test_clocks_may_differ(client: Client, lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - timedelta(hours=1)

    registry = client.queue.started_job_registry
    (job_id,) = submit(client, Lane.INTERACTIVE, 1)
    monkeypatch.setattr("worker.lanes.datetime", Slow)
    monkeypatch.setattr("rq.utils.now", lambda: Slow.now(UTC))
    (job,) = lanes.take(1).jobs
    lanes.keep([job])
    monkeypatch.setattr("rq.registry.current_timestamp", lambda: int(time.time()) + 3600)
    others = Lanes(client.connection, "ahead")
    others.put_back_abandoned([])
    assert registry.get_job_and_execution_ids(cleanup=False) == [(job_id, job.execution.id)]
    client.connection.zadd(registry.key, {job.execution.composite_key: time.time() - 1})
    others.put_back_abandoned([])
    assert client.queue.get_job_ids() == [job_id]


def test_waiting_ends_with_a_job_or_with_the_time(client: Client, lanes: Lanes) -> None:
    assert lanes.wait(Lane.BULK, 1) is None
    first, second = submit(client, Lane.BULK, 2)
    arrival = lanes.wait(Lane.BULK, 1)
    assert arrival == Arrival(first, Lane.BULK)
    (waiting,) = submit(client, Lane.INTERACTIVE, 1)
    assert take(lanes, 3, arrival) == [first, waiting, second]
    assert client.queues[Lane.BULK].intermediate_queue.get_job_ids() == []


def test_what_arrived_and_was_not_taken_is_put_back_where_it_was(client: Client, lanes: Lanes) -> None:
    for lane in Lane:
        first, second = submit(client, lane, 2)
        lanes.wait(lane, 1)
        # Seen for the first time; another worker, or a later look of the same one, finds it still there.
        lanes.put_back_stuck(600)
        arrival = lanes.wait(lane, 1)
        assert arrival == Arrival(second, lane)
        other = Lanes(client.connection, "other")
        other.put_back_stuck(0)
        assert client.queues[lane].get_job_ids() == [first, second]
        assert take(lanes, 2) == [first, second]
        # Whoever waited for it comes late.
        assert take(other, 2, arrival) == []
        lanes.put_back_stuck(0)
        assert client.queues[lane].get_job_ids() == []


def test_jobs_come_with_their_uploads_and_forgotten_ones_not_at_all(client: Client, lanes: Lanes) -> None:
    kept, forgotten = client.stylize(b"photo"), client.stylize(b"photo", lane=Lane.BULK)
    client.connection.delete(RqJob.key_for(forgotten))
    assert [(job.id, job.content) for job in lanes.take(2).jobs] == [(kept, b"photo")]
    assert client.queues[Lane.BULK].get_job_ids() == []
    assert client.queues[Lane.BULK].started_job_registry.get_job_ids() == []


def test_a_job_cancelled_at_the_last_moment_is_not_taken(client: Client, lanes: Lanes) -> None:
    (job_id,) = submit(client, Lane.INTERACTIVE, 1)
    arrival = lanes.wait(Lane.INTERACTIVE, 1)
    assert arrival is not None
    client.connection.hset(RqJob.key_for(job_id), "status", RqStatus.CANCELED)
    assert take(lanes, 1, arrival) == []
    assert client.queue.intermediate_queue.get_job_ids() == []


def test_jobs_whose_worker_died_come_first(client: Client, lanes: Lanes) -> None:
    lost = lose(client, Lane.INTERACTIVE, submit(client, Lane.INTERACTIVE, 2))
    fresh = submit(client, Lane.INTERACTIVE, 2)
    assert take(lanes, 4) == [*lost, *fresh]


def test_jobs_whose_workers_died_twice_are_taken_alone(client: Client, lanes: Lanes) -> None:
    lost = lose_twice(client, Lane.INTERACTIVE, 2)
    fresh = submit(client, Lane.INTERACTIVE, 2)
    for job_id in lost:
        taken = lanes.take(4)
        assert ([job.id for job in taken.jobs], taken.alone) == ([job_id], True)
        assert taken.jobs[0].alone
    taken = lanes.take(4)
    assert ([job.id for job in taken.jobs], taken.alone) == (fresh, False)
    assert not taken.jobs[0].alone


def test_a_busy_worker_stops_in_front_of_such_a_job_and_begins_with_it(client: Client, lanes: Lanes) -> None:
    (lost,) = lose_twice(client, Lane.BULK, 1)
    interactive, bulk = submit(client, Lane.INTERACTIVE, 2), submit(client, Lane.BULK, 1)
    taken = lanes.take(2, busy=True)
    assert ([job.id for job in taken.jobs], taken.alone) == (interactive, False)
    taken = lanes.take(2, busy=True)
    assert (taken.jobs, taken.alone) == ([], True)
    arrival = lanes.wait(Lane.BULK, 1)
    assert arrival == Arrival(lost, Lane.BULK)
    taken = lanes.take(2, arrival, busy=True)
    assert (taken.jobs, taken.alone) == ([], True)
    assert client.queues[Lane.BULK].get_job_ids() == [lost, *bulk]
    assert client.queues[Lane.BULK].intermediate_queue.get_job_ids() == []
    later = submit(client, Lane.INTERACTIVE, 1)
    taken = lanes.take(2, cleared=True)
    assert ([job.id for job in taken.jobs], taken.alone) == ([lost], True)
    assert take(lanes, 2) == [*later, *bulk]


def test_the_other_workers_go_around_such_jobs(client: Client, lanes: Lanes) -> None:
    lost = lose_twice(client, Lane.INTERACTIVE, 3)
    fresh = submit(client, Lane.INTERACTIVE, 2)
    other = Lanes(client.connection, "other")
    assert take(lanes, 4) == lost[:1]
    taken = other.take(1)
    assert ([job.id for job in taken.jobs], taken.alone, taken.passed) == (fresh[:1], False, 2)
    taken = other.take(4, *filter(None, [other.wait(Lane.INTERACTIVE, 1)]))
    assert ([job.id for job in taken.jobs], taken.alone, taken.passed) == (fresh[1:], False, 2)
    assert client.queue.get_job_ids() == lost[1:]
    assert client.queue.intermediate_queue.get_job_ids() == []


def test_who_sees_to_such_jobs_does_so_as_long_as_it_needs(client: Client, lanes: Lanes) -> None:
    lose_twice(client, Lane.INTERACTIVE, 2)
    taken = lanes.take(1)
    other = Lanes(client.connection, "other")
    for jobs, clearing in ((taken.jobs, False), ([replace(taken.jobs[0], alone=False)], True)):
        client.connection.expire(alone_key(), 1)
        lanes.keep(jobs, clearing=clearing)
        assert client.connection.ttl(alone_key()) > 1
    other.keep(taken.jobs, clearing=True)
    assert other.take(2).jobs == []


def test_what_arrives_and_is_not_wanted_goes_back(client: Client, lanes: Lanes) -> None:
    first, second = submit(client, Lane.INTERACTIVE, 2)
    arrival = lanes.wait(Lane.INTERACTIVE, 1)
    assert arrival is not None
    assert lanes.take(0, arrival, busy=True).jobs == []
    assert client.queue.get_job_ids() == [first, second]
    assert client.queue.intermediate_queue.get_job_ids() == []

"""Taking from both lanes, on a real Redis."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from rq.job import Job as RqJob
from rq.utils import utcformat

from tests.redis_server import RedisServer
from tests.worker.running import Client
from worker.contract import Lane
from worker.lanes import PATIENCE_S, Lanes


@pytest.fixture
def connection() -> Iterator[Redis]:
    server = RedisServer()
    server.start()
    with server.connect() as connection:
        yield connection
    server.stop()


@pytest.fixture
def client(connection: Redis) -> Client:
    return Client(connection)


@pytest.fixture
def lanes(connection: Redis) -> Lanes:
    return Lanes(connection)


def submit(client: Client, lane: Lane, count: int) -> list[str]:
    return [client.stylize(b"", lane=lane) for _ in range(count)]


def make_old(client: Client, job_ids: list[str]) -> None:
    for job_id in job_ids:
        enqueued_at = datetime.now(UTC) - timedelta(seconds=PATIENCE_S + 1)
        client.connection.hset(RqJob.key_for(job_id), "enqueued_at", utcformat(enqueued_at))


def test_interactive_jobs_come_first_and_bulk_fills_up(client: Client, lanes: Lanes) -> None:
    bulk, interactive = submit(client, Lane.BULK, 3), submit(client, Lane.INTERACTIVE, 2)
    assert lanes.take(4) == [*interactive, *bulk[:2]]
    assert lanes.take(4) == bulk[2:]
    assert lanes.take(4) == []


def test_bulk_never_starves_and_never_crowds_out(client: Client, lanes: Lanes) -> None:
    bulk, interactive = submit(client, Lane.BULK, 8), submit(client, Lane.INTERACTIVE, 20)
    make_old(client, bulk)
    assert lanes.take(8) == [*bulk[:2], *interactive[:6]]
    assert lanes.take(1) == bulk[2:3]


def test_what_was_taken_and_not_started_is_put_back_where_it_was(client: Client, lanes: Lanes) -> None:
    for lane in Lane:
        first, second = submit(client, lane, 2)
        assert lanes.take(1) == [first]
        # Seen for the first time; another worker, or a later look of the same one, finds it still there.
        lanes.put_back_stuck(600)
        assert lanes.take(1) == [second]
        Lanes(client.connection).put_back_stuck(0)
        assert client.queues[lane].get_job_ids() == [first, second]
        assert lanes.take(2) == [first, second]
        with client.connection.pipeline() as pipe:
            for job, _ in lanes.fetch([first, second]):
                lanes.mark_started(job, pipe)
            pipe.execute()
        lanes.put_back_stuck(0)
        assert client.queues[lane].get_job_ids() == []


def test_waiting_ends_with_a_job_or_with_the_time(client: Client, lanes: Lanes) -> None:
    assert lanes.wait(Lane.BULK, 1) == []
    (job,) = submit(client, Lane.BULK, 1)
    assert lanes.wait(Lane.BULK, 1) == [job]


def test_jobs_come_with_their_uploads_and_forgotten_ones_not_at_all(client: Client, lanes: Lanes) -> None:
    kept, forgotten = client.stylize(b"photo"), client.stylize(b"photo", lane=Lane.BULK)
    taken = lanes.take(2)
    client.connection.delete(RqJob.key_for(forgotten))
    assert [(job.id, content) for job, content in lanes.fetch(taken)] == [(kept, b"photo")]
    assert client.queues[Lane.BULK].intermediate_queue.get_job_ids() == []

"""What the script writes for RQ, held beside what RQ's own method writes."""

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio as aioredis
from redis import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from service.enqueueing import FILENAME, FINGERPRINT, GRACE_S, MAX_RETRIES, SMALL_UPLOAD, Enqueuer
from service.memory import Content, Memory
from service.room import Bounds
from service.submissions import Submission
from tests.redis_server import RedisServer
from worker.contract import STYLIZE_TASK, UPSCALE_TASK, Job, Lane, PictureFormat, StyleJob, UpscaleJob, input_key

pytestmark = pytest.mark.anyio

BOUNDS = Bounds(jobs=3, bytes=10_000_000, upload_bytes=5_000_000)


def submission(lane: Lane = Lane.INTERACTIVE, task: str = STYLIZE_TASK, size: int = 5, **fields: Any) -> Submission:
    common = {
        "id": uuid.uuid4().hex,
        "reply_to": "impasto:events:here",
        "submitted_at": time.time(),
        "deadline": time.time() + 30.5,
        "format": PictureFormat.JPEG,
        "quality": 90,
        "result_ttl_s": 100,
        "pixels": 70,
        **fields,
    }
    job: Job = UpscaleJob(**common, factor=4)
    if task == STYLIZE_TASK:
        job = StyleJob(**common, styles={"candy": 0.25, "wäve": 0.75}, size=512)
    return Submission(
        task=task,
        job=job,
        content=Content(bytes(size), Memory(10**9)),
        result_bytes=1000,
        fingerprint="f" * 64,
        filename="ein Föto-candy.jpg",
        lane=lane,
        tag='"tag"',
    )


def enqueue_by_rq(redis: Redis, order: Submission) -> None:
    """The same job by RQ's own method."""
    Queue(order.lane.queue, connection=redis, serializer=JSONSerializer).enqueue_call(
        order.task,
        kwargs=order.job.to_kwargs(),
        job_id=order.job.id,
        description=order.task,
        timeout=31 + GRACE_S,
        ttl=31 + GRACE_S,
        result_ttl=order.job.result_ttl_s + GRACE_S,
        failure_ttl=order.job.result_ttl_s + GRACE_S,
        retry=Retry(max=MAX_RETRIES, enqueue_at_front=True),
        meta={FINGERPRINT: order.fingerprint, FILENAME: order.filename},
    )


def snapshot(redis: Redis, order: Submission) -> dict[str, Any]:
    """All that RQ keeps: by key its value and how long it is kept. Times are blanked."""
    job_key = f"rq:job:{order.job.id}"
    record = redis.hgetall(job_key)
    for field in (b"created_at", b"enqueued_at"):
        assert record.pop(field)
    queue = redis.lrange(f"rq:queue:{order.lane.queue}", 0, -1)
    found = {job_key: record, "queue": queue, "queues": redis.smembers("rq:queues"), "ttl": redis.ttl(job_key)}
    keys = {key.decode() for key in redis.scan_iter("rq:*")}
    return {**found, "keys": keys}


@pytest.fixture
async def enqueuer(redis_url: str) -> AsyncIterator[Enqueuer]:
    async with connected(redis_url) as connection:
        yield enqueuer_of(connection)


def connected(url: str) -> aioredis.Redis:
    return aioredis.Redis.from_url(url)


def enqueuer_of(connection: aioredis.Redis) -> Enqueuer:
    return Enqueuer(connection, BOUNDS, {lane: f"rq:queue:{lane.queue}" for lane in Lane})


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("task", [STYLIZE_TASK, UPSCALE_TASK])
async def test_redis_holds_what_rqs_own_method_writes(redis: Redis, enqueuer: Enqueuer, lane: Lane, task: str) -> None:
    order = submission(lane, task)
    await enqueuer.enqueue(order)
    ours = snapshot(redis, order)
    redis.flushall()
    enqueue_by_rq(redis, order)
    assert ours == snapshot(redis, order)


@pytest.mark.parametrize("size", [1, SMALL_UPLOAD + 1])
async def test_an_upload_lies_beside_its_job_as_long_as_that(redis: Redis, enqueuer: Enqueuer, size: int) -> None:
    order = submission(size=size)
    await enqueuer.enqueue(order)
    key = input_key(order.job.id)
    assert redis.strlen(key) == size
    assert redis.ttl(key) == redis.ttl(f"rq:job:{order.job.id}")


@pytest.mark.parametrize("size", [1, SMALL_UPLOAD + 1])
async def test_a_job_that_does_not_fit_leaves_nothing(redis: Redis, enqueuer: Enqueuer, size: int) -> None:
    for _ in range(BOUNDS.jobs):
        assert (await enqueuer.enqueue(submission())).fits
    before = sorted(redis.scan_iter("*"))
    order = submission(size=size)
    room = await enqueuer.enqueue(order)
    assert (room.fits, room.waiting) == (False, BOUNDS.jobs)
    assert sorted(redis.scan_iter("*")) == before


async def test_a_job_that_is_tried_again_is_queued_once(redis: Redis, enqueuer: Enqueuer) -> None:
    order = submission()
    first = await enqueuer.enqueue(order)
    queue = f"rq:queue:{order.lane.queue}"
    again = await enqueuer.enqueue(order)
    assert redis.llen(queue) == 1
    assert (first.fits, again.fits) == (True, True)
    # Once a worker has closed it, neither: its upload must not come back.
    redis.delete(queue, input_key(order.job.id))
    assert (await enqueuer.enqueue(order)).fits
    assert not redis.exists(queue, input_key(order.job.id))


@pytest.mark.parametrize("size", [1, SMALL_UPLOAD + 1])
async def test_a_redis_that_is_full_refuses_by_name_and_keeps_nothing(own_redis: RedisServer, size: int) -> None:
    own_redis.start()
    async with connected(own_redis.url) as connection:
        enqueuer = enqueuer_of(connection)
        # What it weighs anew would let the script write the rest.
        await enqueuer.enqueue(submission())
        with own_redis.connect() as redis:
            redis.delete(*redis.scan_iter("impasto:input:*"))
            redis.config_set("maxmemory", 1)
            before = sorted(redis.scan_iter("*"))
            with pytest.raises(OutOfMemoryError):
                await enqueuer.enqueue(submission(size=size))
            assert sorted(redis.scan_iter("*")) == before


async def test_a_replica_refuses_by_name(own_redis: RedisServer) -> None:
    own_redis.start()
    with own_redis.connect() as redis:
        redis.replicaof("127.0.0.1", "1")
    async with connected(own_redis.url) as connection:
        with pytest.raises(ReadOnlyError):
            await enqueuer_of(connection).enqueue(submission())


async def test_bytes_count_as_what_the_result_is_expected_to_be(enqueuer: Enqueuer) -> None:
    order = replace(submission(), result_bytes=9_000_000)
    assert (await enqueuer.enqueue(order)).fits
    assert not (await enqueuer.enqueue(replace(submission(), result_bytes=9_000_000))).fits
    assert (await enqueuer.ask(Lane.INTERACTIVE, 1_000_000)).fits
    assert not (await enqueuer.ask(Lane.BULK, 1_000_000)).fits

"""Pictures that are asked for again."""

import asyncio
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.service.stand_in import PAINTED, Answer, StandIn, as_in_catalog
from tests.service.support import encode, serving
from worker.contract import ErrorCode, Job, JobResult, JobStatus, cached_bytes_key

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")
PAINT = "/stylize?style=candy"
CACHE = {"cache_ttl_s": 60}


async def painted(client: httpx.AsyncClient, path: str = PAINT, **options: Any) -> httpx.Response:
    response = await client.post(path, content=JPEG, **options)
    assert response.status_code == 200
    return response


async def test_the_same_picture_again_costs_no_worker_anything(redis: Redis, redis_url: str) -> None:
    with StandIn(redis, as_in_catalog) as worker:
        async with serving(redis_url, **CACHE) as client, serving(redis_url, **CACHE) as other:
            made = await painted(client)
            again = await painted(other)
            otherwise = await painted(client, f"{PAINT}&strength=0.5")
            metrics = (await client.get("/metrics")).text
    assert worker.jobs.qsize() == 2
    assert made.content == again.content == PAINTED
    assert made.headers["etag"] == again.headers["etag"] != otherwise.headers["etag"]
    assert made.headers["content-disposition"] == again.headers["content-disposition"]
    assert [response.headers.get("cache-status") for response in (made, again, otherwise)] == [
        None,
        "impasto; hit",
        None,
    ]
    assert 'impasto_cache_total{outcome="miss"} 2.0' in metrics


async def test_without_the_setting_nothing_is_kept(redis: Redis, redis_url: str) -> None:
    with StandIn(redis, as_in_catalog) as worker:
        async with serving(redis_url) as client:
            await painted(client)
            await painted(client)
            assert "impasto_cache_total{" not in (await client.get("/metrics")).text
    assert worker.jobs.qsize() == 2
    assert not list(redis.scan_iter("impasto:cache*"))


async def test_weights_that_changed_meanwhile_and_failures_are_not_kept(redis: Redis, redis_url: str) -> None:
    def fail(job: Job, data: bytes) -> Answer:
        return JobResult(status=JobStatus.FAILED, error=ErrorCode.BROKEN_PICTURE, model="c0"), b""

    async with serving(redis_url, **CACHE) as client:
        with StandIn(redis):  # says other weights than the catalog names
            await painted(client)
        with StandIn(redis, fail):
            assert (await client.post(PAINT, content=JPEG)).status_code == 400
    assert not list(redis.scan_iter("impasto:cache*"))


async def test_the_cache_is_bounded_and_forgets_the_oldest(redis: Redis, redis_url: str) -> None:
    def answer(job: Job, data: bytes) -> Answer:
        return as_in_catalog(job, data)[0], bytes(100)

    with StandIn(redis, answer) as worker:
        async with serving(redis_url, **CACHE, cache_mb=0.001) as client:
            paths = [f"{PAINT}&quality={quality}" for quality in range(1, 16)]
            for path in paths:
                await painted(client, path)
            newest = await painted(client, paths[-1])
            oldest = await painted(client, paths[0])
    assert newest.headers["cache-status"] == "impasto; hit"
    assert "cache-status" not in oldest.headers
    assert worker.jobs.qsize() == 16
    assert len(list(redis.scan_iter("impasto:cache:*"))) == 10
    assert redis.get(cached_bytes_key()) == b"1000"


async def test_what_has_expired_leaves_its_room(redis: Redis, redis_url: str) -> None:
    with StandIn(redis, as_in_catalog):
        async with serving(redis_url, cache_ttl_s=1) as client:
            await painted(client)
            (key,) = redis.scan_iter("impasto:cache:*")
            while redis.exists(key):  # noqa: ASYNC110 - Redis tells nobody that something has expired
                await asyncio.sleep(0.05)
            await painted(client, f"{PAINT}&strength=0.5")
    assert redis.get(cached_bytes_key()) == str(len(PAINTED)).encode()


async def test_a_cache_that_cannot_be_written_harms_nobody(redis: Redis, redis_url: str) -> None:
    redis.set("impasto:cached", "of another kind")
    with StandIn(redis, as_in_catalog):
        async with serving(redis_url, **CACHE) as client:
            await painted(client)
            await painted(client)

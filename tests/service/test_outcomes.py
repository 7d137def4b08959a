from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aioredis
from redis import Redis

from service.outcomes import SMALL_PICTURE, Outcomes
from worker.contract import PICTURE_FIELD, RESULT_FIELD, ErrorCode, JobResult, JobStatus, output_key

pytestmark = pytest.mark.anyio

JOB = "0123456789abcdef" * 2
JOB_KEY = f"rq:job:{JOB}"


@pytest.fixture
async def outcomes(redis_url: str) -> AsyncIterator[Outcomes]:
    async with aioredis.Redis.from_url(redis_url) as connection:
        yield Outcomes(connection)


@pytest.mark.parametrize("size", [1, SMALL_PICTURE, SMALL_PICTURE + 1, 3_000_000])
async def test_a_picture_is_given_out_whole_and_once(redis: Redis, outcomes: Outcomes, size: int) -> None:
    result, picture = JobResult(status=JobStatus.FINISHED, width=2, height=1), bytes(range(256)) * (size // 256 + 1)
    redis.hset(output_key(JOB), mapping={RESULT_FIELD: result.to_json(), PICTURE_FIELD: picture[:size]})
    redis.hset(JOB_KEY, "status", "finished")
    taken = await outcomes.take(JOB, JOB_KEY)
    assert taken.outcome is not None
    assert (taken.outcome.result, taken.outcome.picture) == (result, picture[:size])
    assert not redis.exists(output_key(JOB))
    again = await outcomes.take(JOB, JOB_KEY)
    assert (again.outcome, again.status) == (None, b"finished")


async def test_a_failure_has_no_picture(redis: Redis, outcomes: Outcomes) -> None:
    result = JobResult(status=JobStatus.FAILED, error=ErrorCode.BROKEN_PICTURE)
    redis.hset(output_key(JOB), RESULT_FIELD, result.to_json())
    taken = await outcomes.take(JOB, JOB_KEY)
    assert taken.outcome is not None
    assert (taken.outcome.result, taken.outcome.picture) == (result, b"")


async def test_an_open_job_has_no_outcome_and_an_unknown_one_no_status(redis: Redis, outcomes: Outcomes) -> None:
    redis.hset(JOB_KEY, "status", "started")
    taken = await outcomes.take(JOB, JOB_KEY)
    assert (taken.outcome, taken.status) == (None, b"started")
    redis.delete(JOB_KEY)
    assert (await outcomes.take(JOB, JOB_KEY)).status is None

"""Takes what closed jobs came to from Redis, which forgets it by this."""

from dataclasses import dataclass

import redis.asyncio as aioredis

from service.submissions import Outcome
from worker.contract import PICTURE_FIELD, RESULT_FIELD, output_key

STATUS = "status"
"""Field of RQ's record of a job."""
SMALL_PICTURE = 256 * 1024
"""Bytes that a script gives out. Larger ones would lie about in its memory, which Redis does not count."""

TAKE = """
local output, job, result_field, picture_field, status_field = KEYS[1], KEYS[2], unpack(ARGV, 1, 3)
local result, status = redis.call('HGET', output, result_field), redis.call('HGET', job, status_field)
if redis.call('HSTRLEN', output, picture_field) > tonumber(ARGV[4]) then return {status, result} end
local picture = redis.call('HGET', output, picture_field)
redis.call('UNLINK', output)
return {status, result, picture}
"""
"""RQ's word of a job, its result and its picture; a picture that is larger stays where it is, with the result."""


@dataclass(frozen=True)
class Taken:
    """What Redis knew of a job."""

    outcome: Outcome | None
    """None while the job is open, or once it is forgotten."""
    status: bytes | None
    """RQ's, if RQ knows the job."""


class Outcomes:
    """The outcomes of closed jobs. Raises redis-py's errors as they are."""

    def __init__(self, redis: aioredis.Redis) -> None:
        self._redis = redis
        self._take = redis.register_script(TAKE)

    async def take(self, job_id: str, job_key: str) -> Taken:
        """Takes the outcome if there is one; `job_key`: of RQ's record."""
        arguments = (RESULT_FIELD, PICTURE_FIELD, STATUS, SMALL_PICTURE)
        status, text, *picture = await self._take(keys=(output_key(job_id), job_key), args=arguments)
        return Taken(Outcome.of(text, picture[0]) if picture else await self._take_large(job_id), status)

    async def _take_large(self, job_id: str) -> Outcome | None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(output_key(job_id), RESULT_FIELD, PICTURE_FIELD)
            pipe.unlink(output_key(job_id))
            (text, picture), _ = await pipe.execute()
        return Outcome.of(text, picture)

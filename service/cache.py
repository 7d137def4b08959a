"""Pictures that have been made already, for requests that ask for the same again. Off unless the operator wants it."""

import logging
import math
import time
from typing import cast

import redis.asyncio as aioredis
from redis.exceptions import RedisError
from starlette.background import BackgroundTask

from service.metrics import Metrics
from service.submissions import Outcome
from worker.contract import PICTURE_FIELD, RESULT_FIELD, JobStatus, cache_key, cached_bytes_key, cached_key

logger = logging.getLogger(__name__)

LARGEST_PART = 1 / 8
"""Part of the cache that one picture may fill."""

MAKE_ROOM = """
local index, total, entries, member = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local bytes, now, expires_at, limit = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local function forget(old)
  local tag, size = string.match(old, '^(.*):(%d+)$')
  redis.call('DECRBY', total, size)
  redis.call('ZREM', index, old)
  redis.call('UNLINK', entries .. tag)
end

if redis.call('ZSCORE', index, member) then forget(member) end
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now)) do forget(expired) end
while tonumber(redis.call('GET', total) or 0) + bytes > limit do
  local oldest = redis.call('ZRANGE', index, 0, 0)[1]
  if not oldest then redis.call('DEL', total) break end
  forget(oldest)
end
redis.call('INCRBY', total, bytes)
redis.call('ZADD', index, expires_at, member)
"""
"""Notes a picture that is about to be kept, and forgets the oldest ones where it would not fit beside them."""


class ResultCache:
    """Pictures in Redis, by the `ETag` that tells upload, parameters and weights. Without Redis nothing is kept."""

    def __init__(self, redis: aioredis.Redis, ttl_s: int, max_bytes: int, metrics: Metrics) -> None:
        """`ttl_s`: how long a picture is kept; 0 keeps none."""
        self._redis = redis
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._lookups = metrics.cache

    async def get(self, tag: str) -> Outcome | None:
        """The outcome with the picture of that tag, if it is kept."""
        if not self._ttl_s:
            return None
        try:
            kept = await self._redis.hmget(cache_key(tag), RESULT_FIELD, PICTURE_FIELD)
            outcome = Outcome.of(*cast("list[bytes | None]", kept))
        except (RedisError, OSError) as error:
            logger.debug("the cache cannot be read: %s", error)
            outcome = None
        self._lookups.labels("miss" if outcome is None else "hit").inc()
        return outcome

    def keeping(self, tag: str, expected_tag: str, outcome: Outcome) -> BackgroundTask | None:
        """What is left to do once the client has a picture of that `tag`.

        Nothing where the weights changed meanwhile, so that nobody will ask for this tag, or the picture is too large.
        """
        worth_it = tag == expected_tag and len(outcome.picture) <= self._max_bytes * LARGEST_PART
        if not self._ttl_s or not worth_it or outcome.result.status is not JobStatus.FINISHED:
            return None
        return BackgroundTask(self.put, tag, outcome)

    async def put(self, tag: str, outcome: Outcome) -> None:
        """Keeps a picture."""
        now, size = time.time(), len(outcome.picture)
        expires_at = now + self._ttl_s
        noted = (cached_key(), cached_bytes_key(), cache_key(""), f"{tag}:{size}", size, now, expires_at)
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.eval(MAKE_ROOM, 2, *noted, self._max_bytes)
                pipe.hset(
                    cache_key(tag), mapping={RESULT_FIELD: outcome.result.to_json(), PICTURE_FIELD: outcome.picture}
                )
                pipe.expireat(cache_key(tag), math.ceil(expires_at))
                await pipe.execute()
        except (RedisError, OSError) as error:
            logger.debug("a picture cannot be kept: %s", error)

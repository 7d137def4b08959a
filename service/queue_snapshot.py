"""The queue as it is at one moment, for the metrics."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import redis.asyncio as aioredis
from redis.exceptions import ResponseError

from service.rq_client import RQClient
from worker.contract import Lane

OLDEST = """
local job = redis.call('LINDEX', KEYS[1], 0)
return job and redis.call('HGET', ARGV[1] .. job, 'created_at')
"""
"""When the first job of a queue was submitted."""


@dataclass(frozen=True)
class QueueSnapshot:
    """What an operator wants to know of the queue. Numbers that Redis does not tell are NaN."""

    depth: Mapping[Lane, float]
    """Jobs that wait."""
    oldest_wait_s: Mapping[Lane, float]
    """Seconds that the first of them has waited; 0 without any."""
    running: float
    """Jobs that workers have in hand."""
    memory_bytes: float
    memory_limit_bytes: float
    """Redis's `maxmemory`; 0 without one."""

    @classmethod
    def unknown(cls) -> Self:
        """The snapshot while Redis is away."""
        nothing = dict.fromkeys(Lane, math.nan)
        return cls(nothing, nothing, math.nan, math.nan, math.nan)

    @classmethod
    async def take(
        cls, redis: aioredis.Redis, queue_keys: Mapping[Lane, str], running_keys: Mapping[Lane, str]
    ) -> Self:
        """Reads it in one round trip. Raises redis-py's errors."""
        async with redis.pipeline(transaction=False) as pipe:
            for lane in Lane:
                pipe.llen(queue_keys[lane])
                pipe.eval(OLDEST, 1, queue_keys[lane], RQClient.job_key(""))
                pipe.zcard(running_keys[lane])
            pipe.info("memory")
            # A managed Redis may keep INFO to itself; the rest is still worth having.
            *replies, memory = await pipe.execute(raise_on_error=False)
        _raise_first(replies)
        depths, oldest, running = replies[0::3], replies[1::3], replies[2::3]
        now = time.time()
        told = memory if isinstance(memory, dict) else {}
        return cls(
            depth=dict(zip(Lane, map(float, depths), strict=True)),
            oldest_wait_s={lane: _age_s(text, now) for lane, text in zip(Lane, oldest, strict=True)},
            running=float(sum(running)),
            memory_bytes=float(told.get("used_memory", math.nan)),
            memory_limit_bytes=float(told.get("maxmemory", math.nan)),
        )


def _raise_first(replies: list[Any]) -> None:
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply


def _age_s(created_at: bytes | None, now: float) -> float:
    """Seconds since RQ's time stamp, which is in UTC."""
    if created_at is None:
        return 0.0
    return max(now - datetime.fromisoformat(created_at.decode()).timestamp(), 0.0)

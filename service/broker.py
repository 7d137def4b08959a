"""Connections to Redis: how long they wait, and what their errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import redis.asyncio as aioredis
from redis import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError
from redis.retry import Retry

from service.problems import QueueFull, QueueUnavailable

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 10.0
"""Long enough for one upload to cross the network."""
MAX_CONNECTIONS = 32
"""For `commands`, and as many for `pictures`. Who finds all in use waits as long as one may take to answer."""


@dataclass(frozen=True)
class Broker:
    """The connections of one service process. Connecting happens on first use, and again after a failure."""

    commands: aioredis.Redis
    """For reads and small writes. A command whose pooled connection has died is tried once more."""
    pictures: aioredis.Redis
    """As `commands`, for what brings or takes pictures: small commands should not wait for those."""
    blocking: Redis
    """For RQ, in threads. Never retries: what RQ does need not be the same twice."""
    events: aioredis.Redis
    """For subscriptions: that of the process, and one more while clients follow jobs."""

    @classmethod
    def connect(cls, url: str) -> Self:
        """Connections to `url`: redis://, rediss:// or unix://."""
        return cls(
            commands=_pooled(url),
            pictures=_pooled(url),
            blocking=Redis.from_url(
                url,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=READ_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                retry_on_error=[ReadOnlyError],
            ),
            events=aioredis.Redis.from_url(
                url,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                socket_timeout=READ_TIMEOUT_S,
                retry=AsyncRetry(NoBackoff(), 0),
            ),
        )

    async def aclose(self) -> None:
        """Closes every connection."""
        await self.commands.aclose()
        await self.pictures.aclose()
        await self.events.aclose()
        self.blocking.close()


def _pooled(url: str) -> aioredis.Redis:
    pool = aioredis.BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=READ_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=READ_TIMEOUT_S,
        retry=AsyncRetry(NoBackoff(), 1),
        # The connection is closed first: another one may lead to who is the primary now.
        retry_on_error=[ReadOnlyError],
    )
    return aioredis.Redis.from_pool(pool)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turns the errors of Redis and its sockets into `QueueUnavailable`, or `QueueFull` at its `maxmemory`."""
    try:
        yield
    except OutOfMemoryError as error:
        raise QueueFull.of_memory() from error
    except (RedisError, OSError) as error:
        raise QueueUnavailable from error

"""The worker's connection to Redis, and what to do while Redis is away."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from worker.errors import StartError

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_S = 0.5
"""Seconds between two tries."""


class WorkerRedis(Redis):
    """Redis whose scripts fail as its commands do.

    Redis 6 says of a script that it failed, and only then why: redis-py has a plain `ResponseError` of it, from which
    nobody would see that a Redis is a replica, or full.
    """

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """See `Redis.parse_response`."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            for code, kind in _WITHIN_SCRIPTS.items():
                if type(error) is ResponseError and code in str(error):
                    raise kind(str(error)) from error
            raise


_WITHIN_SCRIPTS = {"-READONLY ": ReadOnlyError, "-OOM ": OutOfMemoryError, "-MASTERDOWN ": MasterDownError}
_PASSING = (ConnectionError, TimeoutError, ReadOnlyError, OutOfMemoryError, MasterDownError)
_PASSING_CODES = ("MISCONF ", "NOREPLICAS ", "UNBLOCKED ", "BUSY ")
"""Of a Redis whose disk is full, whose replicas are gone, that became a replica while somebody waited for a list, or
that does nothing but run somebody's script. redis-py has no classes for them.
"""


def connect(url: str) -> Redis:
    """A connection that fails at once when Redis is away; whoever uses it decides how to wait. Raises `StartError`."""
    try:
        return WorkerRedis.from_url(
            url,
            socket_connect_timeout=5,
            socket_timeout=30,
            retry=Retry(NoBackoff(), 0),
            # Not tried again, but the connection is closed: the next one may lead to who is the primary now.
            retry_on_error=[ReadOnlyError],
        )
    except ValueError:
        # Not what redis-py says: it would quote a password.
        raise StartError(
            "IMPASTO_REDIS_URL is no Redis URL, as redis://host:6379/0. In a password /, ? and # are written %2F, %3F "
            "and %23."
        ) from None


def is_unavailable(error: RedisError) -> bool:
    """Whether it passes by itself or by an operator's hand. Any other is a fault of ours and ends the worker."""
    # Not at the start alone: of a transaction, redis-py says first which command it was.
    return isinstance(error, _PASSING) or any(code in str(error) for code in _PASSING_CODES)


def retry_until_available(
    call: Callable[[], T],
    stop: threading.Event,
    patience_s: float,
    is_hopeless: Callable[[RedisError], bool] = lambda _: False,
) -> T | None:
    """Calls until Redis can be used. Once `stop` is set it gives up after `patience_s` and returns none.

    `is_hopeless` is asked of each failure; if so, it gives up as well.
    """
    give_up_at, failed = math.inf, False
    while time.monotonic() < give_up_at:
        try:
            return call()
        except RedisError as error:
            if not is_unavailable(error):
                raise
            if not failed:
                log.warning("Redis cannot be used (%s); trying again until it can.", error)
            failed = True
            if is_hopeless(error):
                return None
        if stop.is_set() and give_up_at == math.inf:
            give_up_at = time.monotonic() + patience_s
        time.sleep(PAUSE_S)
    return None


@contextmanager
def passing_over_redis_errors() -> Iterator[None]:
    """For what is sent again soon, or is sent in parting."""
    try:
        yield
    except RedisError as error:
        log.debug("Redis cannot be used (%s).", error)

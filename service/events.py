"""The one listener of a service process: it hears which jobs are closed, and wakes who waits for them."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from service.problems import QueueUnavailable
from service.tasks import end

logger = logging.getLogger(__name__)

PING_EVERY_S = 5.0
"""Seconds of silence after which the connection is tested, so that a vanished host is noticed."""
RECONNECT_S = 0.5
SUBSCRIBE_TIMEOUT_S = 2.0


class Events:
    """Subscription to one channel, kept up as long as the service runs.

    A waiter is woken when its job is announced, and also after each new subscription: announcements made while Redis
    was away are gone, so everyone must look for himself.
    """

    def __init__(self, redis: aioredis.Redis, channel: str) -> None:
        self._redis = redis
        self._channel = channel
        self._wakers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._subscribed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen. Redis need not be there yet."""
        self._task = asyncio.create_task(self._run(), name="job events")

    async def stop(self) -> None:
        """Stops listening."""
        if self._task is not None:
            await end(self._task)

    async def subscribed(self) -> None:
        """Returns once Redis has confirmed the subscription. Raises `QueueUnavailable` where that takes too long."""
        if self._subscribed.is_set():
            return
        self._hurry.set()
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                await self._subscribed.wait()
        except TimeoutError:
            raise QueueUnavailable from None

    @contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set each time one should look whether the job is closed."""
        waker = asyncio.Event()
        self._wakers[job_id].add(waker)
        try:
            yield waker
        finally:
            self._wakers[job_id].discard(waker)
            if not self._wakers[job_id]:
                del self._wakers[job_id]

    def wake_all(self) -> None:
        """Lets everyone look for himself."""
        self._wake(*self._wakers)

    async def _run(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    await self._listen(pubsub)
            except Exception as error:  # whatever it was, without a listener nobody gets an answer
                self._lost(error)
            await self._pause()

    def _lost(self, error: Exception) -> None:
        if self._subscribed.is_set():
            logger.warning("lost the queue's events: %s", error)
        self._subscribed.clear()
        self._hurry.clear()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(RECONNECT_S):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _listen(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=PING_EVERY_S)
            if message is not None:
                asked = False
                self._handle(message)
            elif asked:
                raise RedisConnectionError("no answer to a ping")
            else:
                await pubsub.ping()
                asked = True

    def _handle(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._subscribed.set()
            self.wake_all()
        elif message["type"] == "message":
            self._wake(message["data"].decode(errors="replace"))

    def _wake(self, *job_ids: str) -> None:
        for job_id in job_ids:
            for waker in self._wakers.get(job_id, ()):
                waker.set()

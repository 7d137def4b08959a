"""Clients that follow a job as it goes on: one subscription and one look at Redis serve all those of a process."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.client import PubSub

from service.jobs import JobQueue
from service.problems import TooManyStreams
from service.submissions import Progress
from service.tasks import end
from worker.contract import ErrorCode, JobResult, JobStatus, events_channel, started_channel

logger = logging.getLogger(__name__)

MAX_FOLLOWERS = 256
"""In one process."""
LOOK_EVERY_S = 2.0
"""Seconds between two looks where nothing is announced: what expires says nothing."""
MOVED_S = 0.25
"""Shortest time in seconds between two looks at the places in the queue."""
RECONNECT_S = 0.5


class Follower:
    """One client that follows one job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.is_dismissed = False
        self._latest: Progress | None = None
        self._changed = asyncio.Event()

    def dismiss(self) -> None:
        """Tells it to go: the process is about to stop, and another one can be asked."""
        self.is_dismissed = True
        self._changed.set()

    def show(self, progress: Progress) -> None:
        """Tells it how far the job is now."""
        if progress != self._latest:
            self._latest = progress
            self._changed.set()

    async def next(self, patience_s: float) -> Progress | None:
        """How far the job is, once that has changed; none where it has not within `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._changed.wait()
        except TimeoutError:
            return None
        self._changed.clear()
        return self._latest


class Followers:
    """Tells each follower what becomes of its job, whichever service process the job came through.

    Listens to workers and to all service processes as long as there is a follower. An announcement that names a
    followed job makes it look at once; others say that the queue has moved.
    """

    def __init__(self, redis: aioredis.Redis, jobs: JobQueue) -> None:
        self._redis = redis
        self._jobs = jobs
        self._followers: set[Follower] = set()
        self._listening: asyncio.Task[None] | None = None
        self._taken_places = 0
        self._looked_at = 0.0
        self._moved = False

    def dismiss(self) -> None:
        """Lets all followers go."""
        for follower in self._followers:
            follower.dismiss()

    async def stop(self) -> None:
        """Stops listening."""
        if self._listening is not None:
            await end(self._listening)
            self._listening = None

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one follower, to be held from before its job is looked up. Raises `TooManyStreams`."""
        if self._taken_places >= MAX_FOLLOWERS:
            raise TooManyStreams
        self._taken_places += 1
        try:
            yield
        finally:
            self._taken_places -= 1

    @contextmanager
    def following(self, current: Progress) -> Iterator[Follower]:
        """A follower of the job of which `current` is known."""
        follower = Follower(current.id)
        follower.show(current)
        self._followers.add(follower)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._run(), name="followers")
        else:
            self._moved = True  # something may have changed between the reading of `current` and now
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    async def _run(self) -> None:
        # It ends by itself soon after the last follower is gone, rather than being cancelled in the midst of a command.
        while self._followers:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.psubscribe(events_channel("*"))
                    await pubsub.subscribe(started_channel())
                    await self._listen(pubsub)
            except Exception as error:  # whatever it was, those who follow wait for the next look
                logger.warning("jobs cannot be followed: %s", error)
                await asyncio.sleep(RECONNECT_S)

    async def _listen(self, pubsub: PubSub) -> None:
        clock = asyncio.get_running_loop().time
        while self._followers:
            due_at = self._looked_at + (MOVED_S if self._moved else LOOK_EVERY_S)
            message = await pubsub.get_message(timeout=max(due_at - clock(), 0.001))
            if message is not None:
                self._moved = True
            if self._concerns_us(message) or clock() >= due_at:
                self._moved, self._looked_at = False, clock()
                await self._look()

    def _concerns_us(self, message: dict[str, Any] | None) -> bool:
        if message is None:
            return False
        if message["type"] not in ("message", "pmessage"):
            return True  # a new subscription: what was announced before it went unheard
        named = message["data"].decode(errors="replace").split()
        return any(follower.job_id in named for follower in self._followers)

    async def _look(self) -> None:
        followers = list(self._followers)
        job_ids = sorted({follower.job_id for follower in followers})
        found = dict(zip(job_ids, await self._jobs.progress(job_ids), strict=True))
        for follower in followers:
            follower.show(found[follower.job_id] or _lost(follower.job_id))


def _lost(job_id: str) -> Progress:
    """What is said of a job that has expired while it was followed, or that was deleted."""
    result = JobResult(status=JobStatus.FAILED, error=ErrorCode.INPUT_LOST)
    return Progress(id=job_id, status=JobStatus.FAILED, ahead=None, result=result)

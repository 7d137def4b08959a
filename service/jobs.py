"""The queue of jobs, as the routes see it."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TypeVar, cast

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.requests import ClientDisconnect

from service.broker import Broker, redis_errors
from service.enqueueing import Enqueuer
from service.events import Events
from service.outcomes import Outcomes
from service.pace import Pace
from service.problems import DeadlinePassed, JobLost, QueueFull, ServiceStopping, UnknownJob
from service.queue_snapshot import QueueSnapshot
from service.room import Bounds, Room
from service.rq_client import RQClient
from service.submissions import JobState, Outcome, Progress, Submission
from service.tasks import complete
from worker.contract import PICTURE_FIELD, Lane, events_channel, output_key

T = TypeVar("T")

THREADS = 16
JOB_ID = re.compile(r"[0-9a-f]{32}")
LOOK_S = 10.0
"""Seconds after which one looks for a job though nobody has announced its end: RQ's own tools, or a Redis that drops
what it has no room for, may have ended it without a word."""
PATIENCE_S = 2.0
"""Seconds in which Redis must have told how the queue is."""
AMPLE_S = 0.25
"""Seconds for which much room is taken to be still there, as far as the reading of a small upload goes."""
SMALL_UPLOAD = 1_000_000
"""Bytes that may be read in vain."""


class JobQueue:
    """Submits jobs, waits for them, and reads and cancels them.

    Every method raises `QueueUnavailable` while Redis does not answer, and works again once it does; where Redis has
    no memory left, those that write raise `QueueFull`.
    """

    def __init__(self, broker: Broker, bounds: Bounds) -> None:
        self.channel = events_channel(uuid.uuid4().hex)
        """Where workers announce this process's jobs: `Job.reply_to`."""
        self._redis = broker.commands
        self._pictures = broker.pictures
        self._bounds = bounds
        self._rq = RQClient(broker.blocking)
        self._enqueuer = Enqueuer(broker.pictures, bounds, self._rq.queue_keys)
        self._outcomes = Outcomes(broker.pictures)
        self._pace = Pace()
        self._ample_until = 0.0
        self._is_dismissed = False
        self._events = Events(broker.events, self.channel)
        self._limiter = CapacityLimiter(THREADS)

    def start(self) -> None:
        """Begins to listen for closed jobs. Redis need not be there yet."""
        self._events.start()

    async def stop(self) -> None:
        """Stops listening."""
        await self._events.stop()

    def dismiss(self) -> None:
        """Lets all go who wait for outcomes: the process is about to stop."""
        self._is_dismissed = True
        self._events.wake_all()

    async def ping(self) -> None:
        """Returns if a job could be submitted now."""
        with redis_errors():
            await self._redis.ping()
        await self._events.subscribed()

    async def snapshot(self) -> QueueSnapshot:
        """The queue as it is now, for the metrics; one round trip, which must be done before Prometheus gives up."""
        with redis_errors():
            async with asyncio.timeout(PATIENCE_S):
                return await QueueSnapshot.take(self._redis, self._rq.queue_keys, self._rq.running_keys)

    async def check_room(self, lane: Lane, size: int) -> None:
        """Raises `QueueFull` where no job of `size` bytes fits, so that its upload need not be read.

        `submit` has the last word: requests that check at the same moment may all be let through here.
        """
        if size <= SMALL_UPLOAD and time.monotonic() < self._ample_until:
            return
        with redis_errors():
            room = await self._enqueuer.ask(lane, size)
        self._judge(room)

    def watching(self, job_id: str) -> AbstractContextManager[asyncio.Event]:
        """What `outcome` waits with; to be entered before the job is submitted, so that nothing is missed."""
        return self._events.watching(job_id)

    async def submit(self, submission: Submission) -> None:
        """Queues a job whose announcement will be heard, and lets go of its upload. Raises `QueueFull`."""
        await self._events.subscribed()
        with redis_errors():
            room = await self._enqueuer.enqueue(submission)
        submission.content.release()
        self._judge(room)

    async def outcome(
        self, job_id: str, waker: asyncio.Event, timeout_s: float, is_client_gone: Callable[[], bool]
    ) -> Outcome:
        """The outcome of a job of this process, as soon as it is closed; Redis forgets it by this.

        `waker` is to be set as well when the client goes. Raises `DeadlinePassed`, `JobLost` if Redis has forgotten it
        before, or `ServiceStopping`, which name the job, or `ClientDisconnect`.
        """
        end = asyncio.get_running_loop().time() + timeout_s
        while True:
            if not self._is_dismissed:
                await _wait(waker, min(end, asyncio.get_running_loop().time() + LOOK_S))
            waker.clear()
            outcome = await self._take(job_id)
            if outcome is not None:
                return outcome
            if is_client_gone():
                raise ClientDisconnect
            if self._is_dismissed:
                raise ServiceStopping().of_job(job_id)
            if asyncio.get_running_loop().time() >= end:
                raise DeadlinePassed().of_job(job_id)

    async def picture_bytes(self, job_id: str) -> int:
        """Size of the picture of a finished job."""
        with redis_errors():
            return int(await self._redis.hstrlen(output_key(job_id), PICTURE_FIELD))

    async def picture(self, job_id: str) -> bytes:
        """The picture of a finished job. Raises `UnknownJob`."""
        with redis_errors():
            picture = await self._pictures.hget(output_key(job_id), PICTURE_FIELD)
        if picture is None:
            raise UnknownJob
        return cast(bytes, picture)

    async def state(self, job_id: str) -> JobState:
        """Where a job is. Raises `UnknownJob`."""
        _check_id(job_id)
        return await self._in_thread(lambda: self._rq.state(job_id))

    async def cancel(self, job_id: str) -> None:
        """Takes back a job that waits, or forgets one that is closed. Raises `UnknownJob` or `JobStarted`."""
        _check_id(job_id)
        await self._in_thread(lambda: self._rq.cancel(job_id))

    async def progress(self, job_ids: Sequence[str]) -> list[Progress | None]:
        """How far each job is, in one round trip; none for unknown ones."""
        known = [job_id for job_id in job_ids if JOB_ID.fullmatch(job_id)]
        found = await self._in_thread(lambda: self._rq.progress(known)) if known else []
        by_id = dict(zip(known, found, strict=True))
        return [by_id.get(job_id) for job_id in job_ids]

    async def _take(self, job_id: str) -> Outcome | None:
        """The outcome of a closed job, which Redis forgets by this; none while it is open. Raises `JobLost`."""
        with redis_errors():
            taken = await self._outcomes.take(job_id, self._rq.job_key(job_id))
        if taken.outcome is None and not self._rq.is_open(taken.status):
            raise JobLost().of_job(job_id)
        return taken.outcome

    def _judge(self, room: Room) -> None:
        now = time.monotonic()
        self._pace.observe(now, room.left)
        self._ample_until = now + AMPLE_S if room.is_ample(self._bounds) else 0.0
        if room.fits:
            return
        retry_after_s = self._pace.retry_after_s(room.waiting)
        if room.waiting >= self._bounds.jobs:
            raise QueueFull.of_jobs(room.waiting, retry_after_s)
        raise QueueFull.of_bytes(room.held_bytes, retry_after_s)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        # A thread cannot be called back, and who was cancelled must find what it has done: a job to withdraw, say.
        with redis_errors():
            return await complete(anyio.to_thread.run_sync(call, limiter=self._limiter))


async def _wait(waker: asyncio.Event, end: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout_at(end):
            await waker.wait()


def _check_id(job_id: str) -> None:
    if not JOB_ID.fullmatch(job_id):
        raise UnknownJob

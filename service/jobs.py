"""The queue of jobs, as the routes see it."""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from typing import TypeVar, cast

import anyio.to_thread
from anyio import CapacityLimiter

from service.broker import Broker, redis_errors
from service.events import Events
from service.pace import Pace
from service.problems import DeadlinePassed, JobLost, QueueFull, UnknownJob
from service.rq_client import RQClient
from service.submissions import JobState, Outcome, Submission
from worker.contract import PICTURE_FIELD, events_channel, input_key, output_key

T = TypeVar("T")

THREADS = 16
JOB_ID = re.compile(r"[0-9a-f]{32}")


class JobQueue:
    """Submits jobs, waits for them, and reads and cancels them.

    Every method raises `QueueUnavailable` while Redis does not answer, and works again once it does.
    """

    def __init__(self, broker: Broker, max_waiting: int) -> None:
        self.channel = events_channel(uuid.uuid4().hex)
        """Where workers announce this process's jobs: `Job.reply_to`."""
        self._redis = broker.commands
        self._rq = RQClient(broker.blocking)
        self._max_waiting = max_waiting
        self._pace = Pace()
        self._events = Events(broker.events, self.channel, lambda: self._pace.observe(time.monotonic()))
        self._limiter = CapacityLimiter(THREADS)

    def start(self) -> None:
        """Begins to listen for closed jobs. Redis need not be there yet."""
        self._events.start()

    async def stop(self) -> None:
        """Stops listening."""
        await self._events.stop()

    async def ping(self) -> None:
        """Returns if a job could be submitted now."""
        await self.depth()
        await self._events.subscribed()

    async def depth(self) -> int:
        """Number of jobs that wait."""
        with redis_errors():
            return int(await self._redis.llen(self._rq.queue_key))

    async def check_room(self) -> None:
        """Raises `QueueFull` where no more jobs may wait.

        Requests that check at the same moment may overshoot the bound, by as many as there are of them.
        """
        waiting = await self.depth()
        if waiting >= self._max_waiting:
            raise QueueFull(waiting, self._pace.retry_after_s(waiting))

    async def submit(self, submission: Submission) -> None:
        """Queues a job whose announcement will be heard. Raises `QueueFull`."""
        await self.check_room()
        await self._events.subscribed()
        await self._in_thread(lambda: self._rq.enqueue(submission))

    async def wait(self, job_id: str, timeout_s: float) -> None:
        """Returns once a job of this process is closed. Raises `DeadlinePassed`, or `JobLost` if Redis forgot it."""
        end = asyncio.get_running_loop().time() + timeout_s
        with self._events.watching(job_id) as waker:
            while not await self._is_closed(job_id):
                await _wait_until(waker, end)
                waker.clear()

    async def take(self, job_id: str) -> Outcome:
        """The outcome of a closed job, which Redis forgets by this. Raises `JobLost`."""
        with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(output_key(job_id))
                pipe.unlink(output_key(job_id), input_key(job_id))
                output, _ = await pipe.execute()
        outcome = Outcome.of(output)
        if outcome is None:
            raise JobLost
        return outcome

    async def picture(self, job_id: str) -> bytes:
        """The picture of a finished job. Raises `UnknownJob`."""
        with redis_errors():
            picture = await self._redis.hget(output_key(job_id), PICTURE_FIELD)
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

    async def _is_closed(self, job_id: str) -> bool:
        with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.exists(output_key(job_id))
                pipe.exists(self._rq.job_key(job_id))
                closed, known = await pipe.execute()
        if not closed and not known:
            raise JobLost
        return bool(closed)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        with redis_errors():
            return await anyio.to_thread.run_sync(call, limiter=self._limiter)


async def _wait_until(waker: asyncio.Event, end: float) -> None:
    try:
        async with asyncio.timeout_at(end):
            await waker.wait()
    except TimeoutError:
        raise DeadlinePassed from None


def _check_id(job_id: str) -> None:
    if not JOB_ID.fullmatch(job_id):
        raise UnknownJob

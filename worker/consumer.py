"""The worker's side of the queue: takes jobs from RQ, several at a time, and closes each with its answer.

RQ's own workers run one job at a time; this one gives every job in hand its own `Execution`, keeps them all alive from
a thread, and closes those that are answered together. `worker.lanes` and `worker.closing` write what RQ itself would
write, so its registries, retries and `rq info` stay right, and a job is answered exactly when it is closed.
"""

import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from types import FrameType

from redis import Redis
from redis.exceptions import ConnectionError, OutOfMemoryError, RedisError, TimeoutError
from rq import SimpleWorker
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker_registration import clean_worker_registry, register

from worker.answers import Answer
from worker.closing import Closing, JobCloser, read_address, read_job
from worker.connection import PAUSE_S, is_unavailable, passing_over_redis_errors, retry_until_available
from worker.contract import ErrorCode, Lane, looked_key, recovery_lock_key
from worker.errors import JobError
from worker.lanes import LEASE_S, Arrival, Lanes, TakenJob
from worker.metrics import WorkerMetrics
from worker.pipeline import PicturePipeline, Request
from worker.vitals import Pulse

log = logging.getLogger(__name__)

BEAT_S = 1.0
"""Seconds between two signs of life of the jobs in hand."""
RECOVERY_S = 2
"""Seconds between two looks, by any worker of the pool, for jobs that died with their worker."""
UNSEEN_S = 4
"""Seconds without a look after which the next one puts nothing back. Leases are whole seconds of the clock, so that one
may end five after the last beat, and that beat is a second old when Redis goes. Longer than from one look to the next,
which is RECOVERY_S and once around the loop."""
STUCK_S = 4
"""Seconds after which a job that arrived and was not taken, which takes milliseconds, is put back."""
MOST_UNSENT_BYTES = 500_000_000
"""Of pictures that wait to be written; past them no more jobs are taken: the way to Redis is slower than the device."""
REFUSALS = 3
"""How often Redis may fail to take a closing, though it answers, before that closing's picture is to blame."""
PASSED_S = 0.1
"""Seconds between two looks at a queue in which there are only jobs for another worker."""
LOOK_S = 1
"""Longest wait for a job or for room: how soon an idle worker sees that it should stop."""
CLOSED_TOGETHER = 64
CLOSED_BYTES = 8_000_000
"""Most answers that are written in one transaction, and about how many bytes of pictures."""


class BatchWorker(SimpleWorker):
    """Runs what waits in the queue in batches, in this process."""

    def __init__(
        self,
        connection: Redis,
        pipeline: PicturePipeline,
        name: str,
        metrics: WorkerMetrics,
        pulse: Pulse | None = None,
    ) -> None:
        """`pulse` beats as long as this worker keeps its jobs alive."""
        self._lanes = Lanes(connection, name)
        super().__init__(
            self._lanes.queues,
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self.birth_date = now()
        self._closer = JobCloser(connection, self._lanes, name, self.key)
        self.push_exc_handler(self._closer.answer_abandoned)  # type: ignore[no-untyped-call]
        self._pipeline = pipeline
        self._pulse = pulse or Pulse()
        self._stop = threading.Event()
        self._done = threading.Event()
        self._taking = threading.Lock()
        self._taken: dict[str, TakenJob] = {}
        """By job id."""
        self._taken_changed = threading.Condition()
        self._is_clearing = False
        """Whether nothing is taken until nothing is in hand, for the sake of a job that must run alone."""
        self._closings: queue.SimpleQueue[Closing | None] = queue.SimpleQueue()
        self._unsent_bytes = 0
        """Of pictures that are made and not in Redis yet."""
        self._failure: BaseException | None = None
        self._has_warned = False
        """Whether the log says that Redis cannot be used."""
        metrics.in_hand.set_function(lambda: len(self._taken))

    def stop_on_signals(self) -> None:
        """Takes SIGTERM and SIGINT as the wish to stop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.request_stop)

    def run(self) -> None:
        """Works until it is asked to stop; the jobs in hand are finished first. Raises what is a fault of ours."""
        retry_until_available(self._register, self._stop, LEASE_S, _is_full)
        self._pipeline.start(self._finished)
        heart, closer, bulk = (
            threading.Thread(target=self._guarded, args=(target,), name=name, daemon=True)
            for name, target in (("heart", self._beat), ("closer", self._close_answered), ("bulk", self._serve_bulk))
        )
        for thread in (heart, closer, bulk):
            thread.start()
        self._guarded(self._serve_interactive)
        bulk.join()
        self._wait_until_nothing_is_in_hand()
        self._closings.put(None)
        closer.join()
        self._done.set()
        heart.join()
        with passing_over_redis_errors():
            self.register_death()  # type: ignore[no-untyped-call]
        if self._failure is not None:
            raise self._failure
        self._pipeline.stop()

    def _register(self) -> None:
        """RQ's own `register_birth` cannot be repeated: what it wrote it takes for another worker of this name.

        A Redis that is full refuses it. That must stop nobody from taking jobs, which frees memory; a beat tries again.
        """
        with self.connection.pipeline() as pipe:
            self.heartbeat(pipeline=pipe)
            pipe.hset(self.key, mapping=self.serialize())
            register(self, pipe)
            pipe.execute()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: only sets a flag, because an exception between pop and start would lose a job."""
        self._stop.set()

    def get_heartbeat_ttl(self, job: RqJob, working_time: float = 0.0) -> int:
        """RQ's own is the job timeout plus a minute, far too long for somebody who waits."""
        return LEASE_S

    def _guarded(self, target: Callable[[], None]) -> None:
        """Runs a thread's work. A worker that lost one of its threads would keep jobs alive and never answer them."""
        try:
            target()
        except BaseException as error:
            log.critical("A fault of ours ends this worker; its jobs go elsewhere.", exc_info=True)
            self._failure = error
            self._stop.set()

    def _wait_until_nothing_is_in_hand(self) -> None:
        with self._taken_changed:
            while self._taken and self._find_failure() is None:
                self._taken_changed.wait(LOOK_S)

    def _find_failure(self) -> BaseException | None:
        self._failure = self._failure or self._pipeline.failure
        return self._failure

    def _serve_interactive(self) -> None:
        while not self._stop.is_set() and self._find_failure() is None:
            self._serve(Lane.INTERACTIVE, self._recover_lost_jobs)

    def _serve_bulk(self) -> None:
        """Redis can wait for one list alone, so that an empty bulk lane needs somebody of its own who waits there."""
        while not self._stop.is_set() and self._find_failure() is None:
            self._serve(Lane.BULK)

    def _serve(self, lane: Lane, first: Callable[[], None] = lambda: None) -> None:
        """Takes as many jobs as there is room for, of both lanes; while both are empty, waits for one of this lane."""
        try:
            first()
            self._take_or_wait(lane)
        except RedisError as error:
            if not is_unavailable(error):
                raise
            if lane is Lane.INTERACTIVE and not self._has_warned:
                log.warning("Redis cannot be used (%s); trying again until it can.", error)
                self._has_warned = True
            # A Redis that is full or read-only refuses at once.
            self._stop.wait(PAUSE_S)
        else:
            if lane is Lane.INTERACTIVE and self._has_warned:
                log.info("Redis answers again.")
                self._has_warned = False

    def _take_or_wait(self, lane: Lane) -> None:
        if not self._wait_for_room() or self._take():
            return
        if (arrival := self._lanes.wait(lane, LOOK_S)) is not None:
            self._take(arrival)

    def _wait_for_room(self) -> bool:
        with self._taken_changed:
            if not self._taken_changed.wait_for(self._may_take, LOOK_S):
                return False
        return self._pipeline.wait_for_room(LOOK_S) > 0

    def _may_take(self) -> bool:
        return not self._is_held_up() and self._unsent_bytes < MOST_UNSENT_BYTES

    def _is_held_up(self) -> bool:
        return self._is_clearing and bool(self._taken)

    def _take(self, *arrivals: Arrival) -> bool:
        """Takes what has arrived and what waits. Returns whether there was something, or no room for it any more."""
        with self._taking:
            is_held_up = self._is_held_up()
            room = max(self._pipeline.wait_for_room(0), len(arrivals)) if self._may_take() else 0
            if not room and not arrivals:
                return True
            busy = bool(self._taken)
            take = self._lanes.take(room, *arrivals, busy=busy, cleared=self._is_clearing and not busy)
            with self._taken_changed:
                self._taken |= {job.id: job for job in take.jobs}
                self._is_clearing = take.alone or is_held_up
            self._pipeline.submit(self._read(take.jobs))
        if take.passed and not take.jobs:
            # They could be waited for, and would be there at once, again and again.
            self._stop.wait(PASSED_S)
        return bool(take.jobs or take.passed)

    def _read(self, taken: Iterable[TakenJob]) -> list[Request]:
        """What is to be done. A job that cannot be read has failed."""
        requests = []
        for each in taken:
            if each.alone:
                log.warning("Job %s runs alone: workers died that had it.", each.id)
            try:
                requests.append(Request(read_job(each.data), each.content, each.alone))
            except JobError as error:
                log.exception("Job %s cannot be read.", each.id)
                self._closings.put(Closing(each, read_address(each.data), Answer.failed(error)))
        return requests

    def _finished(self, request: Request, answer: Answer) -> None:
        taken = self._taken.get(request.job.id)
        # None: the lease ran out while Redis was away, the job came back here, and its other run is answered already.
        if taken is not None:
            with self._taken_changed:
                self._unsent_bytes += len(answer.picture or b"")
            self._closings.put(Closing(taken, request.job, answer))

    def _close_answered(self) -> None:
        while closings := self._next_closings():
            self._close_or_refuse(closings)
            _log_faults(closings)
            self._forget(closings)

    def _close_or_refuse(self, closings: Sequence[Closing]) -> None:
        """Closes jobs. One whose picture Redis refuses, though it answers, is closed without: it stops nobody else."""
        refusals = count(1)

        def is_refused(error: RedisError) -> bool:
            # A Redis that is full says so, and has room again some day.
            is_cut_off = isinstance(error, ConnectionError | TimeoutError)
            return is_cut_off and self._redis_answers() and next(refusals) >= REFUSALS

        if retry_until_available(lambda: self._close(closings), self._stop, LEASE_S, is_refused):
            return
        if next(refusals) <= REFUSALS:
            log.warning("%d jobs could not be closed; another worker will run them again.", len(closings))
        elif len(closings) > 1:
            for closing in closings:
                self._close_or_refuse([closing])
        elif closings[0].answer.picture is not None:
            log.error("The result of job %s cannot be brought into Redis.", closings[0].taken.id)
            self._close_or_refuse([replace(closings[0], answer=Answer.failed(_too_large_to_be_sent()))])

    def _redis_answers(self) -> bool:
        try:
            return bool(self.connection.ping())
        except RedisError:
            return False

    def _next_closings(self) -> list[Closing]:
        """What is answered by now, at least one; none at the end."""
        closings: list[Closing] = []
        size = 0
        while len(closings) < CLOSED_TOGETHER and size < CLOSED_BYTES:
            try:
                closing = self._closings.get(block=not closings)
            except queue.Empty:
                break
            if closing is None:
                if closings:
                    self._closings.put(None)  # the end comes after these
                break
            closings.append(closing)
            size += len(closing.answer.picture or b"")
        return closings

    def _forget(self, closings: Iterable[Closing]) -> None:
        """Lets the leases of jobs run out: of closed ones, and of those that others should run again."""
        with self._taken_changed:
            for closing in closings:
                # Of a job that came back while Redis was away, the later run is still in hand.
                if self._taken.get(closing.taken.id) is closing.taken:
                    del self._taken[closing.taken.id]
                self._unsent_bytes -= len(closing.answer.picture or b"")
            self._taken_changed.notify_all()

    def _close(self, closings: Sequence[Closing]) -> bool:
        own = self._closer.close(closings, idle=len(closings) == len(self._taken))
        if own < len(closings):
            log.warning("%d answers come too late: other workers took their jobs over.", len(closings) - own)
        return True

    def _recover_lost_jobs(self) -> None:
        """Gives jobs of dead workers to live ones. One worker of the pool does it at a time.

        RQ's own lock for this outlives a killed worker by 15 minutes, so it is not used. While Redis is full nothing
        can be put back, and jobs are taken all the same: that frees memory.
        """
        with suppress(OutOfMemoryError):
            if self.connection.set(recovery_lock_key(), self.name, nx=True, ex=RECOVERY_S):
                if self._somebody_looked():
                    self._put_back_lost_jobs()
                self._lanes.put_back_stuck(STUCK_S)

    def _somebody_looked(self) -> bool:
        """Whether there was a look of late. If not, Redis may have been away: first the living must say that they live.

        If all workers were away instead, the next look finds what they lost.
        """
        return self.connection.set(looked_key(), self.name, ex=UNSEEN_S, get=True) is not None

    def _put_back_lost_jobs(self) -> None:
        # After Redis was away, the leases of what is in hand here have ended as well.
        self._keep()
        self._lanes.put_back_abandoned(self._exc_handlers)
        for lane in self._lanes.queues:
            clean_worker_registry(lane)

    def _beat(self) -> None:
        """Keeps this worker and the jobs in hand alive in RQ's eyes."""
        while not self._done.wait(BEAT_S):
            self._pulse.beat()
            with passing_over_redis_errors():
                self._beat_once()

    def _keep(self) -> None:
        with self._taken_changed:
            taken = list(self._taken.values())
        self._lanes.keep(taken, clearing=self._is_clearing)

    def _beat_once(self) -> None:
        self._keep()
        with self.connection.pipeline() as pipe:
            pipe.hexists(self.key, "birth")
            self.heartbeat(pipeline=pipe)
            is_known = pipe.execute()[0]
        if not is_known:
            # Redis came back empty, or was full before, and the heartbeat alone does not make a worker of us.
            self._register()


def _is_full(error: RedisError) -> bool:
    return isinstance(error, OutOfMemoryError)


def _log_faults(closings: Iterable[Closing]) -> None:
    """Says of which jobs the log told before: a client that got a fault of ours names the job, no more."""
    for closing in closings:
        result = closing.answer.result
        if result.error is ErrorCode.INTERNAL:
            log.error("Job %s gets no picture: %s", closing.taken.id, result.detail)


def _too_large_to_be_sent() -> JobError:
    return JobError(ErrorCode.TOO_LARGE, "The result is too large to be sent: ask for JPEG, or a smaller picture.")

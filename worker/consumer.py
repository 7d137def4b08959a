"""The worker's side of the queue: takes jobs from RQ, several at a time, and closes each with its answer.

The only file that touches RQ's internals. RQ's own workers run one job at a time; this one gives every job of a batch
its own `Execution`, keeps them all alive from a thread, and closes each in one transaction that also holds the picture
and the event the service waits for. So RQ's registries, retries and `rq info` stay right, and a job is answered
exactly when it is closed.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

from redis import Redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker
from rq.exceptions import AbandonedJobError, DequeueTimeout
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.registry import clean_registries
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import WorkerStatus
from rq.worker_registration import clean_worker_registry, register

from worker.answers import Answer, write_answer
from worker.connection import UNAVAILABLE, passing_over_redis_errors, retry_until_available
from worker.contract import (
    QUEUE,
    STYLIZE_TASK,
    UPSCALE_TASK,
    ErrorCode,
    Job,
    JobResult,
    JobStatus,
    StyleJob,
    UpscaleJob,
    input_key,
    recovery_lock_key,
)
from worker.errors import JobError
from worker.pipeline import PicturePipeline, Request

log = logging.getLogger(__name__)

T = TypeVar("T")

BEAT_S = 1.0
"""Seconds between two signs of life of the jobs in hand."""
LEASE_S = 6
"""Seconds without a sign of life after which other workers take a job over."""
RECOVERY_S = 2
"""Seconds between two looks, by any worker of the pool, for jobs that died with their worker."""
POP_TIMEOUT_S = 1
"""Longest wait inside Redis for a job: how soon an idle worker sees that it should stop."""

PUT_BACK = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) > 0 then redis.call('LPUSH', KEYS[2], ARGV[1]) end"
"""Moves a job id from one list to the front of another, unless somebody else has done so."""

TASKS: dict[str, type[Job]] = {STYLIZE_TASK: StyleJob, UPSCALE_TASK: UpscaleJob}


@dataclass
class TakenJob:
    """A job that this worker has promised to close."""

    rq_job: RqJob
    execution: Execution
    taken_at: float = field(default_factory=time.time)
    """Seconds since the epoch."""


class BatchWorker(SimpleWorker):
    """Runs what waits in the queue in batches, in this process."""

    def __init__(self, connection: Redis, pipeline: PicturePipeline, name: str, max_batch: int) -> None:
        super().__init__(
            [Queue(QUEUE, connection=connection, serializer=JSONSerializer)],
            name=name,
            connection=connection,
            serializer=JSONSerializer,
            log_job_description=False,
            exception_handlers=[self._answer_abandoned],
        )
        self._pipeline = pipeline
        self._max_batch = max_batch
        self._stop = threading.Event()
        self._done = threading.Event()
        self._stuck_since: dict[str, float] = {}
        self._taken: dict[str, TakenJob] = {}
        self._taken_lock = threading.Lock()

    def stop_on_signals(self) -> None:
        """Takes SIGTERM and SIGINT as the wish to stop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.request_stop)

    def run(self) -> None:
        """Works until it is asked to stop; the jobs in hand are finished first."""
        heart = threading.Thread(target=self._beat, name="heart", daemon=True)
        self._persist(self.register_birth)
        heart.start()
        while not self._stop.is_set():
            try:
                self._recover_lost_jobs()
                self._run_batch(self._take())
            except UNAVAILABLE as error:
                log.warning("Redis cannot be used (%s); trying again until it can.", error)
                self._persist(self._greet)
        self._done.set()
        heart.join()
        with passing_over_redis_errors():
            self.register_death()  # type: ignore[no-untyped-call]

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: only sets a flag, because an exception between pop and start would lose a job."""
        self._stop.set()

    def get_heartbeat_ttl(self, job: RqJob, working_time: float = 0.0) -> int:
        """RQ's own is the job timeout plus a minute, far too long for somebody who waits."""
        return LEASE_S

    def _greet(self) -> None:
        self.connection.ping()
        log.info("Redis answers again.")

    def _take(self) -> list[TakenJob]:
        """Blocks for the first job, takes the rest without waiting, and starts them all in one round trip."""
        try:
            first = self._pop(POP_TIMEOUT_S)
        except DequeueTimeout:
            return []
        jobs = [first] if first else []
        while jobs and len(jobs) < self._max_batch:
            following = self._pop(None)
            if following is None:
                break
            jobs.append(following)
        return self._start(jobs)

    def _pop(self, timeout_s: int | None) -> RqJob | None:
        found = Queue.dequeue_any(self.queues, timeout_s, connection=self.connection, serializer=JSONSerializer)
        return found[0] if found else None

    def _start(self, jobs: Iterable[RqJob]) -> list[TakenJob]:
        taken = []
        with self.connection.pipeline() as pipe:
            for job in jobs:
                if job.get_status(refresh=False) == RqStatus.CANCELED:
                    pipe.lrem(self.queues[0].intermediate_queue_key, 1, job.id)
                    continue
                execution = Execution.create(job, LEASE_S, pipeline=pipe, worker_name=self.name)
                job.prepare_for_execution(self.name, pipeline=pipe)
                pipe.persist(job.key)
                pipe.lrem(self.queues[0].intermediate_queue_key, 1, job.id)
                taken.append(TakenJob(job, execution))
            if taken:
                self.set_state(WorkerStatus.BUSY, pipeline=pipe)
            pipe.execute()
        with self._taken_lock:
            self._taken.update((job.execution.id, job) for job in taken)
        return taken

    def _run_batch(self, taken: list[TakenJob]) -> None:
        if not taken:
            return
        keys = [input_key(job.rq_job.id) for job in taken]
        inputs: Any = self._persist(lambda: self.connection.mget(keys))
        if inputs is None:
            self._forget(taken)
            return
        requests = []
        for job, content in zip(taken, inputs, strict=True):
            try:
                requests.append(Request(self._read(job.rq_job), content, job.taken_at))
            except JobError as error:
                self._close(job, None, Answer.failed(error))
        by_id = {job.rq_job.id: job for job in taken}
        for request, answer in self._pipeline.run(requests):
            self._close(by_id[request.job.id], request.job, answer)
        self.set_state(WorkerStatus.IDLE)

    @staticmethod
    def _read(job: RqJob) -> Job:
        try:
            return TASKS[job.func_name or ""].from_kwargs(job.kwargs)
        except Exception as error:
            log.exception("Job %s cannot be read.", job.id)
            raise JobError(ErrorCode.INTERNAL, "The job was written by another version of the service.") from error

    def _close(self, taken: TakenJob, job: Job | None, answer: Answer) -> None:
        """Writes the answer and RQ's bookkeeping in one transaction; Redis being away delays it."""
        if not self._persist(lambda: self._close_once(taken, job, answer)):
            log.warning("Job %s could not be closed; another worker will run it again.", taken.rq_job.id)
        self._forget([taken])

    def _persist(self, call: Callable[[], T]) -> T | None:
        return retry_until_available(call, self._stop, LEASE_S)

    def _forget(self, taken: Iterable[TakenJob]) -> None:
        """Lets the leases of jobs run out: of closed ones, and of those that others should run again."""
        with self._taken_lock:
            for job in taken:
                self._taken.pop(job.execution.id, None)

    def _close_once(self, taken: TakenJob, job: Job | None, answer: Answer) -> bool:
        rq_job = taken.rq_job
        rq_job.ended_at = now()
        with self.connection.pipeline() as pipe:
            if job is not None:
                write_answer(pipe, job, answer)
            if answer.result.status is JobStatus.FINISHED:
                self._record_success(rq_job, taken.execution, pipe)
            else:
                self._record_failure(rq_job, taken.execution, answer.result, pipe)
            self.cleanup_execution(rq_job, pipeline=pipe, execution=taken.execution)
            pipe.execute()
        return True

    def _record_success(self, job: RqJob, execution: Execution, pipe: Pipeline) -> None:
        result_ttl = job.get_result_ttl(self.default_result_ttl)
        job._handle_success(result_ttl, pipeline=pipe, **self._execution_facts(job, execution))
        job.cleanup(result_ttl, pipeline=pipe, remove_from_queue=False)
        self.increment_successful_job_count(pipeline=pipe)
        self.increment_total_working_time(_execution_time(job), pipe)

    def _record_failure(self, job: RqJob, execution: Execution, result: JobResult, pipe: Pipeline) -> None:
        """A failure that the worker found out itself is final: the picture would fail again."""
        job.set_status(RqStatus.FAILED, pipeline=pipe)
        job._handle_failure(f"{result.error}: {result.detail}", pipe, **self._execution_facts(job, execution))
        self.increment_failed_job_count(pipe)
        self.increment_total_working_time(_execution_time(job), pipe)

    def _execution_facts(self, job: RqJob, execution: Execution) -> dict[str, Any]:
        return {
            "worker_name": self.name,
            "execution_id": execution.id,
            "execution_started_at": execution.created_at,
            "execution_ended_at": job.ended_at,
        }

    def _answer_abandoned(self, rq_job: RqJob, error_type: type[BaseException], *_: object) -> bool:
        """RQ calls this for a job whose worker died. Without a retry left its client is told."""
        if error_type is AbandonedJobError and not rq_job.retries_left:
            error = JobError(ErrorCode.INTERNAL, "The workers that took this picture died. It may be what kills them.")
            with self.connection.pipeline() as pipe:
                write_answer(pipe, self._read(rq_job), Answer.failed(error))
                pipe.execute()
        return True

    def _recover_lost_jobs(self) -> None:
        """Gives jobs of dead workers to live ones. One worker of the pool does it at a time.

        RQ's own lock for this outlives a killed worker by 15 minutes, so it is not used.
        """
        if not self.connection.set(recovery_lock_key(), self.name, nx=True, ex=RECOVERY_S):
            return
        queue = self.queues[0]
        clean_registries(queue, self._exc_handlers)
        clean_worker_registry(queue)
        self._return_stuck_jobs(queue)

    def _return_stuck_jobs(self, queue: Queue) -> None:
        """Puts back what a worker popped and died before starting."""
        waiting = {job_id: self._stuck_since.get(job_id, time.monotonic()) for job_id in _popped_jobs(queue)}
        for job_id, since in waiting.items():
            if time.monotonic() - since > LEASE_S:
                self.connection.eval(PUT_BACK, 2, queue.intermediate_queue_key, queue.key, job_id)
        self._stuck_since = waiting

    def _beat(self) -> None:
        """Keeps this worker and the jobs in hand alive in RQ's eyes."""
        while not self._done.wait(BEAT_S):
            with passing_over_redis_errors():
                self._beat_once()

    def _beat_once(self) -> None:
        with self._taken_lock:
            taken = list(self._taken.values())
        with self.connection.pipeline() as pipe:
            self.heartbeat(pipeline=pipe)
            for job in taken:
                job.execution.heartbeat(job.rq_job.started_job_registry, LEASE_S, pipeline=pipe)
            is_unknown = pipe.execute()[0] == 1
            if is_unknown:
                # Redis came back empty, and the heartbeat alone does not make a worker of us.
                pipe.hset(self.key, mapping=self.serialize())
                register(self, pipe)
                pipe.execute()


def _execution_time(job: RqJob) -> timedelta:
    """How long a job ran that has started and ended."""
    return job.ended_at - job.started_at if job.ended_at and job.started_at else timedelta()


def _popped_jobs(queue: Queue) -> list[str]:
    """Jobs between pop and start, where they are for some milliseconds unless their worker died."""
    job_ids: list[str] = queue.intermediate_queue.get_job_ids()
    return job_ids

"""Reads and withdraws jobs, through RQ. Blocking; run it in threads."""

from collections.abc import Sequence

from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.executions import ExecutionRegistry
from rq.job import Job as RQJob
from rq.job import JobStatus as RQStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from service.enqueueing import FILENAME, FINGERPRINT
from service.outcomes import STATUS
from service.problems import JobStarted, UnknownJob
from service.submissions import JobState, Progress
from worker.contract import (
    RESULT_FIELD,
    ErrorCode,
    JobResult,
    JobStatus,
    Lane,
    PictureFormat,
    input_key,
    output_key,
)

WITHDRAW = """
local queue, job_key, input, output = unpack(KEYS)
local id, status_field, status, result_field, result, kept_s, channel = unpack(ARGV)
if redis.call('LREM', queue, 1, id) == 0 then return 0 end
redis.call('UNLINK', input)
redis.call('HSET', job_key, status_field, status)
redis.call('HSET', output, result_field, result)
redis.call('EXPIRE', output, kept_s)
redis.call('PUBLISH', channel, id)
return 1
"""
"""Takes a job out of its queue and closes it as canceled, or says that it is not there.

A script that has removed something may write although Redis is at its `maxmemory`; a transaction may not.
"""
OPEN = frozenset({RQStatus.QUEUED, RQStatus.STARTED, RQStatus.DEFERRED, RQStatus.SCHEDULED})


class RQClient:
    """Reads and withdraws jobs. Raises redis-py's errors as they are."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queues = {lane: Queue(lane.queue, connection=redis, serializer=JSONSerializer) for lane in Lane}
        self.queue_keys = {lane: str(queue.key) for lane, queue in self._queues.items()}
        """Lists: ids of the jobs that wait, first come first."""
        self.running_keys = {lane: str(queue.started_job_registry.key) for lane, queue in self._queues.items()}
        """Sorted sets: jobs that workers have in hand."""

    @staticmethod
    def job_key(job_id: str) -> str:
        """Hash: RQ's own record of a job. Expires."""
        return str(RQJob.key_for(job_id))

    @staticmethod
    def _results_key(job_id: str) -> str:
        return str(Result.get_key(job_id))  # type: ignore[no-untyped-call]

    @staticmethod
    def is_open(status: bytes | None) -> bool:
        """Whether a job of that `STATUS` will still be answered."""
        return status is not None and status.decode() in OPEN

    def progress(self, job_ids: Sequence[str]) -> list[Progress | None]:
        """How far each job is, in one round trip; none for what Redis does not know, or no longer."""
        with self._redis.pipeline(transaction=True) as pipe:
            for job_id in job_ids:
                pipe.hget(output_key(job_id), RESULT_FIELD)
                pipe.hget(self.job_key(job_id), STATUS)
                for key in self.queue_keys.values():
                    pipe.lpos(key, job_id)
            replies = pipe.execute()
        each = 2 + len(self.queue_keys)
        rows = [replies[start : start + each] for start in range(0, len(replies), each)]
        return [_progress(job_id, *row) for job_id, row in zip(job_ids, rows, strict=True)]

    def state(self, job_id: str) -> JobState:
        """Where a job is. Raises `UnknownJob`."""
        rq_job = self._fetch(job_id)
        # After RQ's record: a worker writes the output first, so what RQ calls closed has its output here.
        text = self._redis.hget(output_key(job_id), RESULT_FIELD)
        result = JobResult.from_json(text) if text else _result_without_output(rq_job)
        return JobState(
            id=job_id,
            status=result.status if result else _status(rq_job),
            task=str(rq_job.func_name),
            format=PictureFormat(rq_job.kwargs["format"]),
            fingerprint=rq_job.meta[FINGERPRINT],
            filename=rq_job.meta[FILENAME],
            ahead=None if result else self._queue_of(rq_job).get_job_position(job_id),
            result=result,
            submitted_at=rq_job.kwargs["submitted_at"],
            expires_at=rq_job.ended_at.timestamp() + rq_job.kwargs["result_ttl_s"] if rq_job.ended_at else None,
        )

    def cancel(self, job_id: str) -> None:
        """Takes back a job that waits, or forgets one that is closed. Raises `UnknownJob` or `JobStarted`."""
        rq_job = self._fetch(job_id)
        if self._withdraw(rq_job):
            return
        state = self.state(job_id)
        if state.result is None:
            raise JobStarted
        if state.status is not JobStatus.CANCELED:
            self._forget(rq_job)

    def _withdraw(self, rq_job: RQJob) -> bool:
        # Not RQ's own cancel: it keeps the id in a registry that nothing ever empties.
        job_id, kwargs = rq_job.id, rq_job.kwargs
        keys = (self._queue_of(rq_job).key, self.job_key(job_id), input_key(job_id), output_key(job_id))
        result = JobResult(status=JobStatus.CANCELED).to_json()
        fields = (STATUS, RQStatus.CANCELED.value, RESULT_FIELD, result)
        arguments = (job_id, *fields, kwargs["result_ttl_s"], kwargs["reply_to"])
        return bool(self._redis.eval(WITHDRAW, len(keys), *keys, *arguments))

    def _forget(self, rq_job: RQJob) -> None:
        # Not RQ's own delete: it fails where a worker that died has left the id of its run, which outlives the run.
        job_id, queue = rq_job.id, self._queue_of(rq_job)
        records = (self.job_key(job_id), self._results_key(job_id), ExecutionRegistry(job_id, self._redis).key)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.unlink(*records, output_key(job_id), input_key(job_id))
            for registry in (queue.finished_job_registry, queue.failed_job_registry):
                pipe.zrem(registry.key, job_id)
            pipe.execute()

    def _queue_of(self, rq_job: RQJob) -> Queue:
        return self._queues[Lane.BULK if rq_job.origin == Lane.BULK.queue else Lane.INTERACTIVE]

    def _fetch(self, job_id: str) -> RQJob:
        try:
            return RQJob.fetch(job_id, connection=self._redis, serializer=JSONSerializer)
        except NoSuchJobError:
            raise UnknownJob from None


def _status(rq_job: RQJob) -> JobStatus:
    status = rq_job.get_status(refresh=False)
    return JobStatus.STARTED if status is RQStatus.STARTED else JobStatus.QUEUED


def _progress(job_id: str, text: bytes | None, status: bytes | None, *places: int | None) -> Progress | None:
    if text:
        result = JobResult.from_json(text)
        return Progress(id=job_id, status=result.status, ahead=None, result=result)
    if not RQClient.is_open(status):
        return None
    if status == RQStatus.STARTED.value.encode():
        return Progress(id=job_id, status=JobStatus.STARTED, ahead=None, result=None)
    # One that is in no queue is on its way to a worker.
    ahead = next((place for place in places if place is not None), 0)
    return Progress(id=job_id, status=JobStatus.QUEUED, ahead=ahead, result=None)


def _result_without_output(rq_job: RQJob) -> JobResult | None:
    match rq_job.get_status(refresh=False):
        case RQStatus.FINISHED | RQStatus.CANCELED:
            raise UnknownJob  # the output has been taken, or has expired
        case RQStatus.FAILED | RQStatus.STOPPED:
            return JobResult(status=JobStatus.FAILED, error=ErrorCode.INTERNAL)  # its workers died
        case _:
            return None

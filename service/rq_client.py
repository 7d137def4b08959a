"""The queue in Redis, through RQ: the only file of the service that knows RQ. Blocking; run it in threads."""

import math
import time

from redis import Redis
from redis.client import Pipeline
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.job import Job as RQJob
from rq.job import JobStatus as RQStatus
from rq.serializers import JSONSerializer

from service.problems import JobStarted, UnknownJob
from service.submissions import JobState, Submission
from worker.contract import (
    QUEUE,
    RESULT_FIELD,
    ErrorCode,
    JobResult,
    JobStatus,
    PictureFormat,
    input_key,
    output_key,
)

GRACE_S = 60
"""Seconds that jobs and uploads outlive their deadline, so that a worker can still say that it has passed."""
MAX_RETRIES = 3
FINGERPRINT, FILENAME = "fingerprint", "filename"
"""Entries of an RQ job's meta."""


class RQClient:
    """Puts jobs into RQ's queue, and reads and withdraws them. Raises redis-py's errors as they are."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue = Queue(QUEUE, connection=redis, serializer=JSONSerializer)

    @property
    def queue_key(self) -> str:
        """List: ids of the jobs that wait."""
        return str(self._queue.key)

    @staticmethod
    def job_key(job_id: str) -> str:
        """Hash: RQ's own record of a job. Expires."""
        return str(RQJob.key_for(job_id))

    def enqueue(self, submission: Submission) -> None:
        """Stores the upload and queues the job, both or neither."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.multi()
            self._enqueue(submission, pipe)
            pipe.execute()

    def _enqueue(self, submission: Submission, pipe: Pipeline) -> None:
        job = submission.job
        left_s = max(math.ceil(job.deadline - time.time()), 1)
        pipe.set(input_key(job.id), submission.data, ex=left_s + GRACE_S)
        self._queue.enqueue_call(
            submission.task,
            kwargs=job.to_kwargs(),
            job_id=job.id,
            description=submission.task,
            timeout=left_s + GRACE_S,
            ttl=left_s + GRACE_S,
            result_ttl=job.result_ttl_s + GRACE_S,
            failure_ttl=job.result_ttl_s + GRACE_S,
            retry=Retry(max=MAX_RETRIES),
            meta={FINGERPRINT: submission.fingerprint, FILENAME: submission.filename},
            pipeline=pipe,
        )

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
            ahead=None if result else self._queue.get_job_position(job_id),
            result=result,
        )

    def cancel(self, job_id: str) -> None:
        """Takes back a job that waits, or forgets one that is closed. Raises `UnknownJob` or `JobStarted`."""
        rq_job = self._fetch(job_id)
        if self._queue.remove(job_id):
            self._withdraw(rq_job)
            return
        state = self.state(job_id)
        if state.result is None:
            raise JobStarted
        if state.status is not JobStatus.CANCELED:
            self._forget(rq_job)

    def _withdraw(self, rq_job: RQJob) -> None:
        # Not RQ's own cancel: it keeps the id in a registry that nothing ever empties.
        kwargs = rq_job.kwargs
        with self._redis.pipeline(transaction=True) as pipe:
            rq_job.set_status(RQStatus.CANCELED, pipeline=pipe)
            pipe.hset(output_key(rq_job.id), RESULT_FIELD, JobResult(status=JobStatus.CANCELED).to_json())
            pipe.expire(output_key(rq_job.id), kwargs["result_ttl_s"])
            pipe.unlink(input_key(rq_job.id))
            pipe.publish(kwargs["reply_to"], rq_job.id)
            pipe.execute()

    def _forget(self, rq_job: RQJob) -> None:
        rq_job.delete()
        self._redis.unlink(output_key(rq_job.id), input_key(rq_job.id))

    def _fetch(self, job_id: str) -> RQJob:
        try:
            return RQJob.fetch(job_id, connection=self._redis, serializer=JSONSerializer)
        except NoSuchJobError:
            raise UnknownJob from None


def _status(rq_job: RQJob) -> JobStatus:
    status = rq_job.get_status(refresh=False)
    return JobStatus.STARTED if status is RQStatus.STARTED else JobStatus.QUEUED


def _result_without_output(rq_job: RQJob) -> JobResult | None:
    match rq_job.get_status(refresh=False):
        case RQStatus.FINISHED | RQStatus.CANCELED:
            raise UnknownJob  # the output has been taken, or has expired
        case RQStatus.FAILED | RQStatus.STOPPED:
            return JobResult(status=JobStatus.FAILED, error=ErrorCode.INTERNAL)  # its workers died
        case _:
            return None

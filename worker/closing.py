"""Closes jobs: picture, result, the event that the service waits for, and RQ's bookkeeping, each job's all at once.

RQ's own methods send some twenty commands for a job that went well, and building them takes longer than painting a
small picture. A script writes the same for many jobs; tests/worker/test_closing.py holds it beside RQ's methods, which
still close jobs that failed.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq.defaults import DEFAULT_RESULT_TTL, RQ_KEY_PREFIX
from rq.exceptions import AbandonedJobError, NoSuchJobError
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat
from rq.worker import WorkerStatus

from worker.answers import Answer, write_answer
from worker.contract import (
    PICTURE_FIELD,
    RESULT_FIELD,
    STYLIZE_TASK,
    UPSCALE_TASK,
    ErrorCode,
    Job,
    JobResult,
    JobStatus,
    Lane,
    StyleJob,
    UpscaleJob,
    input_key,
    output_key,
)
from worker.errors import JobError
from worker.lanes import Lanes, TakenJob

TASKS: dict[str, type[Job]] = {STYLIZE_TASK: StyleJob, UPSCALE_TASK: UpscaleJob}

_CLOSE = """
local STARTED, FINISHED, WORKER, ITS_EXECUTIONS = {KEYS[1], KEYS[3]}, {KEYS[2], KEYS[4]}, KEYS[5], KEYS[6]
local rq, input, output, result_field, picture_field = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local worker, time, epoch, state, success = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local closed, seconds = 0, 0
for at = 11, #ARGV, 9 do
    local id, lane, execution, begun = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
    local ttl, kept_s, channel = tonumber(ARGV[at + 4]), ARGV[at + 5], ARGV[at + 6]
    local result, picture = ARGV[at + 7], ARGV[at + 8]
    local job, both = rq .. ':job:' .. id, id .. ':' .. execution
    local ours = redis.call('ZREM', STARTED[lane], both) == 1
    if ours or redis.call('EXISTS', job) == 0 then
        redis.call('HSET', output .. id, result_field, result, picture_field, picture)
        redis.call('EXPIRE', output .. id, kept_s)
        redis.call('DEL', input .. id)
        redis.call('PUBLISH', channel, id)
    end
    if ours then
        redis.call('HSET', job, 'status', 'finished', 'ended_at', time)
        redis.call('EXPIRE', job, ttl)
        redis.call('XADD', rq .. ':results:' .. id, 'MAXLEN', '~', 10, '*', 'type', success, 'worker_name', worker,
            'execution_id', execution, 'execution_started_at', begun, 'execution_ended_at', epoch)
        redis.call('EXPIRE', rq .. ':results:' .. id, ttl)
        redis.call('ZADD', FINISHED[lane], math.floor(epoch) + ttl, id)
        redis.call('DEL', rq .. ':execution:' .. both)
        redis.call('ZREM', rq .. ':executions:' .. id, execution)
        redis.call('SREM', ITS_EXECUTIONS, both)
        closed, seconds = closed + 1, seconds + epoch - begun
    end
end
redis.call('HINCRBY', WORKER, 'successful_job_count', closed)
redis.call('HINCRBYFLOAT', WORKER, 'total_working_time', seconds)
if state ~= '' then redis.call('HSET', WORKER, 'state', state) end
return closed
"""
"""Answers each job of ARGV[11...] and closes it, if this worker still holds it: a job whose lease ran out is
another's, who answers it. What Redis forgot altogether is nobody's, and its client may still be there."""


@dataclass(frozen=True)
class Closing:
    """A job and what it is answered with; a job that cannot be read is answered to nobody."""

    taken: TakenJob
    job: Job | None
    answer: Answer


def read_job(data: bytes) -> Job:
    """The job in RQ's record of what is to be done. Raises `JobError` for what the service did not write."""
    try:
        function, _, _, kwargs = json.loads(zlib.decompress(data))
        return TASKS[function].from_kwargs(kwargs)
    except Exception as error:
        raise JobError(ErrorCode.INTERNAL, "The job was written by another version of the service.") from error


class JobCloser:
    """Closes the jobs of one worker."""

    def __init__(self, connection: Redis, lanes: Lanes, worker_name: str, worker_key: str) -> None:
        """`worker_key`: where RQ keeps its record of the worker."""
        self._connection = connection
        self._worker_name = worker_name
        self._worker_key = worker_key
        self._close = connection.register_script(_CLOSE)
        self._keys: list[str] = []
        for queue in lanes.queues:
            self._keys += [queue.started_job_registry.key, queue.finished_job_registry.key]
        self._keys += [worker_key, lanes.executions_key]

    def close(self, closings: Sequence[Closing], *, idle: bool) -> int:
        """Answers jobs and closes them; `idle` says that the worker has no others. Returns how many were its own."""
        failed = [closing for closing in closings if closing.answer.result.status is not JobStatus.FINISHED]
        if failed:
            self._close_failed(failed)
        state = str(WorkerStatus.IDLE.value) if idle else ""
        return len(failed) + self._close_finished(closings, state)

    def _close_finished(self, closings: Sequence[Closing], state: str) -> int:
        ended_at, lanes = now(), list(Lane)
        arguments: list[Any] = [RQ_KEY_PREFIX, input_key(""), output_key(""), RESULT_FIELD, PICTURE_FIELD]
        arguments += [self._worker_name, utcformat(ended_at), ended_at.timestamp(), state]
        arguments.append(Result.Type.SUCCESSFUL.value)
        for closing in closings:
            taken, job, answer = closing.taken, closing.job, closing.answer
            if job is None or answer.result.status is not JobStatus.FINISHED:
                continue
            begun = taken.execution.created_at.timestamp()
            arguments += [taken.id, lanes.index(taken.lane) + 1, taken.execution.id, begun]
            arguments += [taken.result_ttl_s or DEFAULT_RESULT_TTL, job.result_ttl_s, job.reply_to]
            arguments += [answer.result.to_json(), answer.picture or b""]
        return int(self._close(keys=self._keys, args=arguments))

    def _close_failed(self, closings: Sequence[Closing]) -> None:
        with self._connection.pipeline() as pipe:
            for closing in closings:
                if closing.job is not None:
                    write_answer(pipe, closing.job, closing.answer)
                self._record_failure(closing.taken, closing.answer.result, pipe)
            pipe.hincrby(self._worker_key, "failed_job_count", len(closings))
            pipe.execute()

    def _record_failure(self, taken: TakenJob, result: JobResult, pipe: Pipeline) -> None:
        """A failure that the worker found out itself is final: the picture would fail again."""
        try:
            rq_job = RqJob.fetch(taken.id, connection=self._connection, serializer=JSONSerializer)
        except NoSuchJobError:
            return
        rq_job.ended_at = now()
        rq_job.set_status(RqStatus.FAILED, pipeline=pipe)
        rq_job._handle_failure(
            f"{result.error}: {result.detail}",
            pipe,
            worker_name=self._worker_name,
            execution_id=taken.execution.id,
            execution_started_at=taken.execution.created_at,
            execution_ended_at=rq_job.ended_at,
        )
        taken.execution.delete(rq_job, pipe)
        working_time: timedelta = rq_job.ended_at - taken.execution.created_at
        pipe.hincrbyfloat(self._worker_key, "total_working_time", working_time.total_seconds())

    def answer_abandoned(self, rq_job: RqJob, error_type: type[BaseException], *_: object) -> bool:
        """RQ calls this for a job whose worker died. Without a retry left its client is told."""
        if error_type is AbandonedJobError and not rq_job.retries_left:
            error = JobError(ErrorCode.INTERNAL, "The workers that took this picture died. It may be what kills them.")
            with self._connection.pipeline() as pipe:
                write_answer(pipe, TASKS[rq_job.func_name or ""].from_kwargs(rq_job.kwargs), Answer.failed(error))
                pipe.execute()
        return True

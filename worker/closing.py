"""Closes jobs: picture, result, the event that the service waits for, and RQ's bookkeeping, each job's all at once.

RQ's own methods send some twenty commands for a job, and building them takes longer than painting a small picture. A
script writes the same for many jobs; tests/worker/test_closing.py holds it beside RQ's methods.
"""

import base64
import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL, RQ_KEY_PREFIX
from rq.exceptions import AbandonedJobError
from rq.job import Job as RqJob
from rq.results import Result
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
    JobStatus,
    Lane,
    PictureFormat,
    StyleJob,
    UpscaleJob,
    input_key,
    output_key,
)
from worker.errors import JobError
from worker.lanes import Lanes, TakenJob

log = logging.getLogger(__name__)

TASKS: dict[str, type[Job]] = {STYLIZE_TASK: StyleJob, UPSCALE_TASK: UpscaleJob}

_CLOSE = """
local QUEUE, INTERMEDIATE = {KEYS[1], KEYS[6]}, {KEYS[2], KEYS[7]}
local STARTED, FINISHED, FAILED = {KEYS[3], KEYS[8]}, {KEYS[4], KEYS[9]}, {KEYS[5], KEYS[10]}
local WORKER, ITS_EXECUTIONS = KEYS[11], KEYS[12]
local rq, input, output, result_field, picture_field = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local worker, time, epoch, state, kept_failures_s = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local closed, failed, seconds = 0, 0, 0

local function answer(id, kept_s, channel, result, picture)
    redis.call('HSET', output .. id, result_field, result)
    if picture ~= '' then redis.call('HSET', output .. id, picture_field, picture) end
    redis.call('EXPIRE', output .. id, kept_s)
    redis.call('DEL', input .. id)
    redis.call('PUBLISH', channel, id)
end

local function close(id, registry, status, ttl, record)
    local job, results = rq .. ':job:' .. id, rq .. ':results:' .. id
    redis.call('HSET', job, 'status', status, 'ended_at', time)
    redis.call('EXPIRE', job, ttl)
    redis.call('XADD', results, 'MAXLEN', '~', 10, '*', unpack(record))
    redis.call('EXPIRE', results, ttl)
    redis.call('ZADD', registry, math.floor(epoch) + ttl, id)
end

for at = 11, #ARGV, 11 do
    local id, lane, execution, begun = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
    local ttl, kept_s, channel, result, picture = unpack(ARGV, at + 4, at + 8)
    local kind, reason = ARGV[at + 9], ARGV[at + 10]
    local both = id .. ':' .. execution
    local held = redis.call('ZREM', STARTED[lane], both) == 1
    local status = redis.call('HGET', rq .. ':job:' .. id, 'status')
    local open = status == 'queued' or status == 'started'
    local answered = redis.call('EXISTS', output .. id) == 1
    local ours = open and (held or not answered)
    if channel ~= '' and not answered and (ours or not status) then answer(id, kept_s, channel, result, picture) end
    if ours then
        if status == 'queued' then
            redis.call('LREM', QUEUE[lane], 0, id)
            redis.call('LREM', INTERMEDIATE[lane], 0, id)
        end
        local record = {'type', kind, 'worker_name', worker, 'execution_id', execution,
            'execution_started_at', begun, 'execution_ended_at', epoch}
        if reason == '' then
            close(id, FINISHED[lane], 'finished', ttl, record)
        else
            record[#record + 1], record[#record + 2] = 'exc_string', reason
            ttl = redis.call('HGET', rq .. ':job:' .. id, 'failure_ttl') or kept_failures_s
            close(id, FAILED[lane], 'failed', ttl, record)
            failed = failed + 1
        end
        closed, seconds = closed + 1, seconds + epoch - begun
    end
    redis.call('DEL', rq .. ':execution:' .. both)
    redis.call('ZREM', rq .. ':executions:' .. id, execution)
    redis.call('SREM', ITS_EXECUTIONS, both)
end
redis.call('HINCRBY', WORKER, 'successful_job_count', closed - failed)
if failed > 0 then redis.call('HINCRBY', WORKER, 'failed_job_count', failed) end
redis.call('HINCRBYFLOAT', WORKER, 'total_working_time', seconds)
if state ~= '' then redis.call('HSET', WORKER, 'state', state) end
return closed
"""
"""Answers each job of ARGV[11...] and closes it, unless that was done before: by whom it went to when the lease ran
out, or by this worker, whose first word of it Redis took and did not confirm. A job whose lease ran out and that is
open still is answered by who comes first. Where it waits again, it is taken out of its queue; where it runs again, that
run finds it closed and only tidies up after itself. What Redis forgot altogether is nobody's, and its client may still
be there."""


@dataclass(frozen=True)
class Closing:
    """A job and what it is answered with; one that does not even say to whom is answered to nobody."""

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


def read_address(data: bytes) -> Job | None:
    """As much of a job as an answer needs, for one that `read_job` refuses; the rest is made up. None: it has not that.

    Such a job is not painted without what this version does not know of it: that would be another picture than asked.
    """
    try:
        return _address(json.loads(zlib.decompress(data))[3])
    except Exception:  # whatever is wrong with it, there is nobody to be told
        return None


def _address(kwargs: Mapping[str, Any]) -> Job:
    return Job(
        id=str(kwargs["id"]),
        reply_to=str(kwargs["reply_to"]),
        result_ttl_s=int(kwargs["result_ttl_s"]),
        submitted_at=0.0,
        deadline=0.0,
        format=PictureFormat.PNG,
        quality=PictureFormat.PNG.default_quality,
    )


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
            registries = (queue.started_job_registry, queue.finished_job_registry, queue.failed_job_registry)
            self._keys += [queue.key, queue.intermediate_queue_key, *(registry.key for registry in registries)]
        self._keys += [worker_key, lanes.executions_key]

    def close(self, closings: Sequence[Closing], *, idle: bool) -> int:
        """Answers jobs and closes them; `idle` says that the worker has no others. Returns how many were its own."""
        ended_at, state = now(), str(WorkerStatus.IDLE.value) if idle else ""
        arguments: list[Any] = [RQ_KEY_PREFIX, input_key(""), output_key(""), RESULT_FIELD, PICTURE_FIELD]
        arguments += [self._worker_name, utcformat(ended_at), ended_at.timestamp(), state, DEFAULT_FAILURE_TTL]
        for closing in closings:
            arguments += _arguments(closing)
        return int(self._close(keys=self._keys, args=arguments))

    def answer_abandoned(self, rq_job: RqJob, error_type: type[BaseException], *_: object) -> bool:
        """RQ calls this for a job whose worker died. Without a retry left its client is told."""
        if error_type is AbandonedJobError and not rq_job.retries_left:
            try:
                job = _address(rq_job.kwargs)
            except Exception:  # somebody else's: it must not end who cleans up
                log.exception("Job %s, whose workers died, cannot be read.", rq_job.id)
                return True
            log.error("Job %s is given up: the workers that took it died.", rq_job.id)
            error = JobError(ErrorCode.INTERNAL, "The workers that took this picture died. It may be what kills them.")
            with self._connection.pipeline() as pipe:
                write_answer(pipe, job, Answer.failed(error))
                pipe.execute()
        return True


def _arguments(closing: Closing) -> list[Any]:
    """Of the script, for one job."""
    taken, job, result = closing.taken, closing.job, closing.answer.result
    begun = taken.execution.created_at.timestamp()
    arguments: list[Any] = [taken.id, list(Lane).index(taken.lane) + 1, taken.execution.id, begun]
    arguments.append(taken.result_ttl_s or DEFAULT_RESULT_TTL)
    arguments += [job.result_ttl_s, job.reply_to] if job else [0, ""]
    arguments += [result.to_json(), closing.answer.picture or b""]
    if result.status is JobStatus.FINISHED:
        return [*arguments, Result.Type.SUCCESSFUL.value, ""]
    # A failure that the worker found out itself is final: the picture would fail again. As RQ stores a traceback.
    reason = base64.b64encode(zlib.compress(f"{result.error}: {result.detail}".encode())).decode()
    return [*arguments, Result.Type.FAILED.value, reason]

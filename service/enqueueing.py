"""Puts jobs into RQ's queues: the upload, RQ's record and the id, each job's all at once, where there is room.

RQ's own method sends nine commands for a job, and building them, in a thread, took a sixth of the service's time for a
small picture. One script writes the same; tests/service/test_enqueueing.py holds it beside RQ's method.
"""

import math
import time
import zlib
from collections.abc import Mapping
from typing import cast

import redis.asyncio as aioredis
from rq.job import Job as RQJob
from rq.job import JobStatus as RQStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from service.room import ASK, MEASURE, MEASURE_ARGUMENTS, Bounds, Room, measure_arguments, measure_keys
from service.submissions import Submission
from worker.contract import Lane, input_key

GRACE_S = 60
"""Seconds that jobs and uploads outlive their deadline, so that a worker can still say that it has passed."""
MAX_RETRIES = 3
FINGERPRINT, FILENAME = "fingerprint", "filename"
"""Entries of an RQ job's meta."""
SMALL_UPLOAD = 256 * 1024
"""Bytes that go into the script itself. Larger ones would lie about in its memory, which Redis does not count."""

ENQUEUE = f"""
local input, job, queues = unpack(KEYS, {MEASURE_ARGUMENTS + 1}, {MEASURE_ARGUMENTS + 3})
local id, content, ttl = unpack(ARGV, {MEASURE_ARGUMENTS + 1}, {MEASURE_ARGUMENTS + 3})
local is_known = redis.call('EXISTS', job) == 1

-- Before anything else is written: after that a script is let write though Redis is at its limit.
if content ~= '' and not is_known then
  local stored = redis.pcall('SET', input, content, 'EX', ttl)
  -- Before Redis 7 the error does not begin with its name.
  if stored.err then return redis.error_reply(string.match(stored.err, '%u%u%u+ .*') or stored.err) end
end
{MEASURE}
if is_known then
  fits = true
elseif fits then
  redis.call('INCRBY', held_bytes, bytes)
  redis.call('HSET', held, id, bytes)
  redis.call('INCR', admitted)
  redis.call('SADD', queues, queue)
  redis.call('HSET', job, unpack(ARGV, {MEASURE_ARGUMENTS + 4}))
  redis.call('EXPIRE', job, ttl)
  redis.call('RPUSH', queue, id)
else
  redis.call('UNLINK', input)
end
return room()
"""
"""Queues a job if it fits. One that is known already is not queued again: it may be tried again after a lost reply."""


class Enqueuer:
    """Asks for room in the queue and puts jobs into it. Raises redis-py's errors as they are."""

    def __init__(self, redis: aioredis.Redis, bounds: Bounds, queue_keys: Mapping[Lane, str]) -> None:
        """`queue_keys`: RQ's lists of ids."""
        self._redis = redis
        self._bounds = bounds
        self._queue_keys = queue_keys
        self._ask = redis.register_script(ASK)
        self._enqueue = redis.register_script(ENQUEUE)

    async def ask(self, lane: Lane, size: int) -> Room:
        """The room in that lane, for a job of `size` bytes."""
        keys = measure_keys(lane, self._queue_keys)
        reply = await self._ask(keys=keys, args=measure_arguments(self._bounds, lane, size))
        return Room.of(cast("list[int]", reply))

    async def enqueue(self, submission: Submission) -> Room:
        """Stores the upload and queues the job, both or, where they do not fit, neither."""
        job, lane, content = submission.job, submission.lane, submission.content.data
        ttl_s = max(math.ceil(job.deadline - time.time()), 1) + GRACE_S
        if len(content) > SMALL_UPLOAD:
            await self._redis.set(input_key(job.id), content, ex=ttl_s)
            content = b""
        keys = measure_keys(lane, self._queue_keys)
        keys += [input_key(job.id), str(RQJob.key_for(job.id)), Queue.redis_queues_keys]
        arguments = measure_arguments(self._bounds, lane, self._bounds.weigh(submission))
        record = [part for field in rq_record(submission, ttl_s).items() for part in field]
        reply = await self._enqueue(keys=keys, args=[*arguments, job.id, content, ttl_s, *record])
        return Room.of(cast("list[int]", reply))


def rq_record(submission: Submission, ttl_s: int) -> dict[str, str | int | bytes]:
    """What RQ keeps of a queued job, as `rq.job.Job.to_dict` has it."""
    job, created_at = submission.job, utcformat(now())
    call = JSONSerializer.dumps((submission.task, None, (), job.to_kwargs()))  # type: ignore[no-untyped-call]
    notes = {FINGERPRINT: submission.fingerprint, FILENAME: submission.filename}
    meta = JSONSerializer.dumps(notes)  # type: ignore[no-untyped-call]
    unset = ("success_callback_name", "failure_callback_name", "stopped_callback_name", "group_id")
    not_yet = ("started_at", "ended_at", "last_heartbeat", "worker_name")
    return {
        **dict.fromkeys((*unset, *not_yet), ""),
        "created_at": created_at,
        "enqueued_at": created_at,
        "data": zlib.compress(call),
        "meta": meta,
        "origin": submission.lane.queue,
        "description": submission.task,
        "status": RQStatus.QUEUED.value,
        "timeout": ttl_s,
        "ttl": ttl_s,
        "result_ttl": job.result_ttl_s + GRACE_S,
        "failure_ttl": job.result_ttl_s + GRACE_S,
        "retries_left": MAX_RETRIES,
        "retry_intervals": "[0]",
        "enqueue_at_front_on_retry": 1,
    }

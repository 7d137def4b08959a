"""Takes jobs from the queue's two lanes so that a worker that dies at any moment loses none.

Every id goes through RQ's intermediate list of its queue, in which it stays until the job is started.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.registry import FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from worker.contract import Lane, input_key, stuck_key

PATIENCE_S = 15
"""Seconds after which a bulk job no longer waits for those that came after it in the interactive lane."""
PROMOTED_SHARE = 4
"""One job in so many may be such a one: bulk never starves, and never crowds out who waits for an answer."""

_TAKE = """
local taken, left = {}, tonumber(ARGV[1])
local function take(from, to, most)
    while most > 0 do
        local id = redis.call('LMOVE', from, to, 'LEFT', 'RIGHT')
        if not id then return end
        taken[#taken + 1] = id
        most, left = most - 1, left - 1
    end
end
local promoted = math.ceil(left / tonumber(ARGV[3]))
while promoted > 0 do
    local head = redis.call('LINDEX', KEYS[3], 0)
    if not head or (redis.call('HGET', ARGV[4] .. head, 'enqueued_at') or '') > ARGV[2] then break end
    take(KEYS[3], KEYS[4], 1)
    promoted = promoted - 1
end
take(KEYS[1], KEYS[2], left)
take(KEYS[3], KEYS[4], left)
return taken
"""
"""Moves up to ARGV[1] ids: bulk jobs queued before ARGV[2] first, then the interactive lane, then bulk."""

_PUT_BACK = """
local now, there, ids = tonumber(redis.call('TIME')[1]), {}, redis.call('LRANGE', KEYS[1], 0, -1)
for index = #ids, 1, -1 do
    local id = ids[index]
    there[id] = true
    redis.call('ZADD', KEYS[3], 'NX', now, id)
    if now - redis.call('ZSCORE', KEYS[3], id) >= tonumber(ARGV[1]) then
        redis.call('LREM', KEYS[1], 1, id)
        redis.call('LPUSH', KEYS[2], id)
    end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    if not there[id] then redis.call('ZREM', KEYS[3], id) end
end
"""
"""Moves ids that were seen in the intermediate list ARGV[1] seconds ago, by any worker, to the front of the queue,
in the order in which they were there."""


@dataclass(frozen=True)
class Registries:
    """Where RQ notes a queue's jobs."""

    started: StartedJobRegistry
    finished: FinishedJobRegistry

    @classmethod
    def of(cls, queue: Queue) -> Self:
        """Those of a queue."""
        return cls(queue.started_job_registry, queue.finished_job_registry)


class LaneJob(RqJob):
    """RQ's job, without what costs RQ much of the time to close it: new registries, and writing all of its record."""

    registries: Registries

    @property
    def started_job_registry(self) -> StartedJobRegistry:
        """RQ makes a new one each time it is asked for."""
        return self.registries.started

    @property
    def finished_job_registry(self) -> FinishedJobRegistry:
        """As above."""
        return self.registries.finished

    def save(self, pipeline: Pipeline | None = None, include_meta: bool = True, include_result: bool = True) -> None:
        """What a worker changes. RQ compresses and writes everything else again, too."""
        times = {"started_at": self.started_at, "ended_at": self.ended_at, "last_heartbeat": self.last_heartbeat}
        written: dict[Any, Any] = {name: utcformat(time) for name, time in times.items() if time is not None}
        connection = self.connection if pipeline is None else pipeline
        connection.hset(self.key, mapping={**written, "worker_name": self.worker_name or ""})


class Lanes:
    """Both queues, as a worker takes from them. Threads may use it at the same time."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection
        self._queues = {lane: Queue(lane.queue, connection=connection, serializer=JSONSerializer) for lane in Lane}
        self._registries = {lane: Registries.of(queue) for lane, queue in self._queues.items()}
        self._take = connection.register_script(_TAKE)
        self._put_back = connection.register_script(_PUT_BACK)

    @property
    def queues(self) -> list[Queue]:
        """RQ's, the interactive one first."""
        return list(self._queues.values())

    def take(self, count: int) -> list[str]:
        """Ids of up to `count` jobs that wait, without waiting for any."""
        keys = [key for queue in self.queues for key in (queue.key, queue.intermediate_queue_key)]
        oldest = utcformat(datetime.now(UTC) - timedelta(seconds=PATIENCE_S))
        arguments: list[str | int] = [count, oldest, PROMOTED_SHARE, str(RqJob.key_for(""))]
        return [job_id.decode() for job_id in cast("list[bytes]", self._take(keys=keys, args=arguments))]

    def wait(self, lane: Lane, timeout_s: int) -> list[str]:
        """Id of the next job of an empty lane; none if it stays empty."""
        queue = self._queues[lane]
        job_id: Any = self._connection.blmove(queue.key, queue.intermediate_queue_key, timeout_s)
        return [job_id.decode()] if job_id else []

    def fetch(self, job_ids: Sequence[str]) -> list[tuple[LaneJob, bytes | None]]:
        """Jobs and their uploads, in one round trip. What RQ has forgotten is passed over for good."""
        with self._connection.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(RqJob.key_for(job_id))
                pipe.get(input_key(job_id))
            replies = pipe.execute()
        found, forgotten = [], []
        for job_id, record, content in zip(job_ids, replies[::2], replies[1::2], strict=True):
            job = self._restore(job_id, record)
            if job is None:
                forgotten.append(job_id)
            else:
                found.append((job, content))
        self._drop(forgotten)
        return found

    def mark_started(self, job: RqJob, pipe: Pipeline) -> None:
        """Takes a job out of the intermediate list, as somebody answers for it from now on."""
        pipe.lrem(self._queues[_lane_of(job)].intermediate_queue_key, 1, job.id)

    def put_back_stuck(self, patience_s: int) -> None:
        """Puts back what workers took and died before starting. To be called again and again, by any worker."""
        for lane, queue in self._queues.items():
            keys = [queue.intermediate_queue_key, queue.key, stuck_key(lane)]
            self._put_back(keys=keys, args=[patience_s])

    def _restore(self, job_id: str, record: Mapping[bytes, bytes]) -> LaneJob | None:
        job = LaneJob(id=job_id, connection=self._connection, serializer=JSONSerializer)
        try:
            job.restore(record)
        except NoSuchJobError:
            return None
        job.registries = self._registries[_lane_of(job)]
        return job

    def _drop(self, job_ids: Sequence[str]) -> None:
        if not job_ids:
            return
        with self._connection.pipeline() as pipe:
            for queue in self.queues:
                for job_id in job_ids:
                    pipe.lrem(queue.intermediate_queue_key, 1, job_id)
            pipe.execute()


def _lane_of(job: RqJob) -> Lane:
    return Lane.BULK if job.origin == Lane.BULK.queue else Lane.INTERACTIVE

"""Takes jobs from the queue's two lanes so that a worker that dies at any moment loses none.

One script pops a job and writes all that RQ writes when a job starts: there is no moment between. Only an id that was
waited for goes through RQ's intermediate list of its queue, as Redis can wait for a list alone. Leases are times of
Redis's clock: those of the workers' machines may differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

from redis import Redis
from rq import Queue
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import Execution
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from worker.contract import Lane, alone_key, input_key, output_key, started_channel, stuck_key

PATIENCE_S = 15
"""Seconds after which a bulk job no longer waits for those that came after it in the interactive lane."""
PROMOTED_SHARE = 4
"""One job in so many may be such a one: bulk never starves, and never crowds out who waits for an answer."""
MOST_BYTES = 64_000_000
"""Of uploads that are taken together, give or take the last: a take should be over long before its leases end."""
LEASE_S = 6
"""Seconds without a sign of life after which other workers take a job over."""
EXECUTIONS_GRACE_S = 60
"""RQ keeps its notes of a job's executions for so much longer than the executions themselves."""
KEPT_TOGETHER = 500
"""Jobs that are kept alive in one call: Redis does nothing else meanwhile."""

_TAKE = """
local QUEUE, INTERMEDIATE, STARTED = {KEYS[1], KEYS[4]}, {KEYS[2], KEYS[5]}, {KEYS[3], KEYS[6]}
local WORKER, ITS_EXECUTIONS, BEGUN_CHANNEL, ALONE = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local rq, input, output, worker, prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time, now, lease, grace = ARGV[6], tonumber(redis.call('TIME')[1]), tonumber(ARGV[7]), tonumber(ARGV[8])
local left, promoted_before, promotable = tonumber(ARGV[9]), ARGV[10], tonumber(ARGV[11])
local busy, cleared, most_bytes = ARGV[12] == '1', ARGV[13] == '1', tonumber(ARGV[14])
local alone, passed, bytes, promoted = false, {{}, {}}, 0, 0
local taken, ids = {}, {}

local function must_be_alone(started_at, retries_left)
    return (started_at or '') ~= '' and (tonumber(retries_left or '') or 2) < 2
end

local function volunteers()
    local who = redis.call('GET', ALONE)
    if who and who ~= worker then return false end
    redis.call('SET', ALONE, worker, 'EX', lease)
    return true
end

-- Whether there is nothing more to do about it.
local function start(id, lane)
    local job = rq .. ':job:' .. id
    local known = redis.call('HMGET', job, 'status', 'data', 'result_ttl', 'started_at', 'retries_left')
    if known[1] ~= 'queued' or redis.call('EXISTS', output .. id) == 1 then return true end
    if must_be_alone(known[4], known[5]) then
        alone = volunteers()
        if not alone or busy or #taken > 0 then
            table.insert(passed[lane], id)
            return false
        end
    end
    local execution = prefix .. string.format('%08x', #taken)
    local both = id .. ':' .. execution
    redis.call('HSET', rq .. ':execution:' .. both, 'id', execution, 'job_id', id, 'created_at', now,
        'last_heartbeat', now, 'worker_name', worker)
    redis.call('EXPIRE', rq .. ':execution:' .. both, lease)
    redis.call('ZADD', rq .. ':executions:' .. id, now + lease + grace, execution)
    redis.call('EXPIRE', rq .. ':executions:' .. id, lease + grace)
    redis.call('ZADD', STARTED[lane], now + lease, both)
    redis.call('SADD', ITS_EXECUTIONS, both)
    redis.call('HSET', job, 'status', 'started', 'started_at', time, 'last_heartbeat', time, 'worker_name', worker)
    redis.call('PERSIST', job)
    local content = redis.call('GET', input .. id)
    taken[#taken + 1] = {id, lane, execution, known[2] or '', known[3] or '', content, alone and 1 or 0}
    ids[#ids + 1] = id
    bytes = bytes + #(content or '')
    return true
end

local function take(lane, most)
    while most > 0 and not alone and bytes < most_bytes do
        local id = redis.call('LPOP', QUEUE[lane])
        if not id then return end
        if start(id, lane) then most, left = most - 1, left - 1 end
    end
end

for at = 15, #ARGV, 2 do
    local lane, id = tonumber(ARGV[at]), ARGV[at + 1]
    if redis.call('LREM', INTERMEDIATE[lane], 1, id) == 1 then
        if left <= 0 or bytes >= most_bytes then
            table.insert(passed[lane], id)
        elseif start(id, lane) then
            left = left - 1
        end
    end
end
for lane = 1, 2 do
    local head = cleared and #taken == 0 and redis.call('LINDEX', QUEUE[lane], 0)
    local known = head and redis.call('HMGET', rq .. ':job:' .. head, 'started_at', 'retries_left')
    if known and must_be_alone(known[1], known[2]) then take(lane, math.min(left, 1)) end
end
while promoted < promotable and left > 0 and not alone and bytes < most_bytes do
    local head = redis.call('LINDEX', QUEUE[2], 0)
    if not head or (redis.call('HGET', rq .. ':job:' .. head, 'enqueued_at') or '') > promoted_before then break end
    local before = #taken
    take(2, 1)
    promoted = promoted + #taken - before
end
take(1, left)
take(2, left)
for lane = 1, 2 do
    for at = #passed[lane], 1, -1 do redis.call('LPUSH', QUEUE[lane], passed[lane][at]) end
end
if #ids > 0 then
    redis.call('EXPIRE', ITS_EXECUTIONS, lease + grace)
    redis.call('HSET', WORKER, 'state', 'busy')
    redis.call('PUBLISH', BEGUN_CHANNEL, table.concat(ids, ' '))
end
return {alone and 1 or 0, #passed[1] + #passed[2], promoted, taken}
"""
"""First the ids in ARGV[15...], which lie in intermediate lists; then, up to ARGV[9] in all and ARGV[14] bytes, up to
ARGV[11] bulk jobs queued before ARGV[10], the interactive lane, and bulk. What RQ has forgotten, or a client cancelled,
is passed over for good, and so is what has been answered or is in hand: a worker that was taken for dead may answer a
job that is queued again.

A job that has fewer than two retries left, since workers died that had it, may be what killed them. It runs alone, or
it would cost others theirs. One worker at a time sees to such jobs: it stops in front of the first that it meets,
finishes what it has in hand, and begins with that one (ARGV[13]). The others go around. If it dies over it, `lease`
seconds pass before another one tries, so that many such jobs cannot keep all workers dead.
"""

_KEEP = """
local STARTED = {KEYS[1], KEYS[2]}
local ALONE, rq, lease, grace = KEYS[3], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
if ARGV[4] ~= '' and redis.call('GET', ALONE) == ARGV[4] then redis.call('EXPIRE', ALONE, lease) end
for at = 5, #ARGV, 3 do
    local lane, id, execution = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
    local both = id .. ':' .. execution
    if redis.call('ZSCORE', STARTED[lane], both) then
        redis.call('EXPIRE', rq .. ':execution:' .. both, lease)
        redis.call('ZADD', STARTED[lane], now + lease, both)
        redis.call('HSET', rq .. ':execution:' .. both, 'last_heartbeat', now)
        redis.call('ZADD', rq .. ':executions:' .. id, 'XX', now + lease + grace, execution)
        redis.call('EXPIRE', rq .. ':executions:' .. id, lease + grace)
    end
end
"""
"""A sign of life of each job of ARGV[5...] that this worker still holds, as RQ writes it: for thousands of small
pictures in hand, RQ's own methods take a third of a core. ARGV[4] is this worker if it sees to jobs that must run
alone: then it stays the one that does.

A Redis that is full refuses what takes memory, except in a script that has written before: so it begins with the
EXPIRE, which takes none."""

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
class TakenJob:
    """A job that this worker has promised to close."""

    id: str
    lane: Lane
    execution: Execution
    data: bytes
    """RQ's record of what is to be done."""
    result_ttl_s: int | None
    content: bytes | None
    """The upload; none if it has expired."""
    alone: bool = False
    """Whether it must run without others beside it."""


@dataclass(frozen=True)
class Take:
    """What was taken in one go."""

    jobs: list[TakenJob]
    alone: bool
    """Whether a job was met that must run alone, here. It is in hand now or comes next, so that nothing else should be
    taken before all that is in hand is closed."""
    passed: int
    """How many jobs were left where they were, for another worker or another time."""


@dataclass(frozen=True)
class Arrival:
    """A job that was waited for. It lies in the intermediate list until it is taken."""

    job_id: str
    lane: Lane


class Lanes:
    """Both queues, as a worker takes from them. Threads may use it at the same time, but take one after the other."""

    def __init__(self, connection: Redis, worker_name: str) -> None:
        self._connection = connection
        self._worker_name = worker_name
        self._queues = {lane: Queue(lane.queue, connection=connection, serializer=JSONSerializer) for lane in Lane}
        self._started: dict[Lane, StartedJobRegistry] = {
            lane: queue.started_job_registry for lane, queue in self._queues.items()
        }
        self._take = connection.register_script(_TAKE)
        self._keep = connection.register_script(_KEEP)
        self._put_back = connection.register_script(_PUT_BACK)
        self._credit = PROMOTED_SHARE - 1
        """Jobs that were taken since a bulk job was promoted."""
        self.executions_key: str = Execution("", "", connection, worker_name).worker_executions_key
        """Set: RQ's index of what this worker has in hand."""
        self._keys: list[str] = []
        for lane, queue in self._queues.items():
            self._keys += [queue.key, queue.intermediate_queue_key, self._started[lane].key]
        self._keys += [f"{RQ_KEY_PREFIX}:worker:{worker_name}", self.executions_key, started_channel(), alone_key()]

    @property
    def queues(self) -> list[Queue]:
        """RQ's, the interactive one first."""
        return list(self._queues.values())

    def take(self, most: int, *arrivals: Arrival, busy: bool = False, cleared: bool = False) -> Take:
        """Starts the jobs that have arrived and others that wait, up to `most` in all, without waiting for any.

        `busy`: whether this worker has jobs in hand; `cleared`: whether it has none any more for the sake of a job that
        must run alone. Arrivals past `most` go back to where they came from.
        """
        now, lanes = datetime.now(UTC), list(Lane)
        prefix = uuid4().hex[:24]
        patient = utcformat(now - timedelta(seconds=PATIENCE_S))
        arguments: list[str | int] = [RQ_KEY_PREFIX, input_key(""), output_key(""), self._worker_name, prefix]
        # Over all takes: there is often room for but one job, and every first one would be a promoted one.
        promotable = (self._credit + most) // PROMOTED_SHARE
        arguments += [utcformat(now), LEASE_S, EXECUTIONS_GRACE_S, most, patient, promotable]
        arguments += [int(busy), int(cleared), MOST_BYTES]
        for arrival in arrivals:
            arguments += [lanes.index(arrival.lane) + 1, arrival.job_id]
        reply = self._take(keys=self._keys, args=arguments)
        alone, passed, promoted, rows = cast("tuple[int, int, int, list[list[Any]]]", reply)
        self._credit = min(max(self._credit + len(rows) - promoted * PROMOTED_SHARE, 0), PROMOTED_SHARE - 1)
        return Take([self._read(row, lanes, now) for row in rows], bool(alone), passed)

    def _read(self, row: Sequence[Any], lanes: Sequence[Lane], now: datetime) -> TakenJob:
        job_id, lane, execution_id, data, ttl, content, alone = row
        execution = Execution(execution_id.decode(), job_id.decode(), self._connection, self._worker_name)
        execution.created_at = now
        ttl_s = int(ttl) if ttl else None
        return TakenJob(execution.job_id, lanes[lane - 1], execution, data, ttl_s, content, bool(alone))

    def wait(self, lane: Lane, timeout_s: int) -> Arrival | None:
        """The next job of an empty lane, to be taken by `take`; none if the lane stays empty."""
        queue = self._queues[lane]
        job_id: Any = self._connection.blmove(queue.key, queue.intermediate_queue_key, timeout_s)
        return Arrival(job_id.decode(), lane) if job_id else None

    def keep(self, jobs: Sequence[TakenJob], *, clearing: bool = False) -> None:
        """Gives jobs that this worker has in hand a new lease. Those that it has lost meanwhile stay as they are.

        `clearing`: whether it finishes them for the sake of one that must run alone, and so sees to such jobs.
        """
        lanes, keys = list(Lane), [registry.key for registry in self._started.values()]
        sees_to_alone = clearing or any(job.alone for job in jobs)
        for begin in range(0, len(jobs), KEPT_TOGETHER):
            arguments: list[str | int] = [RQ_KEY_PREFIX, LEASE_S, EXECUTIONS_GRACE_S]
            arguments.append(self._worker_name if sees_to_alone else "")
            for job in jobs[begin : begin + KEPT_TOGETHER]:
                arguments += [lanes.index(job.lane) + 1, job.id, job.execution.id]
            self._keep(keys=[*keys, alone_key()], args=arguments)

    def put_back_abandoned(self, exception_handlers: list[Callable[..., object]]) -> None:
        """Lets RQ put back, or give up, the jobs whose leases have ended. It asks the handlers first.

        RQ's `clean_registries` would do the same by this machine's clock.
        """
        now: Any = self._connection.time()
        for queue in self._queues.values():
            queue.started_job_registry.cleanup(now[0], exception_handlers)
            queue.finished_job_registry.cleanup(now[0])
            queue.failed_job_registry.cleanup(now[0])

    def put_back_stuck(self, patience_s: int) -> None:
        """Puts back what arrived at workers that died before taking it. To be called again and again, by any worker."""
        for lane, queue in self._queues.items():
            keys = [queue.intermediate_queue_key, queue.key, stuck_key(lane)]
            self._put_back(keys=keys, args=[patience_s])

"""How much may wait in the queue, in jobs and in bytes, and the script that holds every service process to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from service.submissions import Submission
from worker.contract import (
    PICTURE_FIELD,
    Lane,
    admitted_key,
    held_bytes_key,
    held_key,
    input_key,
    output_key,
    weighed_key,
)

BULK_SHARE = 0.75
"""Part of the bytes that bulk jobs and their results may fill; the rest stays free for those who wait."""

MEASURE = """
local held, held_bytes, weighed, admitted, queue, other = unpack(KEYS, 1, 6)
local max_jobs, max_bytes, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local inputs, outputs, picture = unpack(ARGV, 4, 6)

-- Until a job is closed it takes up what was expected of it. Then nobody says how large its result has become, nor
-- when it is fetched or expires.
local function weigh(entries)
  for i = 1, #entries, 2 do
    local id, before = entries[i], tonumber(entries[i + 1])
    local is_open = redis.call('EXISTS', inputs .. id) == 1
    local now = is_open and before or redis.call('HSTRLEN', outputs .. id, picture)
    if now ~= before then
      redis.call('INCRBY', held_bytes, now - before)
      if now > 0 then redis.call('HSET', held, id, now) else redis.call('HDEL', held, id) end
    end
  end
end

local count = redis.call('HLEN', held)
if count == 0 then
  redis.call('DEL', held_bytes)
else
  weigh(redis.call('HRANDFIELD', held, 8, 'WITHVALUES'))
end
if tonumber(redis.call('GET', held_bytes) or 0) + bytes > max_bytes
  and (count <= 512 or redis.call('SET', weighed, 1, 'NX', 'PX', 1000)) then
  weigh(redis.call('HGETALL', held))
end

local waiting, used = redis.call('LLEN', queue), tonumber(redis.call('GET', held_bytes) or 0)
local fits = waiting < max_jobs and used + bytes <= max_bytes

local function room()
  local left = tonumber(redis.call('GET', admitted) or 0) - redis.call('LLEN', queue) - redis.call('LLEN', other)
  return {fits and 1 or 0, waiting, used, left}
end
"""
"""Beginning of the scripts that ask for room or take some: finds `fits` and what `Room.of` reads."""
ASK = MEASURE + "return room()"
"""Says whether one more job fits."""
MEASURE_ARGUMENTS = 6
"""Of each of these scripts, keys and others; what follows is the script's own."""


@dataclass(frozen=True)
class Bounds:
    """What may wait in each lane."""

    jobs: int
    bytes: int
    """Of uploads, or the results expected of them, and of results that nobody has fetched yet, in both lanes."""
    upload_bytes: int
    """Largest upload: it must fit the bulk lane's share too."""

    def bytes_for(self, lane: Lane) -> int:
        """Up to how many bytes in all a job of that lane is taken."""
        return self.bytes if lane is Lane.INTERACTIVE else max(int(self.bytes * BULK_SHARE), self.upload_bytes)

    def weigh(self, submission: Submission) -> int:
        """Bytes to keep for a job: a queue that is empty takes any."""
        size = max(len(submission.content.data), submission.result_bytes)
        return min(size, self.bytes_for(submission.lane))


@dataclass(frozen=True)
class Room:
    """The queue as the script found it, without the job in question."""

    fits: bool
    waiting: int
    """Jobs in the lane."""
    held_bytes: int
    left: int
    """Jobs of both lanes that have ever left the queue, for workers or because they were withdrawn."""

    @classmethod
    def of(cls, reply: Sequence[int]) -> Self:
        """Reads the script's reply."""
        fits, waiting, held_bytes, left = map(int, reply)
        return cls(bool(fits), waiting, held_bytes, left)

    def is_ample(self, bounds: Bounds) -> bool:
        """Whether it is not worth asking again before the next upload is read."""
        return self.fits and self.waiting * 2 < bounds.jobs and self.held_bytes * 2 < bounds.bytes


def measure_keys(lane: Lane, queue_keys: Mapping[Lane, str]) -> list[str]:
    """Keys of `MEASURE` for a job of that lane."""
    others = [queue_keys[other] for other in Lane if other is not lane]
    return [held_key(), held_bytes_key(), weighed_key(), admitted_key(), queue_keys[lane], *others]


def measure_arguments(bounds: Bounds, lane: Lane, size: int) -> list[str | int]:
    """Arguments of `MEASURE` for a job of that lane and of `size` bytes."""
    return [bounds.jobs, bounds.bytes_for(lane), size, input_key(""), output_key(""), PICTURE_FIELD]

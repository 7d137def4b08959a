"""Fills the queue as the service does, many jobs at a time, and tells how far the workers are."""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis import Redis
from rq import Queue, Retry
from rq.registry import BaseRegistry
from rq.serializers import JSONSerializer

from worker.contract import STYLIZE_TASK, Lane, PictureFormat, StyleJob, events_channel, input_key

T = TypeVar("T")

ROUND_TRIP = 200
"""Jobs that are sent at once."""
TTL_S = 3600
RETRIES = 3
"""As the service asks for."""


@dataclass(frozen=True)
class Wish:
    """A picture to paint."""

    content: bytes
    style: str


class Jobs:
    """The queues' other end."""

    def __init__(self, redis_url: str) -> None:
        self.redis = Redis.from_url(redis_url)
        self.channel = events_channel(uuid.uuid4().hex)
        """Where workers announce what they have closed."""
        self._queues = {
            lane: Queue(lane.queue, connection=self.redis, serializer=JSONSerializer) for lane in Lane
        }  # fmt: skip

    def close(self) -> None:
        """Ends the connection."""
        self.redis.close()

    def enqueue(self, wishes: Sequence[Wish], lane: Lane = Lane.INTERACTIVE) -> list[str]:
        """Puts a job for each wish into the queue. Returns their ids."""
        ids = [uuid.uuid4().hex for _ in wishes]
        for part in round_trips(list(zip(ids, wishes, strict=True))):
            with self.redis.pipeline() as pipe:
                pipe.multi()  # RQ would do it for each job
                for job_id, wish in part:
                    pipe.set(input_key(job_id), wish.content, ex=TTL_S)
                    self._queues[lane].enqueue_call(**self._call(job_id, wish), pipeline=pipe)
                pipe.execute()
        return ids

    def _call(self, job_id: str, wish: Wish) -> dict[str, Any]:
        now = time.time()
        job = StyleJob(
            id=job_id, reply_to=self.channel, submitted_at=now, deadline=now + TTL_S, format=PictureFormat.JPEG,
            quality=95, result_ttl_s=TTL_S, styles={wish.style: 1.0},
        )  # fmt: skip
        return {
            "func": STYLIZE_TASK,
            "kwargs": job.to_kwargs(),
            "job_id": job_id,
            "timeout": TTL_S,
            "result_ttl": TTL_S,
            "failure_ttl": TTL_S,
            "retry": Retry(RETRIES),
        }

    def closed(self) -> int:
        """Jobs that workers have closed so far."""
        with self.redis.pipeline(transaction=False) as pipe:
            for queue in self._queues.values():
                pipe.zcard(queue.finished_job_registry.key)
                pipe.zcard(queue.failed_job_registry.key)
            return sum(pipe.execute())

    def leftovers(self) -> dict[str, int]:
        """How many ids lie in queues and registries that are empty once everything is answered."""
        counts: dict[str, int] = {}
        for queue in self._queues.values():
            counts |= {
                f"{queue.name} waiting": int(self.redis.llen(queue.key)),
                f"{queue.name} popped": int(self.redis.llen(queue.intermediate_queue_key)),
            }
            for registry in _registries(queue):
                counts[f"{queue.name} {type(registry).__name__}"] = int(self.redis.zcard(registry.key))
        return counts


def round_trips(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in parts of `ROUND_TRIP`."""
    for start in range(0, len(items), ROUND_TRIP):
        yield items[start : start + ROUND_TRIP]


def _registries(queue: Queue) -> tuple[BaseRegistry, ...]:
    return (
        queue.started_job_registry,
        queue.failed_job_registry,
        queue.deferred_job_registry,
        queue.scheduled_job_registry,
        queue.canceled_job_registry,
    )

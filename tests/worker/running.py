"""A real `python -m worker` process, and the service's side of the queue, for tests."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from redis import Redis
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from worker.contract import (
    PICTURE_FIELD,
    RESULT_FIELD,
    STYLIZE_TASK,
    UPSCALE_TASK,
    Job,
    JobResult,
    Lane,
    PictureFormat,
    StyleJob,
    UpscaleJob,
    events_channel,
    input_key,
    output_key,
)
from worker.lanes import LEASE_S


class Worker:
    """A worker process whose log is read line by line."""

    def __init__(self, redis: str, zoo: Path, command: Sequence[str] = ("worker",), **settings: str) -> None:
        """`command`: the module that is run, and what it is told."""
        environment = {
            **os.environ,
            "IMPASTO_REDIS_URL": redis,
            "IMPASTO_ZOO_DIR": str(zoo),
            **{f"IMPASTO_{key.upper()}": value for key, value in settings.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stderr=subprocess.PIPE, text=True
        )

    def wait_until_logged(self, text: str) -> str:
        """The first line from now on that has `text` in it."""
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"the worker ended without saying {text!r}:\n{''.join(lines)}")

    def wait_until_ready(self) -> None:
        self.wait_until_logged("serves")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Asks it to end. Returns its status."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextmanager
def running_worker(redis: str, zoo: Path, command: Sequence[str] = ("worker",), **settings: str) -> Iterator[Worker]:
    """A worker that is ready; killed at the end if it still runs."""
    worker = Worker(redis, zoo, command, **settings)
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.kill()
        if worker.process.stderr is not None:
            worker.process.stderr.close()


class Client:
    """Submits jobs as the service does, and hears of their answers."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self.queues = {lane: Queue(lane.queue, connection=connection, serializer=JSONSerializer) for lane in Lane}
        self.queue = self.queues[Lane.INTERACTIVE]
        self._channel = events_channel(uuid.uuid4().hex)
        self._events = connection.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._events.subscribe(self._channel)
        self.announced: list[str] = []
        """Ids in the order in which they were announced, repeats and all."""

    def stylize(self, content: bytes, retries: int = 3, lane: Lane = Lane.INTERACTIVE, **changes: Any) -> str:
        job = StyleJob(**{**self._common(), "styles": {"red": 1.0}, **changes})
        return self._submit(STYLIZE_TASK, job, content, retries, lane)

    def upscale(self, content: bytes, **changes: Any) -> str:
        return self._submit(UPSCALE_TASK, UpscaleJob(**{**self._common(), "factor": 2, **changes}), content, 3)

    def _common(self) -> dict[str, Any]:
        return {
            "id": uuid.uuid4().hex,
            "reply_to": self._channel,
            "submitted_at": time.time(),
            "deadline": time.time() + 600,
            "format": PictureFormat.PNG,
            "quality": 90,
            "result_ttl_s": 600,
        }

    def _submit(self, task: str, job: Job, content: bytes, retries: int, lane: Lane = Lane.INTERACTIVE) -> str:
        self.connection.set(input_key(job.id), content, ex=600)
        self.queues[lane].enqueue_call(
            task,
            kwargs=job.to_kwargs(),
            job_id=job.id,
            timeout=600,
            failure_ttl=600,
            result_ttl=600,
            retry=Retry(retries, enqueue_at_front=True),
        )
        return job.id

    def wait(self, job_id: str, timeout_s: float = 60) -> tuple[JobResult, bytes | None]:
        """The answer to a job, as soon as it is announced."""
        deadline = time.monotonic() + timeout_s
        while job_id not in self.announced:
            message = self._events.get_message(timeout=max(deadline - time.monotonic(), 0))
            if message is not None:
                self.announced.append(message["data"].decode())
            assert time.monotonic() < deadline, f"no answer to {job_id} in {timeout_s} s"
        return self.answer(job_id)

    def wait_until_started(self, jobs: list[str], passed_over: frozenset[str] = frozenset()) -> frozenset[str]:
        """Ids of the executions of `jobs`, as soon as there are others than `passed_over`. RQ has no event for it."""
        started: frozenset[str] = frozenset()
        while not started - passed_over:
            # Without a cleanup: it would take a dead worker's jobs away from whom should recover them.
            pairs = self.queue.started_job_registry.get_job_and_execution_ids(cleanup=False)
            started = frozenset(execution for job, execution in pairs if job in jobs)
            os.sched_yield()
        return started

    def put_back(self, meanwhile: Callable[[], object] = lambda: None, lane: Lane = Lane.INTERACTIVE) -> None:
        """What RQ does with a lane's jobs in hand once their workers have given no sign of life for long.

        `meanwhile` happens as it does so.
        """

        def handle(*_: object) -> bool:
            meanwhile()
            return True

        self.queues[lane].started_job_registry.cleanup(time.time() + 2 * LEASE_S, [handle])

    def is_answered(self, job_id: str) -> bool:
        return bool(self.connection.exists(output_key(job_id)))

    def answer(self, job_id: str) -> tuple[JobResult, bytes | None]:
        fields = cast("dict[bytes, bytes]", self.connection.hgetall(output_key(job_id)))
        return JobResult.from_json(fields[RESULT_FIELD.encode()]), fields.get(PICTURE_FIELD.encode())

"""Stands in for a worker: takes RQ's jobs and answers them as the contract asks, without any network."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Self, cast

from redis import Redis
from rq.job import Job as RQJob
from rq.job import JobStatus as RQStatus
from rq.serializers import JSONSerializer

from worker.contract import (
    PICTURE_FIELD,
    RESULT_FIELD,
    STYLIZE_TASK,
    WORKER_TTL_S,
    Job,
    JobResult,
    JobStatus,
    StyleInfo,
    StyleJob,
    UpscaleJob,
    UpscalerInfo,
    WorkerReport,
    input_key,
    output_key,
    preview_key,
    started_channel,
    worker_key,
    workers_key,
)

QUEUE_KEY = "rq:queue:impasto"
BULK_KEY = "rq:queue:impasto-bulk"
STOP = "stop"
PAINTED = b"painted"
MODEL = "m0"
Answer = tuple[JobResult, bytes]

REPORT = WorkerReport(
    name="stand-in",
    device="cpu",
    runtime="none",
    styles=(
        StyleInfo(name="candy", digest="c0", title="June Tree", preview=True),
        StyleInfo(name="wave", digest="w0"),
        StyleInfo(name="mosaic", digest="o0"),
    ),
    upscalers=(UpscalerInfo(name="x2", factor=2, digest="u2"), UpscalerInfo(name="x4", factor=4, digest="u4")),
)


def finished(job: Job, data: bytes) -> Answer:
    timings = {"queue": 1.0, "decode": 2.0, "infer": 3.0, "encode": 4.0}
    return JobResult(status=JobStatus.FINISHED, width=8, height=6, timings_ms=timings, model=MODEL), PAINTED


def as_in_catalog(job: Job, data: bytes) -> Answer:
    """A picture made with the weights that the worker reports."""
    result, picture = finished(job, data)
    return JobResult(**{**vars(result), "model": "c0"}), picture


def report(redis: Redis) -> None:
    redis.zadd(workers_key(), {REPORT.name: time.time()})
    redis.set(worker_key(REPORT.name), REPORT.to_json(), ex=WORKER_TTL_S)
    redis.set(preview_key("c0"), b"a preview")


class StandIn:
    def __init__(self, redis: Redis, answer: Callable[[Job, bytes], Answer] = finished) -> None:
        self.jobs: queue.Queue[Job] = queue.Queue()
        """What has been taken."""
        self._redis = redis
        self._answer = answer
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        report(self._redis)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._redis.rpush(QUEUE_KEY, STOP)
        self._thread.join()

    def _run(self) -> None:
        while True:
            _, popped = cast("tuple[bytes, bytes]", self._redis.blpop([QUEUE_KEY, BULK_KEY]))
            job_id = popped.decode()
            if job_id == STOP:
                return
            self._close(RQJob.fetch(job_id, connection=self._redis, serializer=JSONSerializer))

    def _close(self, rq_job: RQJob) -> None:
        rq_job.set_status(RQStatus.STARTED)
        kind = StyleJob if rq_job.func_name == STYLIZE_TASK else UpscaleJob
        job: Job = kind.from_kwargs(rq_job.kwargs)
        self._redis.publish(started_channel(), job.id)
        self.jobs.put(job)
        data = self._redis.get(input_key(job.id))
        assert isinstance(data, bytes)
        result, picture = self._answer(job, data)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(output_key(job.id), mapping={RESULT_FIELD: result.to_json(), PICTURE_FIELD: picture})
            pipe.expire(output_key(job.id), job.result_ttl_s)
            pipe.delete(input_key(job.id))
            rq_job.set_status(RQStatus.FINISHED, pipeline=pipe)
            pipe.publish(job.reply_to, job.id)
            pipe.execute()

"""A batch of requests from file bytes to file bytes: decode, compute, encode."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from worker.answers import Answer
from worker.arrays import Pixels
from worker.catalog import Catalog
from worker.codec import Picture, decode, encode
from worker.compose import keep_color, mix, with_alpha_of
from worker.contract import ErrorCode, Job, JobResult, JobStatus, StyleJob, UpscaleJob
from worker.engine import Engine, EngineTask, EnlargeTask, PaintTask
from worker.errors import JobError
from worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A job and the file that came with it."""

    job: Job
    content: bytes | None
    """None if it expired before a worker came to it."""
    taken_at: float
    """Seconds since the epoch."""


@dataclass
class _Work:
    """A request on its way."""

    request: Request
    photo: Picture
    task: EngineTask
    model: str
    timings_ms: dict[str, float] = field(default_factory=dict)


class PicturePipeline:
    """Answers requests; whatever is wrong with one of them is that one's answer."""

    def __init__(self, catalog: Catalog, engine: Engine, codec: ThreadPoolExecutor, metrics: WorkerMetrics) -> None:
        self.catalog = catalog
        self._engine = engine
        self._codec = codec
        self._metrics = metrics

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """Each request with its answer, as soon as its batch is done."""
        works: list[_Work] = []
        prepared = self._codec.map(self._prepare, requests)
        for request, work in zip(requests, prepared, strict=True):
            if isinstance(work, _Work):
                works.append(work)
            else:
                yield self._count(request, Answer.failed(work))
        for batch in self._engine.plan([work.task for work in works]):
            yield from self._run_batch([works[index] for index in batch])

    def _run_batch(self, works: Sequence[_Work]) -> Iterator[tuple[Request, Answer]]:
        started = time.perf_counter()
        outcomes = self._engine.run([work.task for work in works])
        infer_ms = (time.perf_counter() - started) * 1000
        self._metrics.batch.observe(len(works))
        for work in works:
            work.timings_ms["infer"] = infer_ms
        for work, answer in zip(works, self._codec.map(self._finish, works, outcomes), strict=True):
            yield self._count(work.request, answer)

    def _prepare(self, request: Request) -> _Work | JobError:
        try:
            return self._decode(request)
        except JobError as error:
            return error
        except Exception:
            log.exception("Job %s could not be prepared.", request.job.id)
            return JobError(ErrorCode.INTERNAL, "The picture could not be read; the worker's log says why.")

    def _decode(self, request: Request) -> _Work:
        job = request.job
        if request.content is None:
            raise JobError(ErrorCode.INPUT_LOST, "The upload expired before a worker came to it: send it again.")
        if time.time() > job.deadline:
            raise JobError(ErrorCode.DEADLINE, "No worker came to the picture in time: try again later.")
        started = time.perf_counter()
        photo = decode(request.content, job.size if isinstance(job, StyleJob) else None)
        task, model = self._plan(job, photo.pixels_HWC)
        timings_ms = {
            "queue": max(request.taken_at - job.submitted_at, 0.0) * 1000,
            "decode": (time.perf_counter() - started) * 1000,
        }
        return _Work(request, photo, task, model, timings_ms)

    def _plan(self, job: Job, pixels_HWC: Pixels) -> tuple[EngineTask, str]:
        if isinstance(job, StyleJob):
            trunk, norm_P, digest = self.catalog.blend(job)
            return PaintTask(pixels_HWC, trunk, norm_P), digest
        if isinstance(job, UpscaleJob):
            upscaler = self.catalog.upscaler(job.factor)
            return EnlargeTask(pixels_HWC, upscaler), upscaler.card.digest
        raise TypeError(f"There is no task for a {type(job).__name__}.")

    def _finish(self, work: _Work, outcome: Pixels | JobError) -> Answer:
        if isinstance(outcome, JobError):
            return Answer.failed(outcome)
        try:
            return self._encode(work, outcome)
        except Exception:
            log.exception("Job %s could not be encoded.", work.request.job.id)
            return Answer.failed(JobError(ErrorCode.INTERNAL, "The result could not be written as a file."))

    @staticmethod
    def _encode(work: _Work, pixels_HWC: Pixels) -> Answer:
        job = work.request.job
        started = time.perf_counter()
        if isinstance(job, StyleJob):
            if job.preserve_color:
                pixels_HWC = keep_color(work.photo.pixels_HWC, pixels_HWC)
            pixels_HWC = mix(work.photo.pixels_HWC, pixels_HWC, job.strength)
        result = with_alpha_of(work.photo, pixels_HWC)
        content = encode(result, job.format, job.quality)
        work.timings_ms["encode"] = (time.perf_counter() - started) * 1000
        return Answer(
            JobResult(
                status=JobStatus.FINISHED,
                width=result.width,
                height=result.height,
                timings_ms={stage: round(value, 2) for stage, value in work.timings_ms.items()},
                model=work.model,
            ),
            content,
        )

    def _count(self, request: Request, answer: Answer) -> tuple[Request, Answer]:
        task = "stylize" if isinstance(request.job, StyleJob) else "upscale"
        self._metrics.jobs.labels(task, answer.result.error or answer.result.status).inc()
        for stage, value_ms in answer.result.timings_ms.items():
            self._metrics.stages.labels(stage).observe(value_ms / 1000)
        return request, answer

"""Requests on their way from file bytes to file bytes: decoded, computed and encoded side by side.

While the device computes one batch, threads encode the one before and decode the one after it. The device never waits
for a batch to fill: what is ready when it becomes free goes together. To one that takes several batches the next goes
before it is free: if nothing could be added to that batch any more, or if that would make it no faster.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from worker.answers import Answer
from worker.arrays import Pixels
from worker.batching import Backlog, BatchKey
from worker.catalog import Models
from worker.codec import CODEC_THREADS, Picture, decode, decoding_px, encode, is_one_pass_jpeg
from worker.compose import compose, with_alpha_of
from worker.contract import ErrorCode, Job, JobResult, JobStatus, StyleJob, UpscaleJob
from worker.engine import Engine, EngineTask, EnlargeTask, PaintTask
from worker.errors import JobError
from worker.gpu_jpeg import QuickJpeg
from worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

MOST_WAITING = 64
"""Jobs that lie in a worker undecoded at the most: they might as well wait where other workers see them."""
TAKEN_TOGETHER = 16
"""For how many of those there must be room before more are taken: one by one, each would cost a call of Redis."""
AHEAD = 2
"""Batches' worth of pictures that are decoded ahead of the device, and that wait behind it to be encoded."""
MOST_HELD_PX = 64_000_000
"""Pixels of files that are decoded at a time, or a single file's: each costs up to 13 bytes meanwhile. Also of
photos that are passed over, or a single one's."""
FORGETTING = 0.2
"""Weight of the latest picture in the mean size that is expected of the next."""


@dataclass(frozen=True)
class Request:
    """A job and the file that came with it."""

    job: Job
    content: bytes | None
    """None if it expired before a worker came to it."""
    alone: bool = False
    """Whether no others come beside it, so that the device need not wait for them."""


@dataclass(frozen=True, eq=False)
class _Undecoded:
    """A request whose file waits to be decoded, or is being decoded."""

    request: Request
    px: int
    """Pixels of the photo that is expected to come of it."""
    held_px: int
    """Pixels that lie in memory while it is decoded; 0 if nobody has said."""


@dataclass
class _Work:
    """A request on its way."""

    request: Request
    photo: Picture
    task: EngineTask
    key: BatchKey
    """The task's, which for the first of an upscaler takes a second to find out."""
    model: str
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def px(self) -> int:
        """Pixels of the photo."""
        return self.key.pixels


Answered = Callable[[Request, Answer], None]
"""Told of each answer, from any thread."""


class PicturePipeline:
    """Answers requests; whatever is wrong with one of them is that one's answer."""

    def __init__(
        self,
        catalog: Models,
        engine: Engine,
        codec: ThreadPoolExecutor,
        metrics: WorkerMetrics,
        max_batch: int,
        max_delay_s: float = 0.0,
        max_decoding: int = CODEC_THREADS,
        quick_jpeg: QuickJpeg | None = None,
        batches_at_once: int = 1,
        as_one_px: float = math.inf,
    ) -> None:
        """`max_batch`: most pictures of a batch; `max_delay_s`: how long a free device waits for one to fill.

        `max_decoding`: most pictures that are decoded at a time; as many as `codec` has threads. `quick_jpeg` decodes
        large photos that are to be painted. `batches_at_once` and `as_one_px`: see `Runtime`.
        """
        self._catalog = catalog
        self._engine = engine
        self._codec = codec
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_delay_s = max_delay_s
        self._max_decoding = max_decoding
        self._quick_jpeg = quick_jpeg
        self._as_one_px = as_one_px
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        """Where the device's threads wait. It and the next guard all that follows."""
        self._has_room = threading.Condition(lock)
        """Where those wait who take jobs. They are woken only if there is room: pictures take many steps."""
        self._waiting: deque[_Undecoded] = deque()
        self._decoding: set[_Undecoded] = set()
        self._undecoded_px = 0
        """Expected of both: a sum over all of them for each picture would be a twentieth of what a small one costs."""
        self._ready: Backlog[_Work] = Backlog()
        self._encoding = 0
        """Pictures."""
        self._encoding_px = 0
        self._computing = 0
        """Batches at the device."""
        self._computing_as_one = 0
        """Those of them whose pictures are computed as one."""
        self._large: list[_Work] | None = None
        """The one of these that is a picture larger than a batch. A second one would not fit into memory."""
        self._batch_px = engine.starting_budget_px
        self._mean_px = float(self._batch_px)
        self._stopping = False
        self._answered: Answered = lambda request, answer: None
        self._devices = [
            threading.Thread(target=self._run_device, name=f"device_{index}", daemon=True)
            for index in range(batches_at_once)
        ]
        self.failure: BaseException | None = None
        """What ended one of the threads, if a fault of ours did."""

    def start(self, answered: Answered) -> None:
        """From now on takes requests."""
        self._answered = answered
        for thread in self._devices:
            thread.start()

    def stop(self) -> None:
        """Ends the device's threads, once they have computed what is ready. To be called when nothing is in hand."""
        with self._work:
            self._stopping = True
            self._work.notify_all()
        for thread in self._devices:
            thread.join()

    def wait_for_room(self, timeout_s: float) -> int:
        """How many more jobs can be taken, as soon as there is room; 0 if there is none in that time."""
        with self._has_room:
            self._has_room.wait_for(lambda: self._room() > 0, timeout_s)
            return self._room()

    def submit(self, requests: Iterable[Request]) -> None:
        """Takes requests. Each is answered once, sooner or later."""
        with self._work:
            for request in requests:
                px = _result_px(request.job) or round(self._mean_px)
                self._waiting.append(_Undecoded(request, px, _decoded_px(request)))
                self._undecoded_px += px
            self._decode_ahead()

    def _room(self) -> int:
        free_px = AHEAD * self._batch_px - self._ready.px - self._undecoded_px
        places = MOST_WAITING - len(self._waiting) - len(self._decoding)
        if free_px <= 0 or places < TAKEN_TOGETHER:
            return 0
        return min(int(free_px / self._mean_px) + 1, places)

    def _tell_of_room(self) -> None:
        if self._room() > 0:
            self._has_room.notify_all()

    def _decode_ahead(self) -> None:
        """Sends to the decoders what is worth being ready, and no more than can be decoded at once."""
        limit_px = AHEAD * self._batch_px
        while self._waiting and len(self._decoding) < self._max_decoding:
            file = self._waiting[0]
            if self._ready.px + sum(each.px for each in self._decoding) >= limit_px:
                break
            if self._decoding and sum(each.held_px for each in (file, *self._decoding)) > MOST_HELD_PX:
                break
            self._decoding.add(self._waiting.popleft())
            self._codec.submit(self._guarded, partial(self._prepare, file))

    def _guarded(self, target: Callable[[], None]) -> None:
        """What a thread of the codec does. If that fails, a job would stay in hand for ever, and nobody be told."""
        try:
            target()
        except BaseException as error:
            log.critical("A picture's thread fails.", exc_info=True)
            self.failure = error

    def _prepare(self, file: _Undecoded) -> None:
        request = file.request
        outcome = self._try_decoding(request)
        with self._work:
            self._decoding.remove(file)
            self._undecoded_px -= file.px
            if isinstance(outcome, _Work):
                self._mean_px += FORGETTING * (outcome.px - self._mean_px)
                waited_s = self._max_delay_s if request.alone else 0.0
                self._ready.add(outcome.key, outcome, time.monotonic() - waited_s)
            self._decode_ahead()
            self._work.notify()
            self._tell_of_room()
        if isinstance(outcome, JobError):
            self._answer(request, Answer.failed(outcome))

    def _try_decoding(self, request: Request) -> _Work | JobError:
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
        _check_deadline(job)
        started = time.perf_counter()
        if isinstance(job, StyleJob):
            photo = decode(request.content, job.size, self._quick_jpeg)
        else:
            # A GPU does not smooth the colours that a JPEG holds in half the resolution: enlarged, it would show.
            photo = decode(request.content)
        task, model = self._plan(job, photo.pixels_HWC)
        return _Work(request, photo, task, task.key, model, {"decode": (time.perf_counter() - started) * 1000})

    def _plan(self, job: Job, pixels_HWC: Pixels) -> tuple[EngineTask, str]:
        if isinstance(job, StyleJob):
            trunk, norm_P, digest = self._catalog.blend(job)
            return PaintTask(pixels_HWC, trunk, norm_P), digest
        if isinstance(job, UpscaleJob):
            upscaler = self._catalog.upscaler(job.factor)
            return EnlargeTask(pixels_HWC, upscaler), upscaler.card.digest
        raise TypeError(f"There is no task for a {type(job).__name__}.")

    def _run_device(self) -> None:
        try:
            while works := self._next_batch():
                as_one = works[0].px <= self._as_one_px
                try:
                    self._run_batch(works)
                finally:
                    works.clear()  # or they stayed in memory until this thread gets the next
                    with self._work:
                        self._computing -= 1
                        self._computing_as_one -= as_one
                        if self._large is works:
                            self._large = None
                            self._ready.take_back()
        except BaseException as error:
            log.critical("The device's thread fails.", exc_info=True)
            self.failure = error

    def _next_batch(self) -> list[_Work]:
        """What goes to the device next; waits for it. Empty at the end."""
        with self._work:
            while not self._stopping or self._ready:
                self._pass_large_ones_over()
                if self._ready and not self._is_behind() and self._may_go():
                    delay_s = self._delay_s()
                    if delay_s <= 0:
                        return self._take_batch()
                    self._work.wait(delay_s)
                else:
                    self._work.wait()
            # Another thread of the device may wait for what this one has taken.
            self._work.notify_all()
        return []

    def _pass_large_ones_over(self) -> None:
        """Lets small pictures by those that wait for the end of a large one, which can take a minute.

        Only by a few: they lie in memory, and a worker that has nothing to do could take them.
        """
        before = self._ready.aside
        while self._large is not None and self._ready and self._is_large() and self._may_set_aside():
            self._ready.set_aside()
        if self._ready.aside > before:
            self._decode_ahead()
            self._tell_of_room()

    def _may_set_aside(self) -> bool:
        px = self._ready.aside_px + self._ready.oldest_key.pixels
        return not self._ready.aside or (self._ready.aside < AHEAD and px <= MOST_HELD_PX)

    def _is_large(self) -> bool:
        """Whether the oldest picture is more than goes to the device at once."""
        return self._ready.oldest_key.pixels > self._budget_px()

    def _may_go(self) -> bool:
        """Whether a batch may go to the device, which may be busy with others. Large pictures wait for memory."""
        if not self._computing:
            return True
        if self._is_large():
            return False
        had_better_fill = self._computing_as_one and self._ready.oldest_key.pixels <= self._as_one_px
        return not had_better_fill or self._ready.would_fill(self._budget_px(), self._max_batch)

    def _is_behind(self) -> bool:
        """Whether so much waits to be encoded that more would only fill the memory."""
        return self._encoding > 1 and self._encoding_px > AHEAD * self._batch_px

    def _delay_s(self) -> float:
        """How long the batch may still wait for others."""
        if not self._max_delay_s or self._stopping or self._ready.would_fill(self._budget_px(), self._max_batch):
            return 0.0
        return self._ready.oldest_at + self._max_delay_s - time.monotonic()

    def _budget_px(self) -> int:
        self._batch_px = self._engine.budget_px(self._ready.oldest_key)
        return self._batch_px

    def _take_batch(self) -> list[_Work]:
        budget_px = self._budget_px()
        works = self._ready.take(budget_px, self._max_batch)
        self._computing += 1
        self._computing_as_one += works[0].px <= self._as_one_px
        if works[0].px > budget_px:
            self._large = works
        if self._ready:
            self._work.notify()  # what was behind this batch may go to the device beside it
        self._decode_ahead()
        self._tell_of_room()
        return works

    def _run_batch(self, works: Sequence[_Work]) -> None:
        works = self._drop_late(works)
        if not works:
            return
        begun_at, started = time.time(), time.perf_counter()
        outcomes = self._engine.run([work.task for work in works])
        infer_s = time.perf_counter() - started
        self._metrics.batch.observe(len(works))
        with self._work:
            self._encoding += len(works)
            self._encoding_px += sum(work.px for work in works)
        for work, outcome in zip(works, outcomes, strict=True):
            waited_ms = (begun_at - work.request.job.submitted_at) * 1000 - work.timings_ms["decode"]
            work.timings_ms |= {"queue": max(waited_ms, 0.0), "infer": infer_s * 1000}
            self._codec.submit(self._guarded, partial(self._finish, work, outcome))

    def _drop_late(self, works: Sequence[_Work]) -> list[_Work]:
        """Those whose callers still wait."""
        kept = []
        for work in works:
            try:
                _check_deadline(work.request.job)
                kept.append(work)
            except JobError as error:
                self._answer(work.request, Answer.failed(error))
        return kept

    def _finish(self, work: _Work, outcome: Pixels | JobError) -> None:
        answer = Answer.failed(outcome) if isinstance(outcome, JobError) else self._try_encoding(work, outcome)
        with self._work:
            was_behind = self._is_behind()
            self._encoding -= 1
            self._encoding_px -= work.px
            if was_behind:  # else no thread of the device waits for this, and waking one takes a core some 30 us
                self._work.notify()
        self._answer(work.request, answer)

    @classmethod
    def _try_encoding(cls, work: _Work, pixels_HWC: Pixels) -> Answer:
        try:
            return cls._encode(work, pixels_HWC)
        except Exception:
            log.exception("Job %s could not be encoded.", work.request.job.id)
            return Answer.failed(JobError(ErrorCode.INTERNAL, "The result could not be written as a file."))

    @staticmethod
    def _encode(work: _Work, pixels_HWC: Pixels) -> Answer:
        job = work.request.job
        started = time.perf_counter()
        if isinstance(job, StyleJob):
            result = compose(work.photo, pixels_HWC, job.strength, job.preserve_color)
        else:
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

    def _answer(self, request: Request, answer: Answer) -> None:
        task = "stylize" if isinstance(request.job, StyleJob) else "upscale"
        self._metrics.jobs.labels(task, answer.result.error or answer.result.status).inc()
        for stage, value_ms in answer.result.timings_ms.items():
            self._metrics.stages.labels(stage).observe(value_ms / 1000)
        self._answered(request, answer)


def _result_px(job: Job) -> int:
    """Most pixels that its photo will have once it is decoded and reduced; 0 if nobody has said."""
    return min(job.pixels, job.size**2) if isinstance(job, StyleJob) and job.size else job.pixels


def _decoded_px(request: Request) -> int:
    job, content = request.job, request.content or b""
    size = job.size if isinstance(job, StyleJob) else None
    return decoding_px(job.pixels, size, is_one_pass_jpeg=is_one_pass_jpeg(content))


def _check_deadline(job: Job) -> None:
    if time.time() > job.deadline:
        raise JobError(ErrorCode.DEADLINE, "No worker came to the picture in time: try again later.")

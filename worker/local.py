"""Works on files without a queue: read, decode, compute in batches, encode, write whole."""

import errno
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from worker.arrays import Pixels
from worker.codec import CODEC_THREADS, Picture, decode, decoding_px, encode
from worker.contract import ErrorCode, PictureFormat
from worker.engine import Engine, EngineTask
from worker.errors import JobError, WorkerError
from worker.headers import Header, read_header
from worker.local_records import Records
from worker.recipes import Recipe
from worker.targets import Commission
from worker.whole_files import write_whole

log = logging.getLogger(__name__)

WINDOW_PX = 16_000_000
"""Pixels read ahead, among which equal sizes are looked for, counted at the larger of photo and result."""
WINDOW_FILES = 32

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class OutputError(WorkerError):
    """Nothing more can be written; the sentence says why."""


@dataclass(frozen=True)
class Terms:
    """What holds for every picture of a run."""

    quality: int | None = None
    """1 to 100; none is each format's own."""
    max_pixels: int = 250_000_000
    """Largest picture taken or made."""


@dataclass(frozen=True)
class Done:
    """What became of a file."""

    commission: Commission
    error: str | None = None
    """A sentence, if there is no picture."""


@dataclass(frozen=True)
class _Work:
    commission: Commission
    file: os.stat_result
    """Of the photo, from before it was read: one that is replaced meanwhile has changed."""
    photo: Picture
    task: EngineTask


class LocalStudio:
    """Works on files, one recipe for all. Whatever is wrong with one of them is that one's error."""

    def __init__(self, engine: Engine, recipe: Recipe, terms: Terms) -> None:
        self._engine = engine
        self._recipe = recipe
        self._terms = terms

    def convert(self, content: bytes, asked: PictureFormat | None = None) -> bytes:
        """One file's bytes to another's. Raises `JobError`."""
        header = read_header(content)
        picture_format = asked or header.format
        self._check(header, picture_format)
        photo = decode(content, self._recipe.size)
        outcome = self._engine.run([self._recipe.task(photo)])[0]
        return self._encode(photo, outcome, picture_format)

    def run(self, commissions: Sequence[Commission], records: Records) -> Generator[Done]:
        """What became of each file, as soon as it is known. Those that are written are noted in `records`.

        Decoding and encoding run beside the computing, and no more than two windows of pictures are in memory.
        Raises `OutputError` when the disk is full. Closed early, it leaves nothing half written.
        """
        pool = ThreadPoolExecutor(CODEC_THREADS, "codec")
        try:
            finishing: list[Future[Done]] = []
            for window in self._decoded_ahead(pool, commissions):
                yield from (done for done in window if isinstance(done, Done))
                works = [work for work in window if isinstance(work, _Work)]
                for batch in self._engine.plan([work.task for work in works]):
                    in_hand = self._compute(pool, [works[index] for index in batch], records)
                    yield from (future.result() for future in finishing)
                    finishing = in_hand
            yield from (future.result() for future in finishing)
        finally:
            pool.shutdown(cancel_futures=True)

    def _compute(self, pool: ThreadPoolExecutor, works: Sequence[_Work], records: Records) -> list[Future[Done]]:
        outcomes = self._engine.run([work.task for work in works])
        pairs = zip(works, outcomes, strict=True)
        return [pool.submit(self._finish, work, outcome, records) for work, outcome in pairs]

    def _decoded_ahead(
        self, pool: ThreadPoolExecutor, commissions: Iterable[Commission]
    ) -> Iterator[list[_Work | Done]]:
        """Windows of decoded photos; the next is being decoded while one is in use."""
        ahead: list[Future[_Work | Done]] = []
        for window in self._windows(commissions):
            current, ahead = ahead, [pool.submit(self._open, commission) for commission in window]
            if current:
                yield [future.result() for future in current]
        if ahead:
            yield [future.result() for future in ahead]

    def _windows(self, commissions: Iterable[Commission]) -> Iterator[list[Commission]]:
        window: list[Commission] = []
        pixels = 0
        for commission in commissions:
            more = self._pixels(commission)
            if window and (pixels + more > WINDOW_PX or len(window) == WINDOW_FILES):
                yield window
                window, pixels = [], 0
            window.append(commission)
            pixels += more
        if window:
            yield window

    def _pixels(self, commission: Commission) -> int:
        """While it is decoded or of its result, whichever is more; 0 for what cannot be read, found out later."""
        try:
            header = read_header(commission.source)
        except JobError:
            return 0
        width, height = self._recipe.measure(header.width, header.height)
        file_px = header.width * header.height
        held_px = decoding_px(file_px, self._recipe.size, is_one_pass_jpeg=header.is_one_pass_jpeg)
        return max(width * height, held_px)

    def _open(self, commission: Commission) -> _Work | Done:
        try:
            file = commission.source.stat()
            self._check(read_header(commission.source), commission.format)
            photo = decode(commission.source.read_bytes(), self._recipe.size)
            return _Work(commission, file, photo, self._recipe.task(photo))
        except JobError as error:
            return Done(commission, error.detail)
        except OSError as error:
            return Done(commission, f"The file cannot be read: {error.strerror or error}.")
        except Exception as error:
            return _unforeseen(commission, error)

    def _check(self, header: Header, picture_format: PictureFormat) -> None:
        width, height = self._recipe.measure(header.width, header.height)
        limit, side = self._terms.max_pixels, picture_format.max_side
        if max(header.width * header.height, width * height) > limit:
            sizes = f"The picture has {header.width} x {header.height} px, its result would have {width} x {height}"
            raise JobError(ErrorCode.TOO_LARGE, f"{sizes}; --max-megapixels allows {limit / 1e6:g} megapixels.")
        if side is not None and max(width, height) > side:
            raise JobError(
                ErrorCode.TOO_LARGE,
                f"{picture_format.upper()} holds at most {side} px a side, not {width} x {height}: use --format png.",
            )

    def _finish(self, work: _Work, outcome: Pixels | JobError, records: Records) -> Done:
        commission = work.commission
        try:
            write_whole(commission.target, self._encode(work.photo, outcome, commission.format))
            records.note(commission, work.file)
        except JobError as error:
            return Done(commission, error.detail)
        except OSError as error:
            if error.errno in _NO_ROOM:
                # Not its own failure: that of all which follow.
                raise OutputError(f"{commission.target} cannot be written: {error.strerror}.") from error
            return Done(commission, f"{commission.target} cannot be written: {error.strerror or error}.")
        except Exception as error:
            return _unforeseen(commission, error)
        return Done(commission)

    def _encode(self, photo: Picture, outcome: Pixels | JobError, picture_format: PictureFormat) -> bytes:
        if isinstance(outcome, JobError):
            raise outcome
        quality = self._terms.quality or picture_format.default_quality
        return encode(self._recipe.finish(photo, outcome), picture_format, quality)


def _unforeseen(commission: Commission, error: Exception) -> Done:
    """One file's misfortune, whatever it is, must not end a run of thousands."""
    log.exception("%s", commission.source)
    return Done(commission, f"It failed in a way that was not foreseen: {error!r}.")

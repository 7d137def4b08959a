"""The live workers, and what they serve."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar, cast

import redis.asyncio as aioredis

from service.broker import redis_errors
from service.problems import NoPreview, NoWorker, UnknownFactor, UnknownStyle
from service.tasks import shared
from worker.contract import (
    StyleInfo,
    UpscalerInfo,
    WorkerReport,
    preview_key,
    worker_key,
    workers_key,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

CACHE_S = 1.0
LEAST_CACHE_S = 0.1
"""Seconds for which reports are believed when something is not in them."""
PATIENCE_S = 2.0
"""Seconds in which Redis must have told the reports: every request waits for them."""


@dataclass(frozen=True)
class Catalog:
    """What can be asked for: the union of what the live workers serve."""

    styles: Mapping[str, StyleInfo]
    upscalers: Mapping[int, UpscalerInfo]
    """By factor."""

    @classmethod
    def of(cls, reports: Iterable[WorkerReport]) -> Self:
        """Joins reports; where two differ over a name, the later one counts."""
        styles = {style.name: style for report in reports for style in report.styles}
        upscalers = {upscaler.factor: upscaler for report in reports for upscaler in report.upscalers}
        return cls(dict(sorted(styles.items())), dict(sorted(upscalers.items())))

    def style(self, name: str) -> StyleInfo:
        """The style of that name. Raises `UnknownStyle`."""
        if name not in self.styles:
            raise UnknownStyle.among(name, self.styles)
        return self.styles[name]

    def blend(self, names: Iterable[str]) -> str:
        """Digest of the weights for a blend of styles, as workers report it. Raises `UnknownStyle`."""
        return "+".join(self.style(name).digest for name in names)

    def upscaler(self, factor: int) -> UpscalerInfo:
        """The upscaler of that factor. Raises `UnknownFactor`."""
        if factor not in self.upscalers:
            raise UnknownFactor.among(factor, list(self.upscalers))
        return self.upscalers[factor]


class Fleet:
    """Reads the workers' reports, at most once in `CACHE_S`. Raises `QueueUnavailable` while Redis is away."""

    def __init__(self, redis: aioredis.Redis) -> None:
        self._redis = redis
        self._reading: asyncio.Task[None] | None = None
        self._reports: tuple[WorkerReport, ...] = ()
        self._catalog = Catalog({}, {})
        self._stale_at = 0.0
        self._read_at = 0.0

    async def workers(self) -> tuple[WorkerReport, ...]:
        """The live workers, the one that reported last at the end."""
        if time.monotonic() >= self._stale_at:
            if self._reading is None or self._reading.done():
                self._reading = shared(self._refresh())
            await asyncio.shield(self._reading)
        return self._reports

    async def catalog(self) -> Catalog:
        """What the live workers serve. Raises `NoWorker` where there are none."""
        if not await self.workers():
            raise NoWorker
        return self._catalog

    async def find(self, look: Callable[[Catalog], T]) -> T:
        """What `look` finds in the catalog. Raises what it raises, and `NoWorker`.

        For something unknown the reports are read anew first: another process of the service may have shown it already.
        """
        try:
            return look(await self.catalog())
        except (UnknownStyle, UnknownFactor):
            self._expire()
        return look(await self.catalog())

    def _expire(self) -> None:
        """However many ask for what is nowhere, Redis is asked no more often than this."""
        self._stale_at = min(self._stale_at, self._read_at + LEAST_CACHE_S)

    async def preview(self, style: StyleInfo) -> bytes:
        """A JPEG that shows the style. Raises `NoPreview`."""
        with redis_errors():
            preview = await self._redis.get(preview_key(style.digest))
        if preview is None:
            raise NoPreview(style.name)
        return cast(bytes, preview)

    async def _refresh(self) -> None:
        self._read_at = time.monotonic()
        self._reports = await self._read()
        self._catalog = Catalog.of(self._reports)
        # None at all is not worth keeping: the first worker should be seen at once.
        self._stale_at = time.monotonic() + CACHE_S if self._reports else 0.0

    async def _read(self) -> tuple[WorkerReport, ...]:
        with redis_errors():
            async with asyncio.timeout(PATIENCE_S):
                texts = await self._texts()
        reports = (_parse(text) for text in texts if text is not None)
        return tuple(report for report in reports if report is not None)

    async def _texts(self) -> list[bytes | None]:
        # Not by the time of the last report: the clocks of machines differ, and what a dead worker said has expired.
        names = cast("list[bytes]", await self._redis.zrange(workers_key(), 0, -1))
        texts = await self._redis.mget([worker_key(name.decode()) for name in names]) if names else []
        return cast("list[bytes | None]", texts)


def _parse(text: str | bytes) -> WorkerReport | None:
    try:
        return WorkerReport.from_json(text)
    except (ValueError, TypeError, KeyError) as error:
        logger.warning("a worker's report cannot be read: %s", error)
        return None

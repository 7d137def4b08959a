"""Prometheus metrics of the service."""

import math
import time
from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.queue_snapshot import QueueSnapshot
from worker.contract import Lane

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
BYTES = tuple(float(4**power) for power in range(5, 15))
"""1 KiB to 256 MiB."""


class Metrics:
    """One registry of metrics; each app has its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "impasto_http_requests_total", "HTTP requests answered.", ["route", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "impasto_http_request_seconds",
            "Seconds from a request to the beginning of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "impasto_stage_seconds",
            "Seconds a picture spent in a stage.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.refusals = Counter(
            "impasto_refusals_total", "Requests answered with a problem, by its kind.", ["reason"], registry=registry
        )
        self.upload_bytes = Histogram(
            "impasto_upload_bytes", "Size of the uploaded files.", buckets=BYTES, registry=registry
        )
        self.not_modified = Counter(
            "impasto_not_modified_total", "Pictures and previews that the client had already.", registry=registry
        )
        self.cache = Counter(
            "impasto_cache_total",
            "Pictures looked for in the cache, where there is one.",
            ["outcome"],
            registry=registry,
        )
        self._add_queue_metrics(registry)
        self.live_workers = Gauge("impasto_live_workers", "Live workers; NaN while Redis is away.", registry=registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def _add_queue_metrics(self, registry: CollectorRegistry) -> None:
        self.queue_depth = Gauge(
            "impasto_queue_depth", "Jobs that wait; NaN while Redis is away.", ["lane"], registry=registry
        )
        self.oldest_wait_seconds = Gauge(
            "impasto_queue_oldest_wait_seconds",
            "Seconds that the job at the head of the queue has waited.",
            ["lane"],
            registry=registry,
        )
        self.jobs_running = Gauge("impasto_jobs_running", "Jobs that workers have in hand.", registry=registry)
        self.redis_memory_bytes = Gauge("impasto_redis_memory_bytes", "Bytes that Redis uses.", registry=registry)
        self.redis_memory_limit_bytes = Gauge(
            "impasto_redis_memory_limit_bytes", "Redis's maxmemory; 0 without one.", registry=registry
        )

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts a request by its route's template."""
        self.requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def observe_stages(self, timings_ms: Mapping[str, float]) -> None:
        """Counts the stages of one picture, in milliseconds."""
        for stage, milliseconds in timings_ms.items():
            self.stage_seconds.labels(stage).observe(milliseconds / 1000)

    def observe_queue(self, snapshot: QueueSnapshot, workers: int | None) -> None:
        """Notes the queue as it is now; `workers`: live ones, none where that is not known."""
        for lane in Lane:
            self.queue_depth.labels(lane.value).set(snapshot.depth[lane])
            self.oldest_wait_seconds.labels(lane.value).set(snapshot.oldest_wait_s[lane])
        self.jobs_running.set(snapshot.running)
        self.redis_memory_bytes.set(snapshot.memory_bytes)
        self.redis_memory_limit_bytes.set(snapshot.memory_limit_bytes)
        self.live_workers.set(math.nan if workers is None else workers)

    def render(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class MetricsMiddleware:
    """Counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection, as ASGI asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answered, status = time.perf_counter(), None, 500

        async def send_and_note(message: Message) -> None:
            nonlocal answered, status
            if message["type"] == "http.response.start":
                answered, status = time.perf_counter(), message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            # Up to where the answer begins: how long it takes from there is the client's affair, or a stream's nature.
            seconds = (answered or time.perf_counter()) - started
            self._metrics.observe_request(route_of(scope), scope["method"], status, seconds)


def route_of(scope: Scope) -> str:
    """The template of the route that took the request, or the path of the mounted app; never the raw path."""
    mounted = str(scope["root_path"]) if "endpoint" in scope else "unmatched"
    return getattr(scope.get("route"), "path", mounted)

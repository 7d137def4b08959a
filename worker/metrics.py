"""What a worker tells Prometheus."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from worker.catalog import Catalog
from worker.device_memory import DeviceMemory
from worker.engine import Reason
from worker.vitals import Pulse, serve_vitals

_STAGE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class WorkerMetrics:
    """The worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.jobs = Counter(
            "impasto_worker_jobs", "Jobs closed, by task and outcome.", ["task", "outcome"], registry=self.registry
        )
        self.stages = Histogram(
            "impasto_worker_stage_seconds",
            "Time of a job in each stage.",
            ["stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.batch = Histogram(
            "impasto_worker_batch_pictures",
            "Pictures that went to the device together.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.busy = Counter(
            "impasto_worker_device_busy_seconds", "Time that the device computed.", registry=self.registry
        )
        self.retries = Counter(
            "impasto_worker_retries", "Batches and pictures computed again.", ["reason"], registry=self.registry
        )
        for reason in get_args(Reason):
            self.retries.labels(reason)  # from 0 on: the first one is an increase too
        self.in_hand = Gauge(
            "impasto_worker_jobs_in_hand", "Jobs taken from the queue and not closed yet.", registry=self.registry
        )
        self.models = Gauge(
            "impasto_worker_models", "Styles and upscalers served.", ["task"], registry=self.registry
        )  # fmt: skip
        self.zoo_swaps = Counter(
            "impasto_worker_zoo_swaps", "Changes of the zoo taken over while running.", registry=self.registry
        )
        self.zoo_refused = Gauge(
            "impasto_worker_zoo_refused", "Files of the zoo that are refused.", registry=self.registry
        )

    def show(self, catalog: Catalog) -> None:
        """Tells what is served, and how many files are not."""
        self.models.labels("stylize").set(len(catalog.styles))
        self.models.labels("upscale").set(len(catalog.upscalers))
        self.zoo_refused.set(len(catalog.refused))

    def count_retry(self, reason: Reason) -> None:
        """Something went to the device once more."""
        self.retries.labels(reason).inc()

    def watch(self, memory: DeviceMemory) -> None:
        """Reads the device's memory at every scrape."""
        used = Gauge("impasto_worker_device_memory_bytes", "Memory in use on the device.", registry=self.registry)
        used.set_function(memory.used)
        limit = Gauge("impasto_worker_device_memory_limit_bytes", "Memory of the device.", registry=self.registry)
        limit.set_function(memory.limit)

    def serve(self, host: str, port: int, pulse: Pulse) -> None:
        """Answers `GET /metrics` and `/livez` on that address, from a thread. Raises `OSError` if the port is taken."""
        serve_vitals(self.registry, pulse, host, port)

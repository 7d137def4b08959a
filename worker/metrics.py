"""What a worker tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

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
        self.models = Gauge(
            "impasto_worker_models", "Styles and upscalers served.", ["task"], registry=self.registry
        )  # fmt: skip

    def serve(self, host: str, port: int) -> None:
        """Answers `GET /metrics` on that address, from a thread. Raises `OSError` if the port is taken."""
        start_http_server(port, host, registry=self.registry)

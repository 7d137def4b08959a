"""`python -m benchmarks.simulated_fleet WORKERS MILLISECONDS`: many workers in one process, whose devices are pauses.

Between Redis and the device every line is the worker's own, connections included, so that Redis sees what it would see
of as many real workers; but they share one Python, and a machine of two cores can hold sixty-four.
"""

import signal
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from benchmarks.simulated_worker import SimulatedRuntime
from worker.catalog import Catalog, ZooLoader
from worker.connection import connect
from worker.consumer import BatchWorker
from worker.contract import WorkerReport
from worker.metrics import WorkerMetrics
from worker.pipeline import PicturePipeline
from worker.report import Reporter
from worker.settings import WorkerSettings
from worker.workbench import open_engine

CODEC_THREADS = 4
"""For all workers together."""


class Fleet:
    """Workers that share a process, a zoo and the threads that decode and encode."""

    def __init__(self, settings: WorkerSettings, count: int, latency_s: float) -> None:
        runtime = SimulatedRuntime(latency_s)
        catalog = ZooLoader(runtime, settings.trunk).load(settings.zoo_dir)
        codec = ThreadPoolExecutor(CODEC_THREADS, "codec")
        self._reporters: list[Reporter] = []
        self._workers: list[BatchWorker] = []
        for _ in range(count):
            name, connection, metrics = uuid.uuid4().hex, connect(settings.redis_url), WorkerMetrics()
            pipeline = PicturePipeline(
                catalog,
                open_engine(settings, count_busy=metrics.busy.inc),
                codec,
                metrics,
                settings.max_batch,
                max_decoding=CODEC_THREADS,
            )
            self._workers.append(BatchWorker(connection, pipeline, name, metrics))
            self._reporters.append(_reporter(settings.redis_url, name, runtime, catalog))

    def run(self) -> None:
        """Works until SIGTERM."""
        signal.signal(signal.SIGTERM, self._stop)
        threads = [threading.Thread(target=worker.run, name="worker") for worker in self._workers]
        for thread in threads:
            thread.start()
        for reporter in self._reporters:
            reporter.start()
        for thread in threads:
            thread.join()
        for reporter in self._reporters:
            reporter.stop()

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        for worker in self._workers:
            worker.request_stop(signum, frame)


def _reporter(redis_url: str, name: str, runtime: SimulatedRuntime, catalog: Catalog) -> Reporter:
    report = WorkerReport(name=name, device=runtime.device, runtime=runtime.name, styles=(), upscalers=())
    reporter = Reporter(connect(redis_url), report)
    reporter.publish(catalog)
    return reporter


def main() -> None:
    """Works until SIGTERM."""
    Fleet(WorkerSettings.load(), int(sys.argv[1]), float(sys.argv[2]) / 1000).run()


if __name__ == "__main__":
    main()

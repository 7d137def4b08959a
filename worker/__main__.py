"""`python -m worker`: one worker on one device."""

import logging
import os
import socket
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from worker.catalog import Catalog, ZooLoader
from worker.connection import connect
from worker.consumer import BatchWorker
from worker.contract import WorkerReport
from worker.devices import choose_runtime
from worker.engine import Engine
from worker.errors import StartError, WorkerError
from worker.metrics import WorkerMetrics
from worker.pipeline import PicturePipeline
from worker.report import Reporter
from worker.runtimes import Runtime
from worker.settings import WorkerSettings

log = logging.getLogger("worker")


def main() -> int:
    """Runs a worker until SIGTERM or Ctrl-C. Returns the exit status."""
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        first = error.errors()[0]
        sys.stderr.write(f"IMPASTO_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}.\n")
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("rq").setLevel(logging.WARNING)
    try:
        run(settings)
    except WorkerError as error:
        log.error("%s", error)
        return 1
    return 0


def run(settings: WorkerSettings) -> None:
    """Loads the zoo, then works. Raises `StartError` or `ZooError`."""
    runtime = choose_runtime(settings.runtime, settings.device, settings.precision, settings.threads)
    catalog = ZooLoader(runtime).load(settings.zoo_dir)
    if not catalog.styles and not catalog.upscalers:
        raise StartError(f"The zoo {settings.zoo_dir} holds nothing that can be served: set IMPASTO_ZOO_DIR.")
    metrics = _serve_metrics(settings, catalog)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    engine = Engine(round(settings.batch_megapixels * 1e6))
    connection = connect(settings.redis_url)
    with ThreadPoolExecutor(max(os.cpu_count() or 1, 2), "codec") as codec:
        pipeline = PicturePipeline(catalog, engine, codec, metrics)
        reporter = Reporter(connection, _report(name, runtime, catalog), catalog)
        worker = BatchWorker(connection, pipeline, name, settings.max_batch)
        worker.stop_on_signals()
        reporter.start()
        log.info("%s serves %d styles and %d upscalers.", runtime.device, len(catalog.styles), len(catalog.upscalers))
        worker.run()
        reporter.stop()


def _report(name: str, runtime: Runtime, catalog: Catalog) -> WorkerReport:
    return WorkerReport(
        name=name,
        device=runtime.device,
        runtime=runtime.name,
        styles=catalog.style_infos(),
        upscalers=catalog.upscaler_infos(),
    )


def _serve_metrics(settings: WorkerSettings, catalog: Catalog) -> WorkerMetrics:
    metrics = WorkerMetrics()
    metrics.models.labels("stylize").set(len(catalog.styles))
    metrics.models.labels("upscale").set(len(catalog.upscalers))
    if settings.metrics_port:
        try:
            metrics.serve(settings.metrics_host, settings.metrics_port)
        except OSError as error:
            raise StartError(f"The metrics port {settings.metrics_port} cannot be used: {error.strerror}.") from error
    return metrics


if __name__ == "__main__":
    sys.exit(main())

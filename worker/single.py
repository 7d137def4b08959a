"""One worker on one device, in this process."""

import errno
import logging
import os
import signal
import socket
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from worker.catalog import Catalog, ZooLoader
from worker.codec import CODEC_THREADS
from worker.connection import connect, retry_until_available
from worker.consumer import BatchWorker
from worker.contract import WorkerReport
from worker.device_memory import memory_of
from worker.errors import PassingZooError, StartError
from worker.gpu_jpeg import QuickJpeg, find_quick_jpeg
from worker.live_catalog import LiveCatalog
from worker.metrics import WorkerMetrics
from worker.pipeline import PicturePipeline
from worker.report import Reporter
from worker.runtimes import Runtime
from worker.settings import WorkerSettings
from worker.vitals import Pulse
from worker.watchdog import Watchdog
from worker.workbench import check_trunk, open_engine, open_runtime

log = logging.getLogger("worker")


def run(settings: WorkerSettings, runtime: Runtime | None = None) -> None:
    """Loads the zoo, then works until SIGTERM or SIGINT, on `runtime` or the one that the settings say.

    Raises `StartError` or `ZooError`.
    """
    _leave_on_signals()
    runtime = runtime or open_runtime(settings)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    connection = connect(settings.redis_url)
    report = WorkerReport(name=name, device=runtime.device, runtime=runtime.name, styles=(), upscalers=())
    reporter = Reporter(connection, report)
    metrics = WorkerMetrics()
    catalog = LiveCatalog(ZooLoader(runtime, settings.trunk), settings.zoo_dir, metrics, reporter.publish)
    check_zoo(settings, catalog.current)
    metrics.watch(memory_of(runtime.gpu))
    pulse = Pulse()
    _serve(metrics, settings, pulse)
    engine = open_engine(settings, metrics.count_retry, metrics.busy.inc)
    engine.measure(catalog.current.models())
    # The queue's own classes ask Redis for something at once, and would end the worker if it is not up yet.
    retry_until_available(connection.ping, threading.Event(), 0)
    with ThreadPoolExecutor(CODEC_THREADS, "codec") as codec:
        delay_s = settings.max_batch_delay_ms / 1000
        quick_jpeg = _find_quick_jpeg(settings, runtime, codec)
        pipeline = PicturePipeline(
            catalog,
            engine,
            codec,
            metrics,
            settings.max_batch,
            delay_s,
            quick_jpeg=quick_jpeg,
            batches_at_once=runtime.batches_at_once,
            as_one_px=runtime.as_one_px,
        )
        worker = BatchWorker(connection, pipeline, name, metrics, pulse)
        worker.stop_on_signals()
        watchdog = Watchdog(lambda: engine.busy_since, settings.device_timeout_s)
        for companion in (reporter, catalog, watchdog):
            companion.start()
        served = catalog.current
        log.info("%s serves %d styles and %d upscalers.", runtime.device, len(served.styles), len(served.upscalers))
        worker.run()
        for companion in (watchdog, catalog, reporter):
            companion.stop()


def check_zoo(settings: WorkerSettings, catalog: Catalog) -> None:
    """Raises `StartError` for a zoo that leaves nothing to serve; ends this process if a passing fault is why."""
    try:
        if catalog.is_empty:
            raise StartError(f"The zoo {settings.zoo_dir} holds nothing that can be served: set IMPASTO_ZOO_DIR.")
        check_trunk(settings, catalog)
    except StartError as error:
        if not any(isinstance(refusal, PassingZooError) for refusal in catalog.refused):
            raise
        # Not the status of a worker that had better not be started again.
        log.error("%s Memory or a disk is to blame, as the warnings above say: that may pass.", error)
        sys.exit(os.EX_TEMPFAIL)


def _find_quick_jpeg(settings: WorkerSettings, runtime: Runtime, codec: ThreadPoolExecutor) -> QuickJpeg | None:
    if runtime.gpu is None or not settings.gpu_jpeg:
        return None
    return find_quick_jpeg(runtime.gpu, codec, CODEC_THREADS)


def _leave_on_signals() -> None:
    """As long as no job is in hand there is nothing to finish. A container's first process would ignore SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


def _serve(metrics: WorkerMetrics, settings: WorkerSettings, pulse: Pulse) -> None:
    """Raises `StartError` for an address that will never do; ends this process if the port may be free later."""
    if not settings.metrics_port:
        return
    try:
        metrics.serve(settings.metrics_host, settings.metrics_port, pulse)
    except OSError as error:
        said = f"The metrics port {settings.metrics_port} cannot be used: {error.strerror}."
        if error.errno != errno.EADDRINUSE:
            raise StartError(said) from error
        # A worker whose pool was killed has it until its batch is done, and this one may be that pool's successor.
        log.error("%s Another worker may still have it; else set IMPASTO_METRICS_PORT.", said)
        sys.exit(os.EX_TEMPFAIL)

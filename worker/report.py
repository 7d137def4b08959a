"""Tells the service, through Redis, that this worker lives and what it serves."""

import threading
import time

from redis import Redis

from worker.catalog import Catalog
from worker.connection import passing_over_redis_errors
from worker.contract import HEARTBEAT_S, WORKER_TTL_S, WorkerReport, preview_key, worker_key, workers_key

PREVIEW_TTL_S = 3600


class Reporter:
    """Reports every `HEARTBEAT_S` seconds from a thread."""

    def __init__(self, connection: Redis, report: WorkerReport, catalog: Catalog) -> None:
        self._connection = connection
        self._report = report
        self._catalog = catalog
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Sends the first report from the thread as well, so that Redis being away stops nobody."""
        self._thread.start()

    def stop(self) -> None:
        """Takes the worker off the list."""
        self._stop.set()
        self._thread.join()
        with passing_over_redis_errors(), self._connection.pipeline() as pipe:
            pipe.zrem(workers_key(), self._report.name)
            pipe.delete(worker_key(self._report.name))
            pipe.execute()

    def _run(self) -> None:
        while True:
            with passing_over_redis_errors():
                self._send()
            if self._stop.wait(HEARTBEAT_S):
                return

    def _send(self) -> None:
        now = time.time()
        with self._connection.pipeline() as pipe:
            pipe.set(worker_key(self._report.name), self._report.to_json(), ex=WORKER_TTL_S)
            pipe.zadd(workers_key(), {self._report.name: now})
            pipe.zremrangebyscore(workers_key(), 0, now - WORKER_TTL_S)
            pipe.execute()
        self._keep_previews()

    def _keep_previews(self) -> None:
        """Prolongs the previews that Redis has, and sends only those that it lacks."""
        previews = {
            preview_key(style.card.digest): style.preview
            for style in self._catalog.styles.values()
            if style.preview is not None
        }
        with self._connection.pipeline() as pipe:
            for key in previews:
                pipe.expire(key, PREVIEW_TTL_S)
            for (key, preview), kept in zip(previews.items(), pipe.execute(), strict=True):
                if not kept:
                    pipe.set(key, preview, ex=PREVIEW_TTL_S)
            pipe.execute()

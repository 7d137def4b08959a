"""Tells the service, through Redis, that this worker lives and what it serves."""

import threading
from collections.abc import Mapping, Set
from dataclasses import replace

from redis import Redis
from redis.exceptions import RedisError

from worker.catalog import Catalog
from worker.connection import passing_over_redis_errors
from worker.contract import HEARTBEAT_S, WORKER_TTL_S, WorkerReport, preview_key, worker_key, workers_key

PREVIEW_TTL_S = 3600

_PRESENT = """
local now, name, report, ttl = tonumber(redis.call('TIME')[1]), ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now - ttl)
redis.call('ZADD', KEYS[2], now, name)
redis.call('SET', KEYS[1], report, 'EX', ttl)
for at = 3, #KEYS do redis.call('DEL', KEYS[at]) end
"""
"""By Redis's clock, as the workers' own may differ, and one that is ahead would take all others for dead. A Redis that
is full refuses what takes memory, except in a script that has written before: so it begins with what takes none. Else
all workers would be taken for dead as long as it is full."""


class Reporter:
    """Reports from a thread, every `HEARTBEAT_S` seconds and whenever what is served changes."""

    def __init__(self, connection: Redis, report: WorkerReport) -> None:
        """`report`: who the worker is."""
        self._connection = connection
        self._present = connection.register_script(_PRESENT)
        self._report = report
        self._previews: dict[str, bytes] = {}
        """By key."""
        self._outdated: set[str] = set()
        """Keys of previews that Redis may have and that must be written again or removed."""
        self._changing = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Sends the first report from the thread as well, so that Redis being away stops nobody."""
        self._thread.start()

    def publish(self, catalog: Catalog) -> None:
        """What the worker serves from now on; sent at once."""
        previews = {
            preview_key(style.card.digest): style.preview
            for style in catalog.styles.values()
            if style.preview is not None
        }
        with self._changing:
            self._outdated |= {key for key, preview in self._previews.items() if previews.get(key) != preview}
            self._previews = previews
            self._report = replace(self._report, styles=catalog.style_infos(), upscalers=catalog.upscaler_infos())
        self._wake.set()

    def stop(self) -> None:
        """Takes the worker off the list."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        with passing_over_redis_errors(), self._connection.pipeline() as pipe:
            pipe.zrem(workers_key(), self._report.name)
            pipe.delete(worker_key(self._report.name))
            pipe.execute()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            with passing_over_redis_errors():
                self._send()
            self._wake.wait(HEARTBEAT_S)

    def _send(self) -> None:
        with self._changing:
            report, previews, outdated, self._outdated = self._report, self._previews, self._outdated, set()
        try:
            try:
                # Before the report that speaks of them.
                self._keep(previews, outdated)
            finally:
                # A Redis that has no room for a picture has it for a worker.
                self._report_presence(report, gone=outdated - previews.keys())
        except RedisError:
            with self._changing:
                self._outdated |= outdated
            raise

    def _keep(self, previews: Mapping[str, bytes], outdated: Set[str]) -> None:
        """Prolongs the previews that Redis has, and sends only those that it lacks or has an older picture of."""
        with self._connection.pipeline() as pipe:
            for key in previews:
                pipe.expire(key, PREVIEW_TTL_S)
            for (key, preview), kept in zip(previews.items(), pipe.execute(), strict=True):
                if not kept or key in outdated:
                    pipe.set(key, preview, ex=PREVIEW_TTL_S)
            pipe.execute()

    def _report_presence(self, report: WorkerReport, gone: Set[str]) -> None:
        # Should another worker still serve a preview that is gone, that one sends it again with its next report.
        keys = [worker_key(report.name), workers_key(), *gone]
        self._present(keys=keys, args=[report.name, report.to_json(), WORKER_TTL_S])

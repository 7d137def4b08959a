"""How others see from outside that a worker lives: its pulse, and the address that Prometheus and probes ask."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

MISSED_S = 60.0
"""Seconds without a beat after which a worker counts as dead. A Redis that says nothing delays one by half of it."""

SILENT_S = 10.0
"""Longest wait for a client to send or to take something."""


class Pulse:
    """When a worker last gave a sign of life. One that has not begun to work is warm and waits for Redis: it lives."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_at: float | None = None

    def beat(self) -> None:
        """A sign of life."""
        self._beat_at = self._clock()

    @property
    def age_s(self) -> float:
        """Seconds since the last one; 0 before the first."""
        return 0.0 if self._beat_at is None else self._clock() - self._beat_at

    @property
    def is_alive(self) -> bool:
        """Whether the last one is recent."""
        return self.age_s < MISSED_S


def serve_vitals(registry: CollectorRegistry, pulse: Pulse, host: str, port: int) -> int:
    """Answers `GET /metrics` and `GET /livez` from a thread, for as long as the process runs. Returns the port.

    `/livez` is 200 while the pulse beats, else 503. Raises `OSError` if the port is taken.
    """
    app = _with_livez(make_wsgi_app(registry), pulse)
    server = make_server(host, port, app, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="vitals", daemon=True).start()
    return server.server_port


def _with_livez(metrics: "WSGIApplication", pulse: Pulse) -> "WSGIApplication":
    def app(environment: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environment["PATH_INFO"] != "/livez":
            return metrics(environment, start)
        start("200 OK" if pulse.is_alive else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [f"The last sign of life is {pulse.age_s:.1f} s old.\n".encode()]

    return app


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: a scrape that hangs holds no probe up."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Logs nothing, and lets go of who says nothing: a process may have so many connections and no more."""

    timeout = SILENT_S

    def handle(self) -> None:
        """Answers one request."""
        with suppress(TimeoutError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody wants a line for every scrape."""

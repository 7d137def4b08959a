"""The proxy's own limits, before a backend that only sends."""

import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.deploy.topology import answers_at, make_proxy, wait_until
from tests.redis_server import free_port

SIZE = 64 * 2**20
"""Bytes of an answer. The sockets between backend and client hold some 20 MB at most, and the proxy's memory 1 MB."""

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx on the PATH")


class Answers(BaseHTTPRequestHandler):
    """Says `SIZE` bytes to everybody, and the server notes whose have all been taken."""

    protocol_version = "HTTP/1.1"
    server: "Backend"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.wfile.write(bytes(SIZE))
        self.server.taken.append(self.path)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Backend(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.taken: list[str] = []


@contextmanager
def backend() -> Iterator[Backend]:
    with Backend() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def proxy_before(server: Backend, folder: Path) -> Iterator[int]:
    """Gives its port."""
    port = free_port()
    proxy = make_proxy(folder, port, [server.server_port])
    proxy.start()
    try:
        wait_until(lambda: answers_at(f"http://127.0.0.1:{port}/"), "the proxy answers", [proxy])
        yield port
    finally:
        proxy.send(signal.SIGTERM)
        proxy.wait()


def test_who_reads_slowly_fills_no_file(tmp_path: Path) -> None:
    """Files would take in the whole answer, until the disk is full and others' answers are cut short."""
    with (
        backend() as server,
        proxy_before(server, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port)) as slow,
    ):
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
        slow.recv(1, socket.MSG_PEEK)
        for _ in range(3):
            assert len(httpx.get(f"http://127.0.0.1:{port}/quick").content) == SIZE
        assert "/slow" not in server.taken
        # Read at last, it is whole.
        answer = HTTPResponse(slow)
        answer.begin()
        assert len(answer.read()) == SIZE

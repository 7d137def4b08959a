"""The proxy's own limits, before a backend that does nothing but send and receive."""

import json
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.deploy.compose import DEPLOY, services
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

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        while length > 0 and (part := self.rfile.read(min(length, 2**20))):
            length -= len(part)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

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


def slow_upload(port: int, length: str, address: str = "127.0.0.1") -> socket.socket:
    """One that waits to be told to go on, and then says nothing. It counts before it is told."""
    slow = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
    slow.sendall(f"POST /stylize HTTP/1.1\r\nHost: proxy\r\nExpect: 100-continue\r\n{length}\r\n\r\n".encode())
    return slow


def is_taken(upload: socket.socket) -> bool:
    return upload.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 100"


@pytest.mark.parametrize(
    ("length", "most"),
    [
        ("Content-Length: 60000000", 8),
        ("Transfer-Encoding: chunked", 8),
        ("Content-Length: 9999999", 64),
        ("Content-Length: 999999", 256),
    ],
)
def test_nobody_can_fill_the_room_for_uploads_alone(length: str, most: int, tmp_path: Path) -> None:
    with backend() as server, proxy_before(server, tmp_path) as port, ExitStack() as slow:
        for _ in range(most):
            assert is_taken(slow.enter_context(slow_upload(port, length)))
        with slow_upload(port, length) as another:
            assert not is_taken(another)
            answer = HTTPResponse(another)
            answer.begin()
            problem = json.loads(answer.read())
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert (problem["type"], problem["status"]) == ("urn:impasto:problem:too-many-requests", 429)
        # Others are not held up, nor this one's usual pictures, nor its questions.
        with slow_upload(port, length, "127.0.0.2") as other:
            assert is_taken(other)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.post("/stylize", content=bytes(90_000)).status_code == 200
            assert client.get("/livez").status_code == 200


def first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, pattern
    return match[1]


def test_uploads_that_are_answered_do_not_count(tmp_path: Path) -> None:
    with backend() as server, proxy_before(server, tmp_path) as port:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            statuses = {client.post("/stylize", content=bytes(10_000_000)).status_code for _ in range(12)}
        assert statuses == {200}


def test_all_that_an_address_may_upload_at_a_time_leaves_room_for_others() -> None:
    config = (DEPLOY / "proxy" / "nginx.conf").read_text()
    most = {size: int(count) for size, count in re.findall(r"limit_conn (\w+)_uploads (\d+);", config)}
    largest = int(first(r"client_max_body_size (\d+)m", config)) * 2**20
    filled = most["large"] * largest + most["medium"] * 10**7 + most["small"] * 10**6
    (tmp,) = services()["proxy"]["tmpfs"]
    assert filled < 0.75 * int(first(r"size=(\d+)g", tmp)) * 2**30


def test_an_upload_that_finds_no_room_is_told_so(tmp_path: Path) -> None:
    """And not that there is no API, which was never asked."""
    with backend() as server, proxy_before(server, tmp_path) as port:
        shutil.rmtree(tmp_path / "proxy" / "uploads")
        answer = httpx.post(f"http://127.0.0.1:{port}/stylize", content=bytes(1_000_000))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:impasto:problem:queue-full"


def test_that_there_is_no_api_is_said_too(tmp_path: Path) -> None:
    with backend() as server, proxy_before(server, tmp_path) as port:
        server.shutdown()
        server.server_close()
        answer = httpx.get(f"http://127.0.0.1:{port}/styles")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["type"] == "urn:impasto:problem:no-api"

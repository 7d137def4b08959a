"""What surrounds a picture on its way: addresses, headers, trailers, requests ahead of it, offers, slow readers."""

import json
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path

import pytest
from redis import Redis

from service import server
from service.http_limits import MAX_FIELD_BYTES, MAX_FIELDS, MAX_PIPELINED
from tests.service.stand_in import PAINTED, QUEUE_KEY, Answer, StandIn, finished, report
from tests.service.support import encode, listening
from worker.contract import Job

JPEG = encode("JPEG")
PADDED = JPEG + bytes(400_000 - len(JPEG))
PAINT = b"POST /stylize?style=candy HTTP/1.1\r\nHost: impasto\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: impasto\r\n\r\n"
LAST_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: impasto\r\nConnection: close\r\n\r\n"
MANY_FIELDS = b"a:b\r\n" * 10_000
LONG_FIELD = b"a" * 50_000
FAR_TOO_MUCH = 50_000_000
"""Bytes that are more than all buffers between a client and a server that does not read them."""


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20)
        yield client


def rest(client: socket.socket) -> bytes:
    """What comes until the service hangs up."""
    return b"".join(iter(lambda: client.recv(1 << 20), b""))


def send_until_answered(client: socket.socket, piece: bytes) -> None:
    """Sends the piece again and again."""
    for _ in range(FAR_TOO_MUCH // len(piece)):
        readable, _, _ = select.select([client], [client], [], 20)
        if readable:
            return
        client.send(piece)
    pytest.fail("the service takes anything")


def problem(answer: bytes) -> tuple[int, str]:
    """Status and type of an answer that is a problem, and nothing else."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.lower().split(b"\r\n")
    assert {b"content-type: application/problem+json", b"connection: close"} <= set(fields)
    assert b"content-length: %d" % len(body) in fields
    document = json.loads(body)
    assert status.split()[1] == str(document["status"]).encode()
    return document["status"], document["type"].removeprefix("urn:impasto:problem:")


ENDLESS = {
    "address": (b"GET /", LONG_FIELD),
    "headers": (b"GET /livez HTTP/1.1\r\n", MANY_FIELDS),
    "header": (b"GET /livez HTTP/1.1\r\nX: ", LONG_FIELD),
    "name": (b"GET /livez HTTP/1.1\r\n", LONG_FIELD),
    "trailers": (PAINT + CHUNKED + b"1\r\nx\r\n0\r\n", MANY_FIELDS),
    "trailer": (PAINT + CHUNKED + b"1\r\nx\r\n0\r\nX: ", LONG_FIELD),
    "chunk extension": (PAINT + CHUNKED + b"1\r\nx\r\n1;x=", LONG_FIELD),
}


@pytest.mark.parametrize(("begin", "piece"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_never_ends_is_refused(redis: Redis, redis_url: str, begin: bytes, piece: bytes) -> None:
    report(redis)
    with listening(redis_url) as port, connected(port) as client:
        client.sendall(begin)
        send_until_answered(client, piece)
        answer = rest(client)
    expected = (414, "url-too-long") if piece is LONG_FIELD and begin == b"GET /" else (431, "headers-too-large")
    assert problem(answer) == expected


def padding(count: int, size: int) -> bytes:
    """So many headers that are so large together."""
    return b"".join(b"%03d:%s\r\n" % (number, b"x" * (size // count - 3)) for number in range(count))


@pytest.mark.parametrize(
    ("count", "size", "status"),
    [
        (MAX_FIELDS - 2, MAX_FIELDS * 100, b"200"),
        (MAX_FIELDS - 1, MAX_FIELDS * 100, b"431"),
        (2, MAX_FIELD_BYTES - 100, b"200"),
        (2, MAX_FIELD_BYTES + 100, b"431"),
    ],
)
def test_headers_are_taken_up_to_a_limit(redis_url: str, count: int, size: int, status: bytes) -> None:
    begin = LAST_LIVEZ.removesuffix(b"\r\n")  # with two headers
    with listening(redis_url) as port, connected(port) as client:
        client.sendall(begin + padding(count, size) + b"\r\n")
        assert rest(client).startswith(b"HTTP/1.1 %b " % status)


def test_each_request_of_a_connection_may_have_as_many_headers(redis_url: str) -> None:
    request = LIVEZ.removesuffix(b"\r\n") + padding(MAX_FIELDS // 2, 40_000) + b"\r\n"
    with listening(redis_url) as port, connected(port) as client:
        client.sendall(request * 4 + LAST_LIVEZ)
        assert rest(client).count(b"HTTP/1.1 200 ") == 5


def test_trailers_count_with_the_headers_and_are_no_headers(redis: Redis, redis_url: str) -> None:
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(JPEG), JPEG)
    request = PAINT + b"Connection: close\r\n" + padding(100, 10_000) + CHUNKED + chunks
    with StandIn(redis), listening(redis_url) as port:
        with connected(port) as client:
            client.sendall(request + padding(90, 10_000) + b"\r\n")
            assert rest(client).startswith(b"HTTP/1.1 200 ")
        with connected(port) as client:
            client.sendall(request + padding(101, 10_000) + b"\r\n")
            assert problem(rest(client)) == (431, "headers-too-large")


def test_an_upload_in_very_small_chunks_is_taken(redis: Redis, redis_url: str) -> None:
    upload = PADDED[: 2 * MAX_FIELD_BYTES]
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in upload)
    with StandIn(redis), listening(redis_url) as port, connected(port) as client:
        client.sendall(PAINT + b"Connection: close\r\n" + CHUNKED + chunks + b"0\r\n\r\n")
        assert rest(client).endswith(PAINTED)


def test_who_is_refused_in_its_trailers_is_not_waited_for(redis: Redis, redis_url: str) -> None:
    report(redis)
    with listening(redis_url, upload_timeout_s=600) as port:
        with connected(port) as client:
            client.sendall(PAINT + b"Expect: 100-continue\r\n" + CHUNKED)
            assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
            client.sendall(b"1\r\nx\r\n0\r\n" + MANY_FIELDS)
            assert problem(rest(client)) == (431, "headers-too-large")
        for _ in range(1000):
            with connected(port) as client:
                client.sendall(LAST_LIVEZ.replace(b"/livez", b"/metrics"))
                if b'status="499"' in rest(client):
                    return
    pytest.fail("the upload is still waited for")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 as TLS begins", "malformed-request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "malformed-request"),
        (b"CONNECT impasto.example:80 HTTP/1.1\r\nHost: impasto.example\r\n\r\n", "malformed-request"),
        (PAINT + CHUNKED + b"no length\r\n", "malformed-request"),
    ],
    ids=["TLS", "HTTP/2", "CONNECT", "chunk"],
)
def test_what_is_not_http_is_refused_with_a_problem(redis: Redis, redis_url: str, sent: bytes, name: str) -> None:
    report(redis)
    with listening(redis_url) as port, connected(port) as client:
        client.sendall(sent)
        assert problem(rest(client)) == (400, name)


def test_a_refusal_does_not_get_into_another_answer(redis: Redis, redis_url: str) -> None:
    report(redis)
    with listening(redis_url) as port, connected(port) as client:
        client.sendall(PAINT + b"Content-Length: %d\r\n\r\n" % len(JPEG) + JPEG)
        assert redis.blmove(QUEUE_KEY, QUEUE_KEY, 20, "LEFT", "LEFT")  # the picture is waited for
        client.sendall(b"nonsense\r\n\r\n")
        assert rest(client) == b""


def test_a_request_is_answered_once(redis_url: str) -> None:
    with listening(redis_url) as port, connected(port) as client:
        client.sendall(b"POST /livez HTTP/1.1\r\nHost: impasto\r\n" + CHUNKED)
        assert client.recv(1 << 20).startswith(b"HTTP/1.1 405 ")
        client.sendall(b"1\r\nx\r\n0\r\n" + MANY_FIELDS)
        with suppress(ConnectionResetError):  # the rest of the trailers was not read
            assert rest(client) == b""


@pytest.mark.parametrize("ahead", [MAX_PIPELINED, MAX_PIPELINED + 1])
def test_requests_sent_ahead_are_bounded(redis: Redis, redis_url: str, ahead: int) -> None:
    with StandIn(redis), listening(redis_url) as port, connected(port) as client:
        picture = PAINT + b"Content-Length: %d\r\n\r\n" % len(JPEG) + JPEG
        client.sendall(picture + LIVEZ * (ahead - 1) + LAST_LIVEZ)
        answers = rest(client)
    assert answers.count(b"HTTP/1.1 200 ") == (ahead + 1 if ahead == MAX_PIPELINED else 0)


LENGTH = b"Content-Length: %d\r\n\r\n" % len(PADDED)
FRAMED = {
    "length": (LENGTH, PADDED),
    "small": (b"Content-Length: %d\r\n\r\n" % len(JPEG), JPEG),
    "chunks": (
        CHUNKED,
        b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (JPEG, bytes(400_000))) + b"0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("is_apart", [False, True], ids=["with its head", "after its head"])
@pytest.mark.parametrize(("framing", "body"), FRAMED.values(), ids=FRAMED.keys())
def test_the_offer_of_another_protocol_costs_no_body(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture, framing: bytes, body: bytes, is_apart: bool
) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    with StandIn(redis), listening(redis_url) as port, connected(port) as client:
        for _ in range(2):  # the connection goes on after it
            if is_apart:
                client.sendall(PAINT + offer + b"Expect: 100-continue\r\n" + framing)
                assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
                client.sendall(body)
            else:
                client.sendall(PAINT + offer + framing + body)
            answer = b""
            while not answer.endswith(PAINTED):
                answer += client.recv(1 << 20)
            assert answer.startswith(b"HTTP/1.1 200 ")
        client.sendall(LAST_LIVEZ)
        assert rest(client).startswith(b"HTTP/1.1 200 ")
    assert not [record for record in caplog.records if record.name == "uvicorn.error" and record.levelname == "WARNING"]


def test_requests_that_offer_another_protocol_may_follow_each_other(redis_url: str) -> None:
    offered = LIVEZ.removesuffix(b"\r\n") + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with listening(redis_url) as port, connected(port) as client:
        client.sendall(offered * 5 + LAST_LIVEZ)
        assert rest(client).count(b"HTTP/1.1 200 ") == 6


def _curl_can_offer_http2() -> bool:
    curl = shutil.which("curl")
    return curl is not None and b"HTTP2" in subprocess.run([curl, "--version"], capture_output=True, check=True).stdout


@pytest.mark.skipif(not _curl_can_offer_http2(), reason="curl without HTTP/2")
@pytest.mark.parametrize("framing", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunks"])
@pytest.mark.parametrize("size", [len(JPEG), 2_000_000])
def test_curl_may_offer_http2(redis: Redis, redis_url: str, tmp_path: Path, framing: list[str], size: int) -> None:
    photo, painted = tmp_path / "photo.jpg", tmp_path / "painted"
    photo.write_bytes(JPEG + bytes(size - len(JPEG)))
    with StandIn(redis) as worker, listening(redis_url) as port:
        url = f"http://127.0.0.1:{port}/stylize?style=candy"
        curl = ["curl", "--http2", "-sS", "--max-time", "20", "-o", str(painted), "-w", "%{http_code}", *framing]
        done = subprocess.run([*curl, "--data-binary", f"@{photo}", url], capture_output=True, check=True)
        assert worker.jobs.get(timeout=20)
    assert (done.stdout, painted.read_bytes()) == (b"200", PAINTED)


def huge(job: Job, data: bytes) -> Answer:
    """A picture that no socket's buffers hold."""
    return finished(job, data)[0], bytes(30_000_000)


def test_what_the_kernel_has_sent_counts_as_read(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its buffers take more of an answer only when a large part of them is empty, which takes a slow client minutes."""
    enough = server.LEAST_READ_BYTES * 3 // 2
    may_look, looks = threading.Semaphore(1), threading.Semaphore(0)
    unread_bytes = server.WholeAnswers.unread_bytes

    def look_when_the_client_has_read(answers: server.WholeAnswers) -> int:
        assert may_look.acquire(timeout=20)
        looks.release()
        return unread_bytes(answers)

    monkeypatch.setattr(server, "UNREAD_S", 0.05)
    monkeypatch.setattr(server.WholeAnswers, "unread_bytes", look_when_the_client_has_read)
    with StandIn(redis, huge), listening(redis_url) as port, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.settimeout(20)
        client.connect(("127.0.0.1", port))
        client.sendall(PAINT + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(JPEG) + JPEG)
        received = 0
        for _ in repeat(None, 4):
            assert looks.acquire(timeout=20)
            received += len(client.recv(enough, socket.MSG_WAITALL))
            may_look.release(2)  # at what was read, and for the next time
            assert looks.acquire(timeout=20)
        received += len(client.recv(enough, socket.MSG_WAITALL))
        monkeypatch.setattr(server, "UNREAD_S", 60)  # a busy machine is no slow client
        may_look.release(1_000_000)
        assert received + len(rest(client)) > 30_000_000

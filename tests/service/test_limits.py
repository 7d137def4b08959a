"""What one client, or many at once, cannot do to the service."""

import asyncio
import itertools
import queue
import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx
import pytest
from redis import Redis
from starlette.types import Receive, Scope, Send

from service import app, broker, server
from service.answers import HeldPicture
from service.app import create_app
from service.broker import Broker
from service.jobs import JobQueue
from service.rate_limit import client_of_address, client_of_key
from tests.redis_server import RedisServer
from tests.service.stand_in import BULK_KEY, PAINTED, QUEUE_KEY, Answer, StandIn, finished, report
from tests.service.support import encode, listening, port_of, running_server, serving, settings
from worker.contract import Job, held_bytes_key, held_key, rate_key

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")
PADDED = JPEG + bytes(400_000 - len(JPEG))
PAINT = "/stylize?style=candy"
ASYNC = {"Prefer": "respond-async"}
FULL = "urn:impasto:problem:queue-full"


async def test_no_more_jobs_wait_than_may_however_many_come_at_once(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url, max_queue=10) as first, serving(redis_url, max_queue=10) as second:
        calls = [client.post(PAINT, content=JPEG, headers=ASYNC) for client in (first, second) for _ in range(15)]
        responses = await asyncio.gather(*calls)
    assert sorted(response.status_code for response in responses) == [202] * 10 + [503] * 20
    assert {response.json()["type"] for response in responses if response.status_code == 503} == {FULL}
    assert redis.llen(BULK_KEY) == 10
    assert len(list(redis.scan_iter("impasto:input:*"))) == len(list(redis.scan_iter("rq:job:*"))) == 10


async def test_a_full_bulk_lane_leaves_the_interactive_one_open(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url, max_queue=2) as client:
        for _ in range(2):
            assert (await client.post(PAINT, content=JPEG, headers=ASYNC)).status_code == 202
        assert (await client.post(PAINT, content=JPEG, headers=ASYNC)).json()["type"] == FULL
        with StandIn(redis):
            assert (await client.post(PAINT, content=JPEG)).status_code == 200


async def test_uploads_that_wait_are_bounded_in_bytes(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url, max_upload_mb=0.5, max_queue_mb=1) as client:
        first = await client.post(PAINT, content=PADDED, headers=ASYNC)
        second = await client.post(PAINT, content=PADDED, headers=ASYNC)
        small = await client.post(PAINT, content=JPEG, headers=ASYNC)
        # A quarter of the bytes is kept for those who wait for their answer.
        held = asyncio.create_task(client.post(PAINT, content=PADDED))
        job_id = await asyncio.to_thread(redis.blmove, QUEUE_KEY, QUEUE_KEY, 20, "LEFT", "LEFT")
        assert isinstance(job_id, bytes)
        third = await client.post(PAINT, content=PADDED)
        await client.delete(f"/jobs/{job_id.decode()}")
        await held
    assert [first.status_code, second.status_code, small.status_code] == [202, 503, 202]
    assert second.json()["type"] == third.json()["type"] == FULL
    assert 1 <= int(second.headers["retry-after"]) <= 120


async def test_results_that_nobody_fetches_count_until_they_are_gone(redis: Redis, redis_url: str) -> None:
    def answer(job: Job, data: bytes) -> Answer:
        return finished(job, data)[0], bytes(400_000)

    with StandIn(redis, answer):
        async with serving(redis_url, max_upload_mb=0.5, max_queue_mb=1) as client:
            kept = await client.post(PAINT, content=JPEG, headers=ASYNC)
            await client.post(PAINT, content=JPEG)  # answered in turn: the first is closed
            refused = await client.post(PAINT, content=PADDED, headers=ASYNC)
            assert (await client.delete(kept.headers["location"])).status_code == 204
            taken = await client.post(PAINT, content=PADDED, headers=ASYNC)
    assert (refused.status_code, refused.json()["type"]) == (503, FULL)
    assert taken.status_code == 202


async def test_results_count_before_they_are_there(redis: Redis, redis_url: str) -> None:
    report(redis)
    large = encode("JPEG", (640, 480))  # 2560 x 1920 px as PNG: about 10 MB
    async with serving(redis_url, max_upload_mb=0.5, max_queue_mb=20) as client:
        path = "/upscale?factor=4&format=png"
        statuses = [(await client.post(path, content=large, headers=ASYNC)).status_code for _ in range(2)]
        assert (await client.post(path, content=JPEG, headers=ASYNC)).status_code == 202
    assert statuses == [202, 503]


async def test_a_result_larger_than_the_queue_may_be_is_taken_by_an_empty_one(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url, max_upload_mb=0.5, max_queue_mb=1) as client:
        large = encode("JPEG", (640, 480))
        taken = await client.post("/upscale?factor=4&format=png", content=large, headers=ASYNC)
    assert taken.status_code == 202


async def test_results_are_not_fetched_by_more_than_memory_allows(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "FETCHED_BYTES", len(PAINTED) + 1)
    first_has_it = asyncio.Event()
    go_on = asyncio.Event()
    fetch = JobQueue.picture

    async def fetch_slowly(queue: JobQueue, job_id: str) -> bytes:
        first_has_it.set()
        await go_on.wait()
        return await fetch(queue, job_id)

    monkeypatch.setattr(JobQueue, "picture", fetch_slowly)
    with StandIn(redis):
        async with serving(redis_url) as client:
            job_url = (await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"]
            await client.post(PAINT, content=JPEG)  # answered in turn: the first is closed
            first = asyncio.create_task(client.get(f"{job_url}/result"))
            await first_has_it.wait()
            refused = await client.get(f"{job_url}/result")
            assert (await client.post(PAINT, content=JPEG)).status_code == 200, "new pictures do not wait for fetchers"
            go_on.set()
            assert (await first).content == PAINTED
            assert (await client.get(f"{job_url}/result")).content == PAINTED
    assert (refused.status_code, refused.json()["type"]) == (503, FULL)
    assert refused.headers["retry-after"] == "5"


async def test_pictures_that_clients_have_not_read_yet_are_bounded(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ANSWERS_BYTES", len(PAINTED))
    is_sent, go_on = asyncio.Event(), asyncio.Event()
    send_picture = HeldPicture.__call__

    async def send_to_a_slow_client(picture: HeldPicture, scope: Scope, receive: Receive, send: Send) -> None:
        is_sent.set()
        await go_on.wait()
        await send_picture(picture, scope, receive, send)

    monkeypatch.setattr(HeldPicture, "__call__", send_to_a_slow_client)
    with StandIn(redis):
        async with serving(redis_url) as client:
            first = asyncio.create_task(client.post(PAINT, content=JPEG))
            await is_sent.wait()
            refused = await client.post(PAINT, content=JPEG)
            go_on.set()
            assert (await first).content == PAINTED
            assert (await client.post(PAINT, content=JPEG)).content == PAINTED
    assert (refused.status_code, refused.json()["type"]) == (503, FULL)


async def test_the_count_of_bytes_does_not_drift(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            for _ in range(3):
                await asyncio.gather(*(client.post(PAINT, content=JPEG) for _ in range(20)))
    held = {job_id: int(size) for job_id, size in cast("dict[bytes, bytes]", redis.hgetall(held_key())).items()}
    assert int(cast(bytes, redis.get(held_bytes_key()) or b"0")) == sum(held.values())
    assert len(held) < 60


async def test_a_redis_without_memory_is_an_honest_503(own_redis: RedisServer) -> None:
    own_redis.start()
    with own_redis.connect() as connection:
        report(connection)
        async with serving(own_redis.url) as client:
            await client.get("/readyz")
            connection.config_set("maxmemory", 1)
            response = await client.post(PAINT, content=JPEG)
            later = await client.post(PAINT, content=JPEG, headers=ASYNC)
            assert (await client.get("/readyz")).status_code == 200
            metrics = (await client.get("/metrics")).text
    for refused in (response, later):
        assert (refused.status_code, refused.json()["type"]) == (503, FULL)
        assert "memory" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "10"
    assert "impasto_redis_memory_limit_bytes 1.0" in metrics


async def test_uploads_being_read_are_bounded_together(redis: Redis, redis_url: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield PADDED[:300_000]
        begun.set()  # asked for more, so this much has been taken in
        await go_on.wait()
        yield PADDED[300_000:]

    with StandIn(redis):
        async with serving(redis_url, max_upload_mb=0.5, max_queue_mb=0.5) as client:
            slow = asyncio.create_task(client.post(PAINT, content=slowly()))
            await begun.wait()
            refused = await client.post(PAINT, content=PADDED)
            go_on.set()
            assert (await slow).status_code == 200
            assert (await client.post(PAINT, content=PADDED)).status_code == 200
    assert (refused.status_code, refused.json()["type"]) == (503, FULL)
    assert refused.headers["retry-after"] == "5"


async def painted_by(redis_url: str, address: str, times: int, **changes: Any) -> list[httpx.Response]:
    """What a client at that address is answered."""
    app = create_app(settings(redis_url, **changes))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=(address, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://impasto", timeout=30) as client:
            return [await client.post(PAINT, content=JPEG) for _ in range(times)]


async def test_rate_limit_of_an_address_holds_in_all_processes(redis: Redis, redis_url: str) -> None:
    limits = {"rate_limit": 0.01, "rate_burst": 3}
    with StandIn(redis):
        first = await painted_by(redis_url, "192.0.2.7", 2, **limits)
        second = await painted_by(redis_url, "192.0.2.7", 2, **limits)
        other = await painted_by(redis_url, "192.0.2.8", 1, **limits)
    refused = second[1]
    assert [response.status_code for response in first + second + other] == [200, 200, 200, 429, 200]
    assert refused.json()["type"] == "urn:impasto:problem:too-many-requests"
    assert 90 <= int(refused.headers["retry-after"]) <= 100


async def test_retry_after_of_the_rate_limit_is_true(redis: Redis, redis_url: str) -> None:
    limits = {"rate_limit": 0.01, "rate_burst": 1}
    key = rate_key(client_of_address("192.0.2.7"))
    with StandIn(redis):
        used_up = await painted_by(redis_url, "192.0.2.7", 2, **limits)
        retry_after_s = int(used_up[1].headers["retry-after"])
        # As if so much time had passed.
        redis.set(key, int(cast(bytes, redis.get(key))) - (retry_after_s - 20) * 1_000_000)
        early = await painted_by(redis_url, "192.0.2.7", 1, **limits)
        redis.set(key, int(cast(bytes, redis.get(key))) - 20 * 1_000_000)
        later = await painted_by(redis_url, "192.0.2.7", 1, **limits)
    assert [response.status_code for response in used_up + early + later] == [200, 429, 429, 200]
    assert 0 < redis.pttl(key) <= 100_000


async def test_rate_limit_of_an_api_key_follows_the_key(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url, api_keys="first,second", rate_limit=0.01, rate_burst=1) as client:
            codes = [
                (await client.post(PAINT, content=JPEG, headers=headers)).status_code
                for headers in ({"X-API-Key": "first"}, {"Authorization": "Bearer first"}, {"X-API-Key": "second"})
            ]
            unlimited = [(await client.get("/styles")).status_code for _ in range(5)]
    assert codes == [200, 429, 200]
    assert unlimited == [200] * 5
    assert not [key for key in redis.scan_iter("impasto:rate:*") if b"first" in key]


async def test_rate_limit_without_redis_lets_through(own_redis: RedisServer) -> None:
    async with serving(own_redis.url, rate_limit=0.01, rate_burst=1) as client:
        for _ in range(2):
            response = await client.post(PAINT, content=JPEG)
            assert response.json()["type"] == "urn:impasto:problem:queue-unavailable"


def test_names_of_clients() -> None:
    assert client_of_address("2001:db8::1") == client_of_address("2001:db8::ffff:1") != client_of_address("2001:db9::1")
    assert client_of_address("::ffff:192.0.2.1") == client_of_address("192.0.2.1") != client_of_address("192.0.2.2")
    assert client_of_address("") == client_of_address("/run/impasto.sock")
    assert client_of_key("a") != client_of_key("b")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (b"POST /stylize HTTP/1.1\r\nHost: impas", b""),
        (b"GET /livez HTTP/1.1\r\nHost: impasto\r\n\r\nGET /livez HTT", b"HTTP/1.1 200"),
        (b"POST /livez HTTP/1.1\r\nHost: impasto\r\nContent-Length: 1000\r\n\r\nthe rest never comes", b"HTTP/1.1 405"),
    ],
    ids=["silence", "headers", "second headers", "refused upload"],
)
def test_clients_that_do_not_go_on_are_hung_up_on(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes, answered: bytes
) -> None:
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.2)
    with listening(redis_url) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20)
        client.sendall(sent)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer[: len(answered)] == answered
    assert bool(answer) is bool(answered)


def test_empty_lines_after_an_answer_keep_no_connection_open(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.2)
    with listening(redis_url) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20)
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: impasto\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(b"\r\n")
        assert client.recv(65536) == b""


def answered_once(client: socket.socket, request: bytes, rest: bytes) -> None:
    """Sends a request, and the rest of it once it is answered."""
    client.settimeout(3)  # less than uvicorn's own patience
    client.sendall(request)
    assert client.recv(65536).startswith(b"HTTP/1.1 ")
    client.sendall(rest)


ANSWERED = pytest.mark.parametrize(
    ("request_", "rest"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: impasto\r\n\r\n", b""),
        (b"POST /livez HTTP/1.1\r\nHost: impasto\r\nContent-Length: 1000\r\n\r\n", bytes(1000)),
    ],
    ids=["answered", "refused upload"],
)


@ANSWERED
def test_a_balancer_may_keep_its_connections_for_a_minute(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, request_: bytes, rest: bytes
) -> None:
    assert server.KEEP_ALIVE_S > 60
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.2)
    with listening(redis_url) as port, socket.create_connection(("127.0.0.1", port)) as client:
        answered_once(client, request_, rest)
        with socket.create_connection(("127.0.0.1", port)) as silent:
            assert silent.recv(1) == b""  # the limit for headers has passed
        answered_once(client, b"GET /livez HTTP/1.1\r\nHost: impasto\r\n\r\n", b"")


@ANSWERED
def test_connections_that_idle_for_longer_are_closed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, request_: bytes, rest: bytes
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.2)
    with listening(redis_url) as port, socket.create_connection(("127.0.0.1", port)) as client:
        answered_once(client, request_, rest)
        assert client.recv(1) == b""


def test_a_connection_that_was_reset_leaves_nothing_behind(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: queue.Queue[server.ImpatientProtocol] = queue.Queue()
    connection_lost = server.ImpatientProtocol.connection_lost

    def note_loss(protocol: server.ImpatientProtocol, exc: Exception | None) -> None:
        assert exc is not None
        connection_lost(protocol, exc)
        lost.put(protocol)

    monkeypatch.setattr(server.ImpatientProtocol, "connection_lost", note_loss)
    with listening(redis_url) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            answered_once(client, b"GET /livez HTTP/1.1\r\nHost: impasto\r\n\r\n", b"")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert lost.get(timeout=20).timeout_keep_alive_task is None


def huge(job: Job, data: bytes) -> Answer:
    """A picture that no socket's buffers hold."""
    return finished(job, data)[0], bytes(30_000_000)


@contextmanager
def asking_for_a_huge_picture(redis: Redis, redis_url: str) -> Iterator[socket.socket]:
    """A client that has sent its request and not yet read of the answer."""
    head = f"POST {PAINT} HTTP/1.1\r\nHost: impasto\r\nContent-Length: {len(JPEG)}\r\nConnection: close\r\n\r\n"
    with (
        StandIn(redis, huge),
        listening(redis_url) as port,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        client.sendall(head.encode() + JPEG)
        yield client


def test_clients_that_do_not_read_their_answer_are_given_up(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = threading.Event()
    connection_lost = server.ImpatientProtocol.connection_lost

    def note_loss(protocol: server.ImpatientProtocol, exc: Exception | None) -> None:
        connection_lost(protocol, exc)
        lost.set()

    monkeypatch.setattr(server, "UNREAD_S", 0.2)
    monkeypatch.setattr(server.ImpatientProtocol, "connection_lost", note_loss)
    with asking_for_a_huge_picture(redis, redis_url):
        assert lost.wait(20)


def test_clients_that_read_slowly_get_their_answer(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, less = threading.Semaphore(0), itertools.count(30_000_000, -server.LEAST_READ_BYTES)

    def size_by_a_slow_client(_: server.WholeAnswers) -> int:
        looks.release()
        return next(less)

    monkeypatch.setattr(server, "UNREAD_S", 0.01)
    monkeypatch.setattr(server.WholeAnswers, "unread_bytes", size_by_a_slow_client)
    with asking_for_a_huge_picture(redis, redis_url) as client:
        for _ in range(6):
            assert looks.acquire(timeout=20)
        answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert len(answer) > 30_000_000


async def test_who_finds_all_connections_in_use_waits_longer_than_for_a_new_one(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(broker, "CONNECT_TIMEOUT_S", 0.5)
    connected = Broker.connect(redis_url)
    held = connected.pictures.blpop(["nothing"], timeout=1)
    assert not any(await asyncio.gather(held, connected.pictures.get("nothing")))
    await connected.aclose()


async def test_small_commands_do_not_wait_for_pictures(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "MAX_CONNECTIONS", 1)
    connected = Broker.connect(redis_url)
    held = asyncio.ensure_future(connected.pictures.blpop(["picture"], timeout=5))
    await asyncio.sleep(0)  # it takes its connection
    await connected.commands.rpush("picture", "arrived")
    assert await held
    await connected.aclose()


def test_slow_uploads_are_not_hung_up_on_while_they_may_go_on(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.1)
    with (
        StandIn(redis),
        listening(redis_url) as port,
        socket.create_connection(("127.0.0.1", port)) as client,
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        client.settimeout(20)
        head = f"POST {PAINT} HTTP/1.1\r\nHost: impasto\r\nContent-Length: {len(JPEG)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + JPEG[:10])
        silent.recv(1)  # comes back once the limit for headers has passed
        client.sendall(JPEG[10:])
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_proxy_that_is_trusted_tells_the_address(redis: Redis, redis_url: str) -> None:
    limits = {"rate_limit": 0.01, "rate_burst": 1}
    with StandIn(redis):
        for trusted, expected in (("127.0.0.1", [200, 200, 429]), ("192.0.2.1", [200, 429, 429])):
            redis.delete(*redis.scan_iter("impasto:rate:*"), "none")
            with listening(redis_url, forwarded_allow_ips=trusted, **limits) as port:
                url = f"http://127.0.0.1:{port}{PAINT}"
                clients = ("203.0.113.1", "203.0.113.2", "203.0.113.2")
                codes = [httpx.post(url, content=JPEG, headers={"X-Forwarded-For": name}) for name in clients]
            assert [response.status_code for response in codes] == expected


@pytest.mark.parametrize("head", ["", "Content-Type: multipart/form-data; boundary=x\r\n"], ids=["raw", "form"])
def test_an_upload_that_does_not_come_is_given_up(redis: Redis, redis_url: str, head: str) -> None:
    report(redis)
    with listening(redis_url, upload_timeout_s=0.2) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(20)
        client.sendall(f"POST {PAINT} HTTP/1.1\r\nHost: impasto\r\n{head}Content-Length: 1000\r\n\r\n--x".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))  # up to where the service hangs up
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:impasto:problem:upload-timeout" in answer


def test_no_part_of_an_answer_waits_for_the_client_to_confirm_the_one_before(redis_url: str) -> None:
    with running_server(redis_url) as running, socket.create_connection(("127.0.0.1", port_of(running))) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: impasto\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        (connection,) = running.server_state.connections
        options = cast(Any, connection).transport.get_extra_info("socket")
        assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_headers_do_not_leave_before_the_answer_that_they_announce(redis_url: str) -> None:
    """A process that is killed after it sent them could not be replaced by another one any more."""
    with listening(redis_url) as port, socket.create_connection(("127.0.0.1", port)) as client:
        for _ in range(50):
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: impasto\r\n\r\n")
            head, _, body = client.recv(1 << 20).partition(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: (\d+)", head)
            assert len(body) == int(length)


@pytest.mark.parametrize("size", [10, server.HELD_BYTES * 40], ids=["small", "large"])
def test_what_is_written_arrives_in_its_order_and_is_not_hoarded(size: int) -> None:
    """Also what is written just before the connection is closed."""
    pieces = [bytes([number]) * size for number in range(5)]

    async def answer() -> bytes:
        held = []

        class Answering(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                whole = server.WholeAnswers(cast(asyncio.Transport, transport), asyncio.get_running_loop())
                for piece in pieces:
                    whole.write(piece)
                    held.append(cast(asyncio.Transport, transport).get_write_buffer_size())
                whole.close()
                assert whole.is_closing()

        listener = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        async with listener:
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
            received = await reader.read()
            writer.close()
            await writer.wait_closed()
        # The transport knows of a large answer at once, so that it can ask for a pause.
        assert any(held) is (size > server.HELD_BYTES)
        return received

    assert asyncio.run(answer()) == b"".join(pieces)

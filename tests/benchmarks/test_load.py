"""The load generator, against a server that answers at once."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.http_client import Connection
from benchmarks.load import Plan, Target, parse_server_timing, run_load

ANSWERS = {
    "/good": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nServer-Timing: decode;dur=1, infer;dur=2, encode;dur=3\r\n\r\nabc"
    ),
    "/full": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("Content-Length"))
            await reader.readexactly(size)
            await asyncio.sleep(0.002)
            writer.write(ANSWERS[head.split(" ")[1]])
    except asyncio.IncompleteReadError:
        writer.close()


@contextmanager
def answering_server() -> Iterator[int]:
    """Its port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("per_s", [None, 100.0], ids=["closed", "open"])
def test_answers_and_failures_are_told_apart(per_s: float | None) -> None:
    with answering_server() as port:
        plan = Plan(
            port=port, targets=(Target("/good", 16, 16), Target("/full", 16, 16)), clients=4, seconds=0.5,
            warm_up_s=0.1, per_s=per_s,
        )  # fmt: skip
        observed = run_load(plan, object)
    outcome = observed.outcome
    assert observed.before is not observed.after
    assert outcome.answered > 5
    assert outcome.failed.keys() == {"503"}
    assert abs(outcome.failed["503"] - outcome.answered) <= 8
    assert outcome.stages_ms == {"decode": 1.0, "infer": 2.0, "encode": 3.0}
    assert 0 < outcome.p50_ms <= outcome.p95_ms <= outcome.p99_ms
    assert outcome.beyond_work_ms < outcome.p99_ms


def test_server_timing_is_read() -> None:
    assert parse_server_timing("queue;dur=1.5, total;dur=20, cache") == {"queue": 1.5, "total": 20.0}
    assert parse_server_timing("") == {}


def test_a_connection_that_the_server_closed_is_opened_anew() -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWERS["/good"])
        writer.close()

    async def post_twice() -> list[int]:
        server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
        async with server, Connection(server.sockets[0].getsockname()[1]) as connection:
            first = await connection.post("/good", b"")
            while not connection.is_closed_by_server:  # noqa: ASYNC110 - nothing tells of it but the connection
                await asyncio.sleep(0)
            return [first.status, (await connection.post("/good", b"")).status]

    assert asyncio.run(post_twice()) == [200, 200]

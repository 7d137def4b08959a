"""Following a job."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis import Redis
from starlette.types import Message

from service import followers
from service.app import create_app
from service.routes import events as events_route
from tests.redis_server import RedisServer
from tests.service.stand_in import Answer, StandIn, finished, report
from tests.service.support import encode, listening, serving, settings
from worker.contract import ErrorCode, Job, JobResult, JobStatus

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")
PAINT = "/stylize?style=candy"
ASYNC = {"Prefer": "respond-async"}
Event = tuple[str, dict[str, Any]]


async def submit(client: httpx.AsyncClient) -> str:
    return str((await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"])


def parse(text: str) -> list[Event]:
    """Names and documents of the events; comments are left out."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "event" in block]


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream, as they come."""
    block = ""
    async for line in response.aiter_lines():
        block += f"{line}\n"
        if not line:
            for event in parse(block):
                yield event
            block = ""


@asynccontextmanager
async def following(redis_url: str, job_url: str) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a job from a service process of their own, over a real connection."""
    with listening(redis_url) as port:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
            client.stream("GET", f"{job_url}/events") as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["cache-control"] == "no-store"
            yield events(response)


async def test_a_job_of_another_process_is_followed_to_its_end(redis: Redis, redis_url: str) -> None:
    go_on = threading.Event()

    def answer_later(job: Job, data: bytes) -> Answer:
        assert go_on.wait(20)
        return finished(job, data)

    report(redis)
    async with serving(redis_url) as client:
        await submit(client)
        job_url = await submit(client)
        async with following(redis_url, job_url) as told:
            seen = [await anext(told)]
            with StandIn(redis, answer_later):
                go_on.set()
                seen += [event async for event in told]
    names = [name for name, _ in seen]
    assert names[0] == "queued"
    assert names[-1] == "finished"
    assert set(names[1:-1]) <= {"queued", "started"}
    assert seen[0][1]["ahead"] == 1
    assert (seen[-1][1]["width"], seen[-1][1]["height"]) == (8, 6)
    assert seen[-1][1]["links"]["events"] == f"{job_url}/events"


async def test_the_start_of_a_job_is_told_while_it_runs(redis: Redis, redis_url: str) -> None:
    go_on = threading.Event()

    def answer_later(job: Job, data: bytes) -> Answer:
        assert go_on.wait(20)
        return finished(job, data)

    report(redis)
    async with serving(redis_url) as client:
        job_url = await submit(client)
        async with following(redis_url, job_url) as told:
            assert (await anext(told))[0] == "queued"
            with StandIn(redis, answer_later):
                assert (await anext(told))[0] == "started"
                go_on.set()
                assert (await anext(told))[0] == "finished"


async def test_places_move_up(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        first, second = await submit(client), await submit(client)
        async with following(redis_url, second) as told:
            assert (await anext(told))[1]["ahead"] == 1
            await client.delete(first)
            assert (await anext(told))[1]["ahead"] == 0
            await client.delete(second)
            assert [name async for name, _ in told] == ["canceled"]


async def test_a_failure_is_told_with_its_reason(redis: Redis, redis_url: str) -> None:
    def fail(job: Job, data: bytes) -> Answer:
        return JobResult(status=JobStatus.FAILED, error=ErrorCode.BROKEN_PICTURE, detail="The JPEG is cut off."), b""

    with StandIn(redis, fail):
        async with serving(redis_url) as client:
            job_url = await submit(client)
            told = parse((await client.get(f"{job_url}/events")).text)
            again = await client.get(f"{job_url}/events", headers={"Last-Event-ID": told[-1][0]})
    assert told[-1][0] == "failed"
    assert told[-1][1]["problem"]["detail"] == "The JPEG is cut off."
    assert (again.status_code, again.content) == (204, b"")


async def test_a_job_that_expires_ends_its_stream(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        job_url = await submit(client)
        async with following(redis_url, job_url) as told:
            assert (await anext(told))[0] == "queued"
            redis.unlink(f"rq:job:{job_url.rsplit('/', 1)[-1]}")
            last = [event async for event in told][-1]
    assert last[0] == "failed"
    assert last[1]["problem"]["type"] == "urn:impasto:problem:job-lost"


async def test_streams_go_on_after_redis_was_away(own_redis: RedisServer) -> None:
    own_redis.start()
    with own_redis.connect() as connection:
        report(connection)
        async with serving(own_redis.url) as client:
            job_url = await submit(client)
            async with following(own_redis.url, job_url) as told:
                assert (await anext(told))[0] == "queued"
                own_redis.stop()
                own_redis.start()
                assert (await anext(told))[0] == "failed"  # it came back without the job


async def test_a_service_that_stops_lets_followers_go(redis: Redis, redis_url: str) -> None:
    report(redis)
    server = ExitStack()
    url = f"http://127.0.0.1:{server.enter_context(listening(redis_url))}"
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        path = f"{await submit(client)}/events"
        async with client.stream("GET", path) as response:
            told = events(response)
            assert (await anext(told))[0] == "queued"
            stopping = asyncio.create_task(asyncio.to_thread(server.close))
            assert [name async for name, _ in told] == []  # and no error: the stream ends as it should
    await stopping


@pytest.mark.parametrize("job_id", ["0" * 32, "nonsense"])
async def test_unknown_job_and_missing_key(redis_url: str, job_id: str) -> None:
    async with serving(redis_url) as client:
        assert (await client.get(f"/jobs/{job_id}/events")).json()["type"] == "urn:impasto:problem:unknown-job"
    async with serving(redis_url, api_keys="secret") as client:
        assert (await client.get(f"/jobs/{job_id}/events")).status_code == 401


@asynccontextmanager
async def application(redis_url: str) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The app itself, for `call`, and a client of it."""
    app = create_app(settings(redis_url))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://impasto") as client,
    ):
        yield app, client


async def test_silence_is_filled_and_a_client_that_goes_leaves_room(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(followers, "MAX_FOLLOWERS", 1)
    report(redis)
    async with application(redis_url) as (app, client):
        path = f"{await submit(client)}/events"
        for _ in range(2):
            said, gone = asyncio.Queue[str](), asyncio.Event()
            stream = asyncio.create_task(call(app, path, said, gone))
            assert "event: queued" in await said.get()
            assert await said.get() == ": still here\n\n"
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:impasto:problem:too-many-streams")
            gone.set()
            await stream


async def test_no_more_follow_than_may_however_many_come_at_once(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "MAX_FOLLOWERS", 2)
    report(redis)
    async with application(redis_url) as (app, client):
        for _ in range(3):  # who asks for what is unknown takes up no place
            assert (await client.get(f"/jobs/{'0' * 32}/events")).status_code == 404
        path = f"{await submit(client)}/events"
        said, gone = asyncio.Queue[str](), asyncio.Event()
        streams = [asyncio.create_task(call(app, path, said, gone)) for _ in range(5)]
        answers = [await said.get() for _ in streams]
        gone.set()
        await asyncio.gather(*streams)
    assert sum("event: queued" in answer for answer in answers) == 2
    assert sum("too-many-streams" in answer for answer in answers) == 3


async def call(app: Any, path: str, said: asyncio.Queue[str], gone: asyncio.Event) -> None:
    """One request as ASGI, by a client that hangs up once `gone` is set."""

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if body := message.get("body"):
            said.put_nowait(body.decode())

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    await app({**scope, "headers": [], "root_path": "", "scheme": "http", "server": ("impasto", 80)}, receive, send)

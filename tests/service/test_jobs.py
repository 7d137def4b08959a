import asyncio
import socket
import threading

import httpx
import pytest
from redis import Redis
from redis.client import PubSub

from service import fleet, jobs, server
from service.enqueueing import Enqueuer
from service.rq_client import RQClient
from service.submissions import Submission
from tests.redis_server import RedisServer
from tests.service.stand_in import BULK_KEY, PAINTED, QUEUE_KEY, Answer, StandIn, finished, report
from tests.service.support import encode, listening, port_of, running_server, serving
from worker.contract import ErrorCode, Job, JobResult, JobStatus, input_key

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")
PAINT = "/stylize?style=candy"
ASYNC = {"Prefer": "respond-async"}


async def wait_closed(client: httpx.AsyncClient) -> None:
    """Returns once the worker, which answers in turn, has closed every job so far: a later one is answered."""
    assert (await client.post(PAINT, content=JPEG)).status_code == 200


async def test_async_job_is_answered_as_often_as_asked(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            accepted = await client.post(PAINT, content=JPEG, headers=ASYNC)
            job_url = accepted.headers["location"]
            await wait_closed(client)
            state = (await client.get(job_url)).json()
            first = await client.get(state["links"]["result"])
            again = await client.get(state["links"]["result"])
            unchanged = await client.get(state["links"]["result"], headers={"If-None-Match": first.headers["etag"]})
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    assert accepted.json()["status"] == "queued"
    assert (state["status"], state["width"], state["height"]) == ("finished", 8, 6)
    assert (state["task"], state["media_type"]) == ("stylize", "image/jpeg")
    assert first.content == again.content == PAINTED
    assert first.headers["content-type"] == "image/jpeg"
    assert first.headers["content-disposition"] == 'inline; filename="picture-candy.jpg"'
    assert "infer;dur=3.0" in first.headers["server-timing"]
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_async_and_direct_answers_have_one_tag(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            direct = await client.post(PAINT, content=JPEG)
            job_url = (await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"]
            await wait_closed(client)
            later = await client.get(f"{job_url}/result")
    assert direct.headers["etag"] == later.headers["etag"]


async def test_async_with_patience_gives_the_picture(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            response = await client.post(PAINT, content=JPEG, headers={"Prefer": "respond-async, wait=30"})
    assert (response.status_code, response.content) == (200, PAINTED)


async def test_waiting_job_tells_its_place_and_can_be_cancelled(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        urls = [(await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"] for _ in range(2)]
        places = [(await client.get(url)).json()["ahead"] for url in urls]
        early = await client.get(f"{urls[0]}/result")
        cancelled = [await client.delete(urls[0]), await client.delete(urls[0])]
        state = (await client.get(urls[0])).json()["status"]
        result = await client.get(f"{urls[0]}/result")
        left = (await client.get(urls[1])).json()["ahead"]
    assert places == [0, 1]
    assert (early.status_code, early.json()["type"]) == (409, "urn:impasto:problem:result-not-ready")
    assert [response.status_code for response in cancelled] == [204, 204]
    assert state == "canceled"
    assert (result.status_code, result.json()["type"]) == (409, "urn:impasto:problem:job-canceled")
    assert left == 0
    assert not redis.exists(input_key(urls[0].rsplit("/", 1)[-1]))
    assert not redis.exists("rq:registry:canceled:impasto")


async def test_cancelling_wakes_who_waits(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        waiting = asyncio.create_task(client.post(PAINT, content=JPEG))
        job_id = (await asyncio.to_thread(peek, redis)).decode()
        await client.delete(f"/jobs/{job_id}")
        response = await waiting
    assert (response.json()["type"], response.json()["job_id"]) == ("urn:impasto:problem:job-canceled", job_id)


async def test_running_job_cannot_be_cancelled_and_a_closed_one_is_forgotten(redis: Redis, redis_url: str) -> None:
    go_on = threading.Event()

    def answer_later(job: Job, data: bytes) -> Answer:
        assert go_on.wait(20)
        return finished(job, data)

    with StandIn(redis, answer_later) as worker:
        async with serving(redis_url) as client:
            job_url = (await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"]
            await asyncio.to_thread(worker.jobs.get)
            running = await client.delete(job_url)
            state = (await client.get(job_url)).json()["status"]
            go_on.set()
            await wait_closed(client)
            forgotten = await client.delete(job_url)
            after = await client.get(job_url)
    assert (running.status_code, running.json()["type"]) == (409, "urn:impasto:problem:job-started")
    assert state == "started"
    assert forgotten.status_code == 204
    assert after.status_code == 404


async def test_failed_job_says_why(redis: Redis, redis_url: str) -> None:
    def fail(job: Job, data: bytes) -> Answer:
        error = JobResult(status=JobStatus.FAILED, error=ErrorCode.BROKEN_PICTURE, detail="The JPEG is cut off.")
        return error, b""

    with StandIn(redis, fail) as worker:
        async with serving(redis_url) as client:
            job_url = (await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"]
            await client.post(PAINT, content=JPEG)
            state = (await client.get(job_url)).json()
            result = await client.get(f"{job_url}/result")
    assert state["problem"]["detail"] == "The JPEG is cut off."
    assert (result.status_code, result.json()) == (400, state["problem"])
    assert state["problem"]["job_id"] == state["id"]
    assert not worker.jobs.empty()


async def test_a_job_that_a_dead_worker_had_before_is_forgotten(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            job_url = (await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"]
            await wait_closed(client)
            job_id = job_url.rsplit("/", 1)[-1]
            # RQ's note of a run outlives its record of the run.
            redis.zadd(f"rq:executions:{job_id}", {"gone": 2e10})
            forgotten = await client.delete(job_url)
            after = await client.get(job_url)
    assert (forgotten.status_code, after.status_code) == (204, 404)
    assert not list(redis.scan_iter(f"*{job_id}*"))


async def test_a_job_that_is_ended_without_a_word_is_found_lost(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `rq empty` does it, or a Redis that drops what it has no room for."""
    monkeypatch.setattr(jobs, "LOOK_S", 0.05)
    report(redis)
    async with serving(redis_url) as client:
        waiting = asyncio.create_task(client.post(PAINT, content=JPEG))
        job_id = (await asyncio.to_thread(peek, redis)).decode()
        redis.delete(f"rq:job:{job_id}", QUEUE_KEY)
        response = await waiting
    assert (response.status_code, response.json()["type"]) == (503, "urn:impasto:problem:job-lost")


@pytest.mark.parametrize("job_id", ["0" * 32, "nonsense", "%00", "a" * 400])
async def test_unknown_job(redis_url: str, job_id: str) -> None:
    async with serving(redis_url) as client:
        for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
            response = await client.request(method, f"/jobs/{job_id}{path}")
            assert response.json()["type"] == "urn:impasto:problem:unknown-job"


async def test_client_that_leaves_takes_its_job_along(redis: Redis, redis_url: str) -> None:
    report(redis)
    pubsub = PubSub(redis.connection_pool)
    pubsub.psubscribe("impasto:events:*")
    pubsub.get_message(timeout=5)
    with listening(redis_url) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            head = f"POST {PAINT} HTTP/1.1\r\nHost: impasto\r\nContent-Length: {len(JPEG)}\r\n\r\n"
            client.sendall(head.encode() + JPEG)
            job_id = await asyncio.to_thread(peek, redis)
        cancelled = await asyncio.to_thread(pubsub.get_message, timeout=20)
    pubsub.close()
    assert cancelled is not None
    assert cancelled["data"] == job_id
    assert redis.llen(QUEUE_KEY) == 0


async def test_client_that_leaves_while_its_job_is_enqueued_takes_it_along_too(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(redis)
    begun, go_on, withdrawn = threading.Event(), threading.Event(), threading.Event()
    enqueue, cancel = Enqueuer.enqueue, RQClient.cancel

    async def enqueue_later(enqueuer: Enqueuer, submission: Submission) -> object:
        begun.set()
        await asyncio.to_thread(withdrawn.wait, 0.3)  # which would be too early
        assert await asyncio.to_thread(go_on.wait, 20)
        return await enqueue(enqueuer, submission)

    def note_cancel(client: RQClient, job_id: str) -> None:
        try:
            cancel(client, job_id)
        finally:
            withdrawn.set()

    monkeypatch.setattr(Enqueuer, "enqueue", enqueue_later)
    monkeypatch.setattr(RQClient, "cancel", note_cancel)
    with listening(redis_url) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            head = f"POST {PAINT} HTTP/1.1\r\nHost: impasto\r\nContent-Length: {len(JPEG)}\r\n\r\n"
            client.sendall(head.encode() + JPEG)
            assert await asyncio.to_thread(begun.wait, 20)
        go_on.set()
        assert await asyncio.to_thread(withdrawn.wait, 20)
    assert redis.llen(QUEUE_KEY) == 0
    assert not list(redis.scan_iter("impasto:input:*"))


def peek(redis: Redis, queue_key: str = QUEUE_KEY) -> bytes:
    """The first job in the queue, as soon as there is one; it stays there."""
    job_id = redis.blmove(queue_key, queue_key, 20, "LEFT", "LEFT")
    assert isinstance(job_id, bytes)
    return job_id


async def test_a_service_that_stops_takes_back_what_is_waited_for(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PARTING_S", float(server.GRACE_S))
    report(redis)
    patient = {"Prefer": "respond-async, wait=60"}
    async with httpx.AsyncClient(timeout=20) as client:
        with running_server(redis_url) as running:
            url = f"http://127.0.0.1:{port_of(running)}{PAINT}"
            asked = [asyncio.create_task(client.post(url, content=JPEG, headers=headers)) for headers in ({}, patient)]
            withdrawn_id = (await asyncio.to_thread(peek, redis)).decode()
            job_id = (await asyncio.to_thread(peek, redis, BULK_KEY)).decode()
            running.should_exit = True
            refused, accepted = await asyncio.gather(*asked)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:impasto:problem:service-stopping")
    assert (refused.headers["retry-after"], refused.json()["job_id"]) == ("5", withdrawn_id)
    assert (accepted.status_code, accepted.headers["location"]) == (202, f"/jobs/{job_id}")
    assert (redis.llen(QUEUE_KEY), redis.llen(BULK_KEY)) == (0, 1)
    assert [key.decode() for key in redis.scan_iter("impasto:input:*")] == [input_key(job_id)]


def test_a_service_that_stops_waits_for_no_upload(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PARTING_S", float(server.GRACE_S))
    report(redis)
    head = f"POST {PAINT} HTTP/1.1\r\nHost: impasto\r\nContent-Length: {len(JPEG)}\r\nExpect: 100-continue\r\n\r\n"
    with (
        running_server(redis_url) as running,
        socket.create_connection(("127.0.0.1", port_of(running)), timeout=20) as client,
    ):
        client.sendall(head.encode())
        assert b" 100 " in client.recv(1000)  # it waits for the body
        running.should_exit = True
        answer = client.recv(10_000)
    assert b" 503 " in answer
    assert b"service-stopping" in answer


async def test_a_redis_without_memory_lets_a_job_be_cancelled(own_redis: RedisServer) -> None:
    own_redis.start()
    with own_redis.connect() as connection:
        report(connection)
        async with serving(own_redis.url) as client:
            job_url = (await client.post(PAINT, content=JPEG, headers=ASYNC)).headers["location"]
            connection.config_set("maxmemory", 1)
            cancelled = await client.delete(job_url)
            state = (await client.get(job_url)).json()["status"]
        assert (cancelled.status_code, state) == (204, "canceled")
        assert connection.llen(BULK_KEY) == 0
        assert not list(connection.scan_iter("impasto:input:*"))


async def test_a_mute_redis_is_asked_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "PATIENCE_S", 0.2)
    monkeypatch.setattr(jobs, "PATIENCE_S", 0.2)
    connections = []

    def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    mute = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = mute.sockets[0].getsockname()
    async with mute, serving(f"redis://{host}:{port}") as client:
        responses = await asyncio.gather(*(client.get("/styles") for _ in range(20)))
        metrics = await client.get("/metrics")
        for connection in connections:
            connection.close()
    assert {response.json()["type"] for response in responses} == {"urn:impasto:problem:queue-unavailable"}
    assert len(connections) < 20  # one, and those of the listener
    assert "impasto_live_workers NaN" in metrics.text


async def test_a_full_queue_is_said_before_the_upload_is_read(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url, max_queue=2) as client:
        redis.rpush(QUEUE_KEY, "one", "two")
        response = await client.post(PAINT, content=b"not even a picture")
    assert (response.status_code, response.json()["type"]) == (503, "urn:impasto:problem:queue-full")
    assert 1 <= int(response.headers["retry-after"]) <= 120


async def test_without_a_worker(redis_url: str, redis: Redis) -> None:
    async with serving(redis_url) as client:
        paint = await client.post(PAINT, content=JPEG)
        ready = await client.get("/readyz")
        styles = await client.get("/styles")
        report(redis)
        later = await client.get("/readyz")
    for response in (paint, ready, styles):
        assert (response.status_code, response.json()["type"]) == (503, "urn:impasto:problem:no-worker")
        assert response.headers["retry-after"] == "5"
    assert (later.status_code, later.json()) == (200, {"status": "ready", "workers": 1})


async def test_redis_away_at_the_start_and_later(own_redis: RedisServer) -> None:
    async with serving(own_redis.url) as client:
        for _ in range(2):
            paint = await client.post(PAINT, content=JPEG)
            assert (paint.status_code, paint.json()["type"]) == (503, "urn:impasto:problem:queue-unavailable")
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get(f"/jobs/{'0' * 32}")).status_code == 503
            assert 'impasto_queue_depth{lane="bulk"} NaN' in (await client.get("/metrics")).text
            own_redis.start()
            with own_redis.connect() as connection, StandIn(connection):
                painted = [await client.post(PAINT, content=JPEG) for _ in range(3)]
                assert [response.status_code for response in painted] == [200, 200, 200]
                assert (await client.get("/readyz")).status_code == 200
            own_redis.stop()
            # The catalog is kept for a second; only a request that reaches Redis notices.
            assert (await client.post(PAINT, content=JPEG)).status_code == 503


async def test_a_job_that_redis_forgot_is_said_to_be_lost(own_redis: RedisServer) -> None:
    own_redis.start()
    async with serving(own_redis.url) as client:
        with own_redis.connect() as connection:
            report(connection)
            waiting = asyncio.create_task(client.post(PAINT, content=JPEG))
            job_id = (await asyncio.to_thread(peek, connection)).decode()
        own_redis.stop()
        own_redis.start()
        response = await waiting
    # The second where Redis went before the service had read that the job was taken in.
    kinds = {("urn:impasto:problem:job-lost", job_id), ("urn:impasto:problem:queue-unavailable", None)}
    assert response.status_code == 503
    assert (response.json()["type"], response.json().get("job_id")) in kinds


async def test_many_at_once_get_their_own_pictures(redis: Redis, redis_url: str) -> None:
    def echo(job: Job, data: bytes) -> Answer:
        return finished(job, data)[0], data

    pictures = [encode("PNG", (20 + index, 20)) for index in range(40)]
    with StandIn(redis, echo):
        async with serving(redis_url) as client:
            responses = await asyncio.gather(*(client.post(PAINT, content=picture) for picture in pictures))
    assert [response.content for response in responses] == pictures

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis

from service.problems import Problem
from tests.service.stand_in import StandIn, as_in_catalog, report
from tests.service.support import encode, serving

pytestmark = pytest.mark.anyio

API = Path(__file__).parents[2] / "docs" / "api.md"
JPEG = encode("JPEG")
PAINT = "/stylize?style=candy"
ASYNC = {"Prefer": "respond-async"}
EVERYWHERE = {"cache-control", "content-length", "content-type", "vary", "x-request-id"}
"""Headers that need no words."""


async def fetch_document(redis_url: str) -> Any:
    async with serving(redis_url) as client:
        return (await client.get("/openapi.json")).json()


def operations(document: Any) -> dict[tuple[str, str], Any]:
    return {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


async def test_every_problem_is_a_problem_document(redis_url: str) -> None:
    document = await fetch_document(redis_url)
    for operation in operations(document).values():
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
        for answer in errors.values():
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ProblemDocument"}
    schema = document["components"]["schemas"]["ProblemDocument"]
    assert set(schema["required"]) == {"type", "title", "status", "detail"}


async def test_what_is_referred_to_is_there(redis_url: str) -> None:
    document = await fetch_document(redis_url)
    names = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert names == names & set(document["components"]["schemas"])


async def test_generated_clients_get_names_and_types_that_they_can_use(redis_url: str) -> None:
    named = operations(await fetch_document(redis_url))
    names = [operation["operationId"] for operation in named.values()]
    assert len(set(names)) == len(names)
    assert {"stylize", "upscale", "job_status", "job_result"} <= set(names)
    for operation in named.values():
        for parameter in operation.get("parameters", []):
            assert "null" not in str(parameter["schema"]), "no query can say null"
            assert "example" not in parameter, "the page would send it unasked"


async def test_headers_of_requests_are_named(redis_url: str) -> None:
    named = operations(await fetch_document(redis_url))
    headers = {
        (path, parameter["name"])
        for (path, _), operation in named.items()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "header"
    }
    assert headers == {
        *((path, name) for path in ("/stylize", "/upscale") for name in ("Prefer", "Accept", "X-Request-Id")),
        ("/jobs/{job_id}/result", "If-None-Match"),
        ("/styles/{name}/preview", "If-None-Match"),
        ("/jobs/{job_id}/events", "last-event-id"),
    }


async def test_headers_of_answers_are_those_that_come(redis: Redis, redis_url: str) -> None:
    with StandIn(redis, as_in_catalog):
        async with serving(redis_url, cache_ttl_s=60) as client:
            document = (await client.get("/openapi.json")).json()
            made = await client.post(PAINT, content=JPEG)
            again = await client.post(PAINT, content=JPEG)
            queued = await client.post(PAINT, content=JPEG, headers=ASYNC)
            await client.post("/stylize?style=wave", content=JPEG)  # behind it
            path = queued.headers["location"]
            fetched = await client.get(f"{path}/result")
            early = await client.get("/styles/candy/preview")
        async with serving(redis_url, api_keys=[SecretStr("k")]) as client:
            refused = await client.post(PAINT, content=JPEG)
    named = operations(document)

    def documented(path: str, method: str, status: int) -> set[str]:
        return {name.lower() for name in named[path, method]["responses"][str(status)].get("headers", {})}

    assert set(again.headers) | set(made.headers) == documented("/stylize", "post", 200) | EVERYWHERE
    assert set(queued.headers) == documented("/stylize", "post", 202) | EVERYWHERE
    assert set(refused.headers) == documented("/stylize", "post", 401) | EVERYWHERE - {"vary"}
    assert set(fetched.headers) == documented("/jobs/{job_id}/result", "get", 200) | EVERYWHERE - {"vary"}
    assert set(early.headers) == documented("/styles/{name}/preview", "get", 200) | EVERYWHERE - {"vary"}


async def test_answers_that_pass_say_when(redis_url: str) -> None:
    named = operations(await fetch_document(redis_url))
    answers = {
        (path, method, status): answer
        for (path, method), operation in named.items()
        for status, answer in operation["responses"].items()
    }
    retried = {key for key, answer in answers.items() if "Retry-After" in answer.get("headers", {})}
    passing = {key for key in answers if key[2] in ("429", "503")}
    assert retried == passing | {("/jobs/{job_id}/result", "get", "409")}


def kinds(parent: type[Problem] = Problem) -> set[type[Problem]]:
    return {kind for child in parent.__subclasses__() for kind in {child} | kinds(child)}


def test_the_table_of_problems_has_all_there_are() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", API.read_text(), re.MULTILINE)
    assert rows == sorted(rows)
    assert set(rows) == {(kind.slug, str(kind.status)) for kind in kinds()}


async def test_an_optional_parameter_may_be_empty(redis: Redis, redis_url: str) -> None:
    """Some clients send `name=` for what is not given."""
    with StandIn(redis) as worker:
        async with serving(redis_url) as client:
            response = await client.post(f"{PAINT}&size=&format=&quality=", content=JPEG)
        job = worker.jobs.get_nowait()
    assert response.status_code == 200, response.text
    assert (job.format, job.quality) == ("jpeg", 90)


async def test_a_new_job_says_what_it_is(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        queued = (await client.post(PAINT, content=JPEG, headers=ASYNC)).json()
        state = (await client.get(queued["links"]["self"])).json()
    assert (queued["task"], queued["status"]) == ("stylize", "queued")
    assert state["created_at"] == queued["created_at"]
    assert "expires_at" not in state

"""Pages of other origins, as their browsers ask for them."""

import httpx
import pytest
from redis import Redis

from service.fleet import Fleet
from tests.service.stand_in import StandIn, report
from tests.service.support import encode, listening, serving

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")
PAINT = "/stylize?style=candy"
PAGE = {"Origin": "https://gallery.example"}
PREFLIGHT = {
    **PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,prefer,x-request-id",
}
READABLE = {"cache-control", "content-length", "content-type"}
"""By every page."""


def listed(response: httpx.Response, header: str) -> set[str]:
    return {name.strip().lower() for name in response.headers[f"access-control-{header}"].split(",")}


async def test_without_origins_there_is_no_cors(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        answers = [await client.get("/styles", headers=PAGE), await client.options(PAINT, headers=PREFLIGHT)]
    assert [answer.status_code for answer in answers] == [200, 405]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ("https://gallery.example", "https://gallery.example"),
        ("http://localhost:3000, https://gallery.example", "https://gallery.example"),
        ("*", "*"),
        ("https://gallery.example:8443", None),
    ],
)
async def test_origins_that_may_call(redis: Redis, redis_url: str, origins: str, allowed: str | None) -> None:
    report(redis)
    async with serving(redis_url, cors_origins=origins) as client:
        answer = await client.get("/styles", headers=PAGE)
        preflight = await client.options(PAINT, headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert preflight.headers.get("access-control-allow-origin") == allowed
    assert preflight.status_code == (200 if allowed else 400)
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


async def test_a_preflight_needs_no_key_and_costs_nothing(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(
            redis_url, cors_origins=PAGE["Origin"], api_keys="first", rate_limit=0.01, rate_burst=1
        ) as client:
            preflights = [await client.options(PAINT, headers=PREFLIGHT) for _ in range(3)]
            key = {"Authorization": "Bearer first"}
            answers = [await client.post(PAINT, content=JPEG, headers=PAGE | key) for _ in range(2)]
            metrics = (await client.get("/metrics")).text
    assert {preflight.status_code for preflight in preflights} == {200}
    assert [answer.status_code for answer in answers] == [200, 429]
    assert listed(preflights[0], "allow-methods") == {"get", "head", "post", "delete"}
    asked = {"authorization", "x-api-key", "content-type", "prefer", "x-request-id", "if-none-match", "last-event-id"}
    assert asked <= listed(preflights[0], "allow-headers")
    assert preflights[0].headers["x-request-id"]
    assert 'method="OPTIONS",route="unmatched",status="200"} 3.0' in metrics


async def test_refusals_can_be_read_too(redis: Redis, redis_url: str) -> None:
    report(redis)
    limits = {"max_upload_mb": 0.001, "rate_limit": 0.01, "rate_burst": 1}
    async with serving(redis_url, cors_origins=PAGE["Origin"], **limits) as client:
        answers = [
            await client.post(PAINT, content=bytes(2000), headers=PAGE),
            await client.post(PAINT, content=JPEG, headers=PAGE),
            await client.get("/nowhere", headers=PAGE),
            await client.put(PAINT, headers=PAGE),
        ]
    assert [answer.status_code for answer in answers] == [413, 429, 404, 405]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {PAGE["Origin"]}
    assert "retry-after" in listed(answers[1], "expose-headers")


def test_a_fault_of_ours_can_be_read_too(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: Fleet) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Fleet, "catalog", fail)
    with listening(redis_url, cors_origins=PAGE["Origin"]) as port:
        address = f"http://127.0.0.1:{port}/styles"
        answer = httpx.get(address, headers=PAGE | {"X-Request-Id": "abc-1"})
        head = httpx.head(address)
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:impasto:problem:internal")
    assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert (answer.headers["x-request-id"], answer.headers["cache-control"]) == ("abc-1", "no-store")
    assert (head.status_code, head.content) == (500, b"")
    assert [text for text in caplog.messages if "abc-1" in text] == ["request abc-1 failed: RuntimeError('a fault')"]


async def test_pages_may_read_all_that_answers_say(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url, cors_origins=PAGE["Origin"], cache_ttl_s=60) as client:
            accepted = await client.post(PAINT, content=JPEG, headers=PAGE | {"Prefer": "respond-async"})
            answers = [await client.post(PAINT, content=JPEG, headers=PAGE) for _ in range(2)]
            result = await client.get(f"{accepted.headers['location']}/result", headers=PAGE)
    for answer in (accepted, *answers, result):
        said = {name for name in answer.headers if name != "vary" and not name.startswith("access-control")}
        assert said - READABLE <= listed(answer, "expose-headers")

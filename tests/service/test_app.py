import math
import subprocess
import sys
from dataclasses import replace
from typing import cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from redis import Redis

from service.app import create_app
from service.pace import LONGEST_S, UNKNOWN_S, Pace
from service.preferences import Preference
from service.settings import Settings, SettingsError
from tests.service.stand_in import BULK_KEY, REPORT, StandIn, report
from tests.service.support import encode, listening, serving
from worker.contract import StyleInfo, preview_key, worker_key, workers_key

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")
PAINT = "/stylize?style=candy"


def test_importing_the_app_loads_no_models() -> None:
    heavy = ("torch", "numpy", "openvino", "models", "training", "worker.engine")
    code = f"import sys, service.app; sys.exit(', '.join(m for m in {heavy!r} if m in sys.modules) or None)"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_catalog(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        styles = (await client.get("/styles")).json()
        upscalers = (await client.get("/upscalers")).json()
        preview = await client.get("/styles/candy/preview")
        none = await client.get("/styles/wave/preview")
        unknown = await client.get("/styles/candu/preview")
    assert [style["name"] for style in styles] == ["candy", "mosaic", "wave"]
    assert styles[0]["preview"] == "/styles/candy/preview"
    assert styles[2]["preview"] is None
    assert [upscaler["factor"] for upscaler in upscalers] == [2, 4]
    assert (preview.content, preview.headers["content-type"]) == (b"a preview", "image/jpeg")
    assert none.json()["type"] == "urn:impasto:problem:no-preview"
    assert unknown.json()["near"] == ["candy"]


async def test_a_style_that_another_process_has_shown_is_found_at_once(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.fleet.CACHE_S", 3600.0)
    monkeypatch.setattr("service.fleet.LEAST_CACHE_S", 0.0)
    report(redis)
    async with serving(redis_url) as client:
        assert len((await client.get("/styles")).json()) == 3
        fresh = StyleInfo(name="fresh", digest="f0", preview=True)
        redis.set(worker_key(REPORT.name), replace(REPORT, styles=(*REPORT.styles, fresh)).to_json())
        redis.set(preview_key("f0"), b"another preview")
        preview = await client.get("/styles/fresh/preview")
        unknown = await client.get("/styles/nowhere/preview")
    assert preview.content == b"another preview"
    assert unknown.status_code == 404


async def test_report_that_cannot_be_read_is_passed_over(redis: Redis, redis_url: str) -> None:
    report(redis)
    redis.zadd("impasto:workers", {"newer": 2e10})
    redis.set("impasto:worker:newer", '{"name": "newer", "unheard": 1}')
    async with serving(redis_url) as client:
        assert (await client.get("/readyz")).json()["workers"] == 1


async def scrape(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """The metrics by name and labels."""
    text = (await client.get("/metrics")).text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_name_routes_not_paths(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            await client.post(PAINT, content=JPEG)
            await client.post(PAINT, content=b"hello")
            await client.get("/jobs/" + "1" * 32)
            await client.get("/web/nothing.js")
            await client.get("/secret/path")
            await client.request("BREW", "/livez")
            samples = await scrape(client)
    requests = {key[1:]: value for key, value in samples.items() if key[0] == "impasto_http_requests_total"}
    assert requests == {
        ("POST", "/stylize", "200"): 1,
        ("POST", "/stylize", "415"): 1,
        ("GET", "/jobs/{job_id}", "404"): 1,
        ("GET", "/web", "404"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "/livez", "405"): 1,
    }
    assert samples["impasto_stage_seconds_sum", "infer"] == pytest.approx(0.003)
    assert samples["impasto_refusals_total", "unsupported-picture"] == 1
    assert samples["impasto_upload_bytes_count",] == 1
    assert samples["impasto_queue_depth", "interactive"] == samples["impasto_queue_depth", "bulk"] == 0
    assert samples["impasto_live_workers",] == 1
    assert not math.isnan(samples["process_start_time_seconds",])


async def test_metrics_of_the_queue(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        for _ in range(2):
            await client.post(PAINT, content=JPEG, headers={"Prefer": "respond-async"})
        (job_id,) = cast("list[bytes]", redis.lrange(BULK_KEY, 0, 0))
        redis.hset(b"rq:job:" + job_id, "created_at", "2026-01-01T00:00:00.000000Z")
        redis.zadd("rq:wip:impasto", {"running": 2e10})
        samples = await scrape(client)
    assert (
        samples["impasto_queue_depth", "interactive"]
        == samples["impasto_queue_oldest_wait_seconds", "interactive"]
        == 0
    )
    assert samples["impasto_queue_depth", "bulk"] == 2
    assert samples["impasto_queue_oldest_wait_seconds", "bulk"] > 3600
    assert samples["impasto_jobs_running",] == 1
    assert samples["impasto_redis_memory_bytes",] > 0
    assert samples["impasto_redis_memory_limit_bytes",] == 0


def test_head_is_answered_as_get_without_the_body(redis: Redis, redis_url: str) -> None:
    report(redis)
    with listening(redis_url) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for address in ("/livez", "/readyz", "/styles", "/styles/candy/preview", "/nowhere", "/"):
            got, head = client.get(address), client.head(address)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-length"] == str(len(got.content))
        assert client.head(PAINT).status_code == 405
        assert 'method="HEAD",route="/styles",status="200"' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("PUT", "/jobs/none", "DELETE, GET, HEAD"),
        ("POST", "/jobs/none/result", "GET, HEAD"),
        ("POST", "/jobs/none/events", "GET"),
        ("HEAD", "/jobs/none/events", "GET"),
        ("GET", PAINT, "POST"),
        ("HEAD", PAINT, "POST"),
        ("BREW", "/livez", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("PUT", "/web/studio.js", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_served_is_told_those_that_are(
    redis_url: str, method: str, address: str, allowed: str
) -> None:
    async with serving(redis_url) as client:
        refused = await client.request(method, address)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("address", ["/stylize/?style=candy", "/styles/", "/docs/", "/web", "/docs/files"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_address_with_another_slash_is_another_one(redis_url: str, method: str, address: str) -> None:
    async with serving(redis_url) as client:
        response = await client.request(method, address, content=JPEG)
    assert (response.status_code, response.json()["type"]) == (404, "urn:impasto:problem:not-found")


async def test_metrics_are_not_told_through_a_proxy(redis_url: str) -> None:
    async with serving(redis_url) as client:
        refused = await client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"})
        assert (await client.get("/metrics")).status_code == 200
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:impasto:problem:not-found")


async def test_caches_keep_what_says_that_they_may_and_nothing_else(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        job_url = (await client.post(PAINT, content=JPEG, headers={"Prefer": "respond-async"})).headers["location"]
        addresses = ("/livez", "/styles", job_url, "/jobs/none", "/nowhere", "/styles/candy/preview")
        kept = [(await client.get(address)).headers["cache-control"] for address in addresses]
    assert kept == ["no-store"] * 5 + ["public, max-age=300"]


async def test_a_worker_whose_clock_is_behind_is_seen(redis: Redis, redis_url: str) -> None:
    report(redis)
    redis.zadd(workers_key(), {REPORT.name: 0})
    async with serving(redis_url) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_pictures_that_the_client_has_are_counted(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        tag = (await client.get("/styles/candy/preview")).headers["etag"]
        assert (await client.get("/styles/candy/preview", headers={"If-None-Match": tag})).status_code == 304
        redis.set(preview_key("c0"), b"a new preview")  # of the same weights
        anew = await client.get("/styles/candy/preview", headers={"If-None-Match": tag})
        assert (await scrape(client))["impasto_not_modified_total",] == 1
    assert (anew.status_code, anew.content) == (200, b"a new preview")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic first"}, 401),
        ({"X-API-Key": "firs"}, 401),
        ({"X-API-Key": "f\u00fcrst"}, 401),
        ({"Authorization": "Bearer first"}, 200),
        ({"X-API-Key": "second"}, 200),
    ],
)
async def test_api_keys(redis: Redis, redis_url: str, headers: dict[str, str], status: int) -> None:
    with StandIn(redis):
        async with serving(redis_url, api_keys="first, second") as client:
            encoded = httpx.Headers([(name.encode(), value.encode("latin-1")) for name, value in headers.items()])
            response = await client.post(PAINT, content=JPEG, headers=encoded)
            paths = ("/livez", "/readyz", "/metrics", "/styles", "/docs")
            opened = {(await client.get(path)).status_code for path in paths}
            job = await client.get("/jobs/" + "0" * 32, headers=encoded)
    assert response.status_code == status
    assert job.status_code == (401 if status == 401 else 404)
    assert opened == {200}
    if status == 401:
        assert response.headers["www-authenticate"].startswith("Bearer")


async def test_studio_page_and_its_files(redis_url: str) -> None:
    async with serving(redis_url) as client:
        page = await client.get("/")
        script = await client.get("/web/studio.js")
    assert page.headers["content-type"].startswith("text/html")
    assert script.status_code == 200


@pytest.mark.parametrize(
    ("offered", "kept"), [("abc-1", True), ("", False), ("a b", False), ("x" * 65, False), ("a\tb", False)]
)
async def test_request_id(redis_url: str, offered: str, kept: bool) -> None:
    async with serving(redis_url) as client:
        answered = (await client.get("/livez", headers={"X-Request-Id": offered})).headers["x-request-id"]
    assert (answered == offered) is kept
    assert answered


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("MAX_UPLOAD_MB", "0"),
        ("REDIS_URL", "http://x"),
        ("REDIS_URL", "redis://:pa/ss@redis:6379/0"),
        ("MAX_QUEUE", "many"),
        ("MAX_QUEUE_MB", "10"),
        ("MAX_UPLOAD_MB", "inf"),
        ("RATE_LIMIT", "-1"),
        ("CORS_ORIGINS", "gallery.example"),
        ("CORS_ORIGINS", "https://gallery.example/"),
        ("CORS_ORIGINS", "https://Gallery.example"),
        ("CORS_ORIGINS", "*, https://gallery.example:port"),
        ("CORS_ORIGINS", "https://*.example"),
        ("CORS_ORIGINS", "null"),
    ],
)
def test_wrong_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"IMPASTO_{name}", value)
    with pytest.raises(SettingsError, match=rf"^IMPASTO_{name} cannot be used: [^\n]+\.$"):
        Settings.load()


def test_a_password_in_a_wrong_redis_url_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_REDIS_URL", "redis://:sec/ret@redis:6379/0")
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert "sec" not in str(refused.value)
    assert "%2F" in str(refused.value)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_API_KEYS", "key-1, key-2,")
    monkeypatch.setenv("IMPASTO_REDIS_URL", "")
    monkeypatch.setenv("IMPASTO_CORS_ORIGINS", "https://gallery.example, http://[::1]:3000,")
    settings = Settings.load()
    assert settings.api_keys == (SecretStr("key-1"), SecretStr("key-2"))
    assert settings.redis_url is None
    assert settings.cors_origins == ("https://gallery.example", "http://[::1]:3000")
    assert "key-1" not in repr(settings)
    with pytest.raises(SettingsError, match="IMPASTO_REDIS_URL"):
        create_app(settings)


@pytest.mark.parametrize("field", Settings.model_fields.values())
def test_every_setting_is_described(field: object) -> None:
    assert getattr(field, "description", None)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Preference()),
        (["respond-async"], Preference(respond_async=True)),
        (['Respond-Async;x=1, wait="7"'], Preference(respond_async=True, wait_s=7)),
        (["return=minimal", "wait=9"], Preference(wait_s=9)),
        (["respond-async, wait=1, wait=2"], Preference(respond_async=True, wait_s=1)),
        (["respond-async, wait=-1"], Preference(respond_async=True)),
        ([",,=;", "wait=99999999999"], Preference()),
    ],
)
def test_prefer(headers: list[str], expected: Preference) -> None:
    assert Preference.parse(headers) == expected


def test_retry_after_follows_the_pace() -> None:
    pace = Pace()
    assert pace.retry_after_s(100) == UNKNOWN_S
    for index in range(101):
        pace.observe(100 + index * 0.1, 7 + index * 2)
    assert pace.retry_after_s(100) == pytest.approx(100 / 2 / 20, abs=0.6)
    assert pace.retry_after_s(1) == 1
    assert pace.retry_after_s(10_000) == LONGEST_S


def test_retry_after_of_a_pool_that_stands_still_and_of_an_empty_redis() -> None:
    pace = Pace()
    pace.observe(0, 5)
    pace.observe(10, 5)
    assert pace.retry_after_s(100) == LONGEST_S
    pace.observe(11, 0)
    assert pace.retry_after_s(100) == UNKNOWN_S

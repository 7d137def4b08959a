import asyncio
import gzip
import resource
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.redis_server import RedisServer
from tests.service.stand_in import StandIn, report
from tests.service.support import animated, encode, huge_png, serving

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")
PAINT = "/stylize?style=candy"


def form(*lines: str) -> bytes:
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "says"),
    [
        (PAINT, b"", 400, "empty-body", "--data-binary"),
        (PAINT, JPEG[:30], 400, "broken-picture", "JPEG"),
        (PAINT, b"hello", 415, "unsupported-picture", "HEIC"),
        (PAINT, animated("GIF"), 415, "animated-picture", "Animated GIF"),
        (PAINT, encode("PNG", (15, 15)), 422, "too-few-pixels", "at least 16"),
        (PAINT, huge_png(30_000, 30_000), 413, "too-many-pixels", "52 megapixels"),
        ("/upscale?factor=4", huge_png(5000, 4000), 413, "too-many-pixels", "use factor=2"),
        ("/upscale?factor=2", encode("PNG", (9000, 16)) + b"", 200, "", ""),
        ("/upscale?factor=2&format=webp", encode("PNG", (9000, 16)), 422, "bad-parameter", "16383"),
        ("/stylize?style=candy&format=jpeg", encode("PNG", (65510, 16)), 422, "bad-parameter", "65500"),
        ("/stylize?style=candi", JPEG, 404, "unknown-style", "did you mean candy"),
        ("/stylize?style=candy,%00", JPEG, 404, "unknown-style", "GET /styles"),
        ("/stylize", JPEG, 422, "bad-parameter", "style: it is missing"),
        ("/stylize?style=", JPEG, 422, "bad-parameter", "style"),
        ("/stylize?style=candy:x", JPEG, 422, "bad-parameter", "not a number"),
        ("/stylize?style=candy:-1", JPEG, 422, "bad-parameter", "0 or more"),
        ("/stylize?style=candy:nan", JPEG, 422, "bad-parameter", "0 or more"),
        ("/stylize?style=candy:0", JPEG, 422, "bad-parameter", "above 0"),
        ("/stylize?style=candy:1e308,wave:1e308", JPEG, 422, "bad-parameter", "finite"),
        ("/stylize?style=,", JPEG, 422, "bad-parameter", "candy:0.7"),
        (f"{PAINT}&strength=2", JPEG, 422, "bad-parameter", "strength"),
        (f"{PAINT}&size=8", JPEG, 422, "bad-parameter", "size"),
        (f"{PAINT}&size=20", JPEG, 422, "bad-parameter", "12 px"),
        (f"{PAINT}&quality=0", JPEG, 422, "bad-parameter", "quality"),
        (f"{PAINT}&format=tiff", JPEG, 422, "bad-parameter", "'webp'"),
        (f"{PAINT}&stile=wave", JPEG, 422, "bad-parameter", "no such parameter"),
        (f"{PAINT}&style=wave", JPEG, 422, "bad-parameter", "style: it is given 2 times"),
        ("/upscale", JPEG, 422, "bad-parameter", "factor: it is missing"),
        ("/upscale?factor=2&factor=4&factor=2", JPEG, 422, "bad-parameter", "factor: it is given 3 times"),
        ("/upscale?factor=3", JPEG, 422, "bad-parameter", "2, 4 or 8"),
        ("/upscale?factor=four", JPEG, 422, "bad-parameter", "integer"),
        ("/upscale?factor=8", JPEG, 422, "unknown-factor", "available: 2, 4"),
        ("/nowhere", JPEG, 404, "not-found", "/docs"),
        ("/styles", JPEG, 405, "method-not-allowed", "/docs"),
    ],
)
async def test_the_table(
    redis: Redis, redis_url: str, path: str, body: bytes, status: int, kind: str, says: str
) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            response = await client.post(path, content=body)
    assert response.status_code == status, response.text
    if status == 200:
        return
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:impasto:problem:{kind}"
    assert problem["status"] == status
    assert says in problem["detail"]


async def test_fields_of_a_form_are_no_parameters(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        files = {"file": ("a.jpg", JPEG, "image/jpeg")}
        response = await client.post(PAINT, files=files, data={"size": "64", "strength": "0"})
    assert response.status_code == 422
    assert {each["parameter"] for each in response.json()["errors"]} == {"size", "strength"}
    assert "query string" in response.json()["detail"]


async def test_a_compressed_body_is_named(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        response = await client.post(PAINT, content=gzip.compress(JPEG), headers={"Content-Encoding": "gzip"})
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "identity")
    assert response.json()["type"] == "urn:impasto:problem:encoded-body"


async def test_unknown_style_lists_the_near_ones(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        response = await client.post("/stylize?style=Wavy,candy", content=JPEG)
    assert response.json()["near"] == ["wave"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (form("--b", 'Content-Disposition: form-data; name="other"', "", "x", "--b--", ""), 422, "missing-file"),
        (form("--b", 'Content-Disposition: form-data; name="file"', "", "x", "--b--", ""), 422, "missing-file"),
        (
            form("--b", 'Content-Disposition: form-data; name="file"; filename="a"', "", "", "--b--", ""),
            400,
            "empty-body",
        ),
        (form("--b", 'Content-Disposition: form-data; name="file"; filename="a"', "", "x"), 400, "malformed-multipart"),
        (form("--b", "Content-Disposition: form-data", "", "x", "--b--", ""), 400, "malformed-multipart"),
        (JPEG, 400, "malformed-multipart"),
        (b"", 400, "malformed-multipart"),
    ],
)
async def test_bad_forms(redis: Redis, redis_url: str, body: bytes, status: int, kind: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        response = await client.post(PAINT, content=body, headers=headers)
    assert response.status_code == status, response.text
    assert response.json()["type"] == f"urn:impasto:problem:{kind}"


@pytest.mark.parametrize(
    "content_type", ["", "; boundary=", "; charset=undefined; boundary=b", "; charset=zlib; boundary=b"]
)
async def test_bad_form_headers(redis: Redis, redis_url: str, content_type: str) -> None:
    report(redis)
    async with serving(redis_url) as client:
        body = form("--b", 'Content-Disposition: form-data; name="other"', "", "x", "--b--", "")
        headers = {"Content-Type": f"multipart/form-data{content_type}"}
        response = await client.post(PAINT, content=body, headers=headers)
    assert response.status_code in (400, 422), response.text


class Flood(httpx.AsyncByteStream):
    """A body without end that counts what is taken of it."""

    def __init__(self, start: bytes = b"") -> None:
        self.taken = 0
        self._start = start

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._start
        while True:
            self.taken += 10_000
            yield bytes(10_000)


@pytest.mark.parametrize("content_type", ["image/jpeg", "multipart/form-data; boundary=b"])
async def test_reading_stops_at_the_limit(redis: Redis, redis_url: str, content_type: str) -> None:
    report(redis)
    start = form("--b", 'Content-Disposition: form-data; name="file"; filename="a"', "", "")
    flood = Flood(start if "form" in content_type else b"")
    async with serving(redis_url, max_upload_mb=0.1) as client:
        response = await client.post(PAINT, content=flood, headers={"Content-Type": content_type})
    assert response.status_code == 413
    assert "0.1 MB" in response.json()["detail"]
    assert flood.taken <= 200_000


async def test_declared_length_is_refused_unread(redis: Redis, redis_url: str) -> None:
    report(redis)
    flood = Flood()
    async with serving(redis_url) as client:
        response = await client.post(PAINT, content=flood, headers={"Content-Length": "50000001"})
    assert response.status_code == 413
    assert flood.taken == 0


async def test_form_over_the_limit_by_little(redis: Redis, redis_url: str) -> None:
    report(redis)
    async with serving(redis_url, max_upload_mb=0.001) as client:
        response = await client.post(PAINT, files={"file": bytes(1001)})
    assert response.json()["type"] == "urn:impasto:problem:too-many-bytes"


async def test_memory_is_flat_while_bombs_are_refused(redis: Redis, redis_url: str) -> None:
    report(redis)
    bomb = huge_png(30_000, 30_000)
    async with serving(redis_url) as client:
        await client.post(PAINT, content=bomb)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        responses = await asyncio.gather(*(client.post(PAINT, content=bomb) for _ in range(16)))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert {response.status_code for response in responses} == {413}
    assert grown_kib < 30_000  # one of them decoded would be 2.7 GB


async def test_static_files_cannot_be_escaped(redis_url: str) -> None:
    async with serving(redis_url) as client:
        for path in ("/web/%2e%2e/settings.py", "/web/%00", "/web/" + "a" * 5000, "/web/"):
            assert (await client.get(path)).status_code == 404


@settings(max_examples=60, deadline=None)
@given(
    query=st.dictionaries(st.sampled_from(["style", "strength", "size", "format", "quality", "factor"]), st.text()),
    body=st.binary(max_size=200),
    content_type=st.sampled_from(["image/png", "multipart/form-data; boundary=b", "multipart/form-data"]),
    path=st.sampled_from(["/stylize", "/upscale"]),
)
def test_nothing_a_client_sends_gives_a_500(
    hypothesis_redis: RedisServer, query: dict[str, str], body: bytes, content_type: str, path: str
) -> None:
    async def send() -> int:
        async with serving(hypothesis_redis.url) as client:
            headers = {"Content-Type": content_type, "Accept": query.get("format", "").encode().hex()}
            return (
                await client.post(path, params={"style": "candy"} | query, content=body, headers=headers)
            ).status_code

    assert 400 <= asyncio.run(send()) < 500

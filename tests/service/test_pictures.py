import json
import re

import pytest
from redis import Redis

from tests.service.stand_in import PAINTED, StandIn, report
from tests.service.support import encode, rotated, serving
from worker.contract import (
    ErrorCode,
    Job,
    JobResult,
    JobStatus,
    PictureFormat,
    StyleJob,
    UpscaleJob,
    input_key,
    output_key,
)

pytestmark = pytest.mark.anyio

JPEG = encode("JPEG")


async def test_raw_body_with_any_content_type_is_painted(redis: Redis, redis_url: str) -> None:
    with StandIn(redis) as worker:
        async with serving(redis_url) as client:
            # What curl --data-binary claims.
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = await client.post("/stylize?style=candy", content=JPEG, headers=headers)
        job = worker.jobs.get_nowait()
    assert (response.status_code, response.content) == (200, PAINTED)
    assert response.headers["content-type"] == "image/jpeg"
    assert isinstance(job, StyleJob)
    assert job.styles == {"candy": 1.0}
    assert (job.format, job.quality) == (PictureFormat.JPEG, 90)


async def test_form_is_enlarged(redis: Redis, redis_url: str) -> None:
    with StandIn(redis) as worker:
        async with serving(redis_url) as client:
            files = {"file": ("../My Photo.JPG", JPEG, "image/jpeg")}
            response = await client.post("/upscale?factor=4&quality=50", files=files)
        job = worker.jobs.get_nowait()
    assert response.status_code == 200
    assert response.headers["content-disposition"] == 'inline; filename="My_Photo-x4.jpg"'
    assert isinstance(job, UpscaleJob)
    assert (job.factor, job.quality) == (4, 50)


@pytest.mark.parametrize(
    ("filename", "plain", "whole"),
    [
        ("mon été 日本.jpg", "mon_ete_-candy.jpg", "mon_%C3%A9t%C3%A9_%E6%97%A5%E6%9C%AC-candy.jpg"),
        ("日本.jpg", "candy.jpg", "%E6%97%A5%E6%9C%AC-candy.jpg"),
    ],
)
async def test_a_file_keeps_its_name_in_any_script(
    redis: Redis, redis_url: str, filename: str, plain: str, whole: str
) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            response = await client.post("/stylize?style=candy", files={"file": (filename, JPEG, "image/jpeg")})
    expected = f"inline; filename=\"{plain}\"; filename*=UTF-8''{whole}"
    assert response.headers["content-disposition"] == expected


async def test_answer_says_how_it_came_about(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            first = await client.post("/stylize?style=candy", content=JPEG, headers={"X-Request-Id": "abc-1"})
            again = await client.post("/stylize?style=candy:2", content=JPEG)
            other = await client.post("/stylize?style=wave", content=JPEG)
    stages = [part.split(";dur=") for part in first.headers["server-timing"].split(", ")]
    assert [name for name, _ in stages] == ["queue", "decode", "infer", "encode", "total"]
    assert all(float(duration) >= 0 for _, duration in stages)
    assert first.headers["x-request-id"] == "abc-1"
    assert re.fullmatch(r'"[0-9a-f]{32}"', first.headers["etag"])
    assert first.headers["etag"] == again.headers["etag"]
    assert first.headers["etag"] != other.headers["etag"]


async def test_redis_keeps_nothing_of_an_answered_request(redis: Redis, redis_url: str) -> None:
    with StandIn(redis) as worker:
        async with serving(redis_url) as client:
            await client.post("/stylize?style=candy", content=JPEG)
        job = worker.jobs.get_nowait()
    assert redis.exists(input_key(job.id), output_key(job.id)) == 0


async def test_blend_and_dials_reach_the_worker(redis: Redis, redis_url: str) -> None:
    with StandIn(redis) as worker:
        async with serving(redis_url) as client:
            query: dict[str, str | float] = {
                "style": "candy:3, wave:1,mosaic:0",
                "strength": 0.5,
                "preserve_color": "true",
                "size": 32,
            }
            response = await client.post("/stylize", params=query, content=JPEG)
        job = worker.jobs.get_nowait()
    assert response.status_code == 200
    assert isinstance(job, StyleJob)
    assert job.styles == {"candy": 0.75, "wave": 0.25}
    assert (job.strength, job.preserve_color, job.size) == (0.5, True, 32)


@pytest.mark.parametrize(
    ("upload", "query", "accept", "expected"),
    [
        (JPEG, "", "*/*", "image/jpeg"),
        (encode("PNG"), "", None, "image/png"),
        (encode("WEBP"), "", "image/*", "image/webp"),
        (encode("AVIF"), "", "*/*", "image/avif"),
        (encode("HEIF"), "", "*/*", "image/jpeg"),
        (encode("HEIF", mode="RGBA"), "", "*/*", "image/png"),
        (encode("BMP"), "", "*/*", "image/png"),
        (encode("TIFF"), "", "*/*", "image/png"),
        (encode("GIF", mode="P"), "", "*/*", "image/png"),
        (JPEG, "&format=webp", "image/png", "image/webp"),
        (JPEG, "&format=JPG", "*/*", "image/jpeg"),
        (JPEG, "", "image/webp", "image/webp"),
        (JPEG, "", "image/webp, */*;q=0.1", "image/webp"),
        (JPEG, "", "image/png;q=0.5, image/avif;q=0.9", "image/avif"),
        (JPEG, "", "image/jpeg;q=0, image/*", "image/png"),
        (JPEG, "", "text/html,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "image/jpeg"),
        (JPEG, "", "application/json, text/plain, */*", "image/jpeg"),
        (JPEG, "", "application/json", "image/jpeg"),
        (JPEG, "", ";;q=x, /,,image/png;q=zero", "image/jpeg"),
    ],
)
async def test_output_format(
    redis: Redis, redis_url: str, upload: bytes, query: str, accept: str | None, expected: str
) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            headers = {} if accept is None else {"Accept": accept}
            if accept is None:
                del client.headers["accept"]
            response = await client.post(f"/stylize?style=candy{query}", content=upload, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == expected


async def test_orientation_counts_for_the_size_of_the_answer(redis: Redis, redis_url: str) -> None:
    upload = rotated("JPEG", (9000, 20))
    with StandIn(redis):
        async with serving(redis_url) as client:
            wide = await client.post("/upscale?factor=2&format=webp", content=upload)
            fits = await client.post("/upscale?factor=2&format=png", content=upload)
    assert wide.status_code == 422
    assert "40 x 18000" in wide.json()["detail"]
    assert fits.status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ErrorCode.BROKEN_PICTURE, 400, "broken-picture"),
        (ErrorCode.UNKNOWN_STYLE, 404, "unknown-style"),
        (ErrorCode.UNKNOWN_FACTOR, 422, "unknown-factor"),
        (ErrorCode.TOO_LARGE, 413, "too-many-pixels"),
        (ErrorCode.DEADLINE, 504, "deadline-passed"),
        (ErrorCode.INPUT_LOST, 503, "job-lost"),
        (ErrorCode.INTERNAL, 500, "job-failed"),
    ],
)
async def test_what_the_worker_could_not_do(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture, error: ErrorCode, status: int, kind: str
) -> None:
    def fail(job: Job, data: bytes) -> tuple[JobResult, bytes]:
        return JobResult(status=JobStatus.FAILED, error=error), b""

    with StandIn(redis, fail) as worker:
        async with serving(redis_url) as client:
            response = await client.post("/stylize?style=candy", content=JPEG, headers={"X-Request-Id": "abc-1"})
        job = worker.jobs.get_nowait()
    assert response.status_code == status
    assert response.json()["type"] == f"urn:impasto:problem:{kind}"
    assert response.json()["job_id"] == job.id
    logged = [(each.levelname, each.message) for each in caplog.records if "abc-1" in each.message]
    said = f"request abc-1, job {job.id}: {response.json()['title']} (urn:impasto:problem:{kind})"
    assert logged == ([("ERROR", said)] if status in (500, 504) else [])
    assert response.headers["content-type"] == "application/problem+json"


async def test_late_picture_is_504_and_its_job_withdrawn(
    redis: Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    report(redis)
    async with serving(redis_url, request_timeout_s=0.05) as client:
        response = await client.post("/stylize?style=candy", content=JPEG)
    assert response.status_code == 504
    (logged,) = [each.message for each in caplog.records if "deadline-passed" in each.message]
    assert f"request {response.headers['x-request-id']}, job {response.json()['job_id']}: " in logged
    assert redis.llen("rq:queue:impasto") == 0
    assert not list(redis.scan_iter("impasto:input:*"))


async def test_tried_examples_of_the_docs(redis: Redis, redis_url: str) -> None:
    with StandIn(redis):
        async with serving(redis_url) as client:
            document = (await client.get("/openapi.json")).json()
            for path in ("/stylize", "/upscale"):
                parameters = document["paths"][path]["post"]["parameters"]
                tried = [p for p in parameters if p["in"] == "query" and "examples" in p["schema"]]
                query = {parameter["name"]: parameter["schema"]["examples"][0] for parameter in tried}
                assert query, json.dumps(parameters)
                response = await client.post(path, params=query, content=JPEG)
                assert response.status_code == 200, response.text

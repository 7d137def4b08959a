"""The pages a browser sees: the studio and the API's documentation."""

import re
from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.app import create_app
from service.problems import TYPE_PREFIX, Problem
from service.uploads import validate
from tests.service.stand_in import report
from tests.service.support import huge_png, serving, settings

WEB = Path(__file__).parents[2] / "service" / "web"


@pytest.mark.anyio
async def test_the_studio_loads_its_own_files_alone(redis_url: str) -> None:
    async with serving(redis_url) as client:
        page = await client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        addresses = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
        assert not [address for address in addresses if "//" in address]
        for address in addresses:
            assert (await client.get(address)).status_code == 200, address
        for path in WEB.rglob("*.js"):
            module = await client.get(f"/web/{path.relative_to(WEB)}")
            assert module.headers["content-type"].startswith("text/javascript")
            assert module.headers["cache-control"] == "no-cache"


@pytest.mark.anyio
async def test_the_documentation_needs_no_other_server(redis_url: str) -> None:
    async with serving(redis_url) as client:
        page = await client.get("/docs")
        assert page.status_code == 200
        assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]+"', page.text)
        for address in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
            assert (await client.get(address)).status_code == 200, address
        schema = (await client.get("/openapi.json")).json()
        assert {"/stylize", "/upscale", "/jobs/{job_id}", "/styles", "/metrics"} <= set(schema["paths"])


@pytest.mark.anyio
async def test_files_outside_the_page_stay_there(redis_url: str) -> None:
    async with serving(redis_url) as client:
        for address in ("/web/../settings.py", "/web/%2e%2e/settings.py", "/docs/files/..%2f..%2f__init__.py"):
            assert (await client.get(address)).status_code == 404


@pytest.mark.anyio
async def test_a_file_that_has_not_changed_keeps_its_policy(redis_url: str) -> None:
    async with serving(redis_url) as client:
        page = await client.get("/web/index.html")
        unchanged = await client.get("/web/index.html", headers={"If-None-Match": page.headers["etag"]})
    assert unchanged.status_code == 304
    for name in ("content-security-policy", "cache-control"):
        assert unchanged.headers[name] == page.headers[name]


@pytest.mark.anyio
async def test_browsers_keep_the_files_of_the_documentation(redis_url: str) -> None:
    async with serving(redis_url) as client:
        bundle = await client.get("/docs/files/swagger-ui-bundle.js")
        again = await client.get(bundle.url, headers={"If-None-Match": bundle.headers["etag"]})
    assert (bundle.headers["cache-control"], again.status_code) == ("no-cache", 304)


@pytest.mark.anyio
async def test_previews_are_where_a_proxy_puts_the_service(redis: Redis, redis_url: str) -> None:
    report(redis)
    app = create_app(settings(redis_url))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, root_path="/NAME/impasto")
        async with httpx.AsyncClient(transport=transport, base_url="http://impasto") as client:
            candy = (await client.get("/NAME/impasto/styles")).json()[0]
            preview = await client.get(candy["preview"])
    assert candy["preview"] == "/NAME/impasto/styles/candy/preview"
    assert preview.content == b"a preview"


@pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144), (8688, 5792)])
def test_photos_of_cameras_of_50_megapixels_are_taken(size: tuple[int, int]) -> None:
    assert validate(huge_png(*size), settings("redis://none").max_pixels).width == size[0]


def test_every_module_of_the_studio_is_there_and_used() -> None:
    used, found = {"studio.js"}, {path.name for path in WEB.glob("*.js")}
    for name in found:
        used |= set(re.findall(r"""from '\./([^']+)'""", (WEB / name).read_text()))
    assert used == found


def test_the_studio_puts_problems_that_there_are_in_its_own_words() -> None:
    words = (WEB / "errors.js").read_text()
    table = re.search(r"const SENTENCES = {(.*?)};", words, re.DOTALL)
    assert table is not None
    kinds = set(re.findall(r"^ +'?([a-z-]+)'?: '", table[1], re.MULTILINE))
    assert kinds
    assert kinds <= {kind.slug for kind in Problem.__subclasses__()}
    assert f"'{TYPE_PREFIX}'" in words

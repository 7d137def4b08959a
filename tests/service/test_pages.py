"""The pages a browser sees: the studio and the API's documentation."""

import re
from pathlib import Path

import pytest

from tests.service.support import serving

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

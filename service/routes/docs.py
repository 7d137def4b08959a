"""`/docs`: the API to try out, with no file of it from another server."""

from importlib.resources import files as resources
from pathlib import Path
from typing import cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from service.files import FilesWithHeaders

router = APIRouter(include_in_schema=False)
# FastAPI's own page loads Swagger UI from a CDN; this package carries the same files.
# Browsers may keep them, and ask whether they have changed.
files = FilesWithHeaders(Path(str(resources("fastapi_swagger") / "resources")), {"Cache-Control": "no-cache"})


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Gives the page."""
    app = cast(FastAPI, request.app)
    root = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{root}{app.openapi_url}",
        title=f"{app.title} API",
        swagger_js_url=f"{root}/docs/files/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/docs/files/swagger-ui.css",
        swagger_favicon_url=f"{root}/web/favicon.svg",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )

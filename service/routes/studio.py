"""`/`: the studio page and its files."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).parent.parent / "web"

router = APIRouter(include_in_schema=False)
files = StaticFiles(directory=WEB)


@router.api_route("/", methods=["GET", "HEAD"])
async def index() -> FileResponse:
    """Gives the page."""
    return FileResponse(WEB / "index.html", headers={"Cache-Control": "no-cache"})

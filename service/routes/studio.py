"""`/`: the studio page and its files."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service.files import FilesWithHeaders

WEB = Path(__file__).parent.parent / "web"

HEADERS = {
    # Browsers ask each time whether a file has changed: none goes on with old modules after an upgrade, and what is as
    # it was costs no transfer. While old and new processes answer side by side, a page may get some of each.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

router = APIRouter(include_in_schema=False)
files = FilesWithHeaders(WEB, HEADERS)


@router.api_route("/", methods=["GET", "HEAD"])
async def index() -> FileResponse:
    """Gives the page."""
    return FileResponse(WEB / "index.html", headers=HEADERS)

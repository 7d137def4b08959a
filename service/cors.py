"""CORS: lets pages of other origins call the API. Off unless the operator names some."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

METHODS = ("GET", "HEAD", "POST", "DELETE")
REQUEST_HEADERS = (
    *("Authorization", "X-API-Key", "Content-Type"),
    *("Prefer", "If-None-Match", "Last-Event-ID", "X-Request-Id"),
)
RESPONSE_HEADERS = (
    *("Location", "Preference-Applied", "Retry-After", "X-Request-Id"),
    *("ETag", "Content-Disposition", "Server-Timing", "Cache-Status"),
)
"""Those that a page may read; besides, browsers show it `Content-Type`, `Content-Length` and `Cache-Control`."""


def install(app: FastAPI, origins: Sequence[str]) -> None:
    """Adds the middleware where there are origins. It answers preflights itself: they need no key and cost nothing."""
    if not origins:
        return
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
    )

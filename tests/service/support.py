"""Pictures and clients for the service's tests."""

import io
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Event, Thread
from typing import Any

import httpx
from fastapi import FastAPI
from PIL import Image

from service.app import create_app
from service.server import Server
from service.settings import Settings


def encode(image_format: str, size: tuple[int, int] = (40, 24), mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 128 if mode in ("L", "P") else None).save(file, image_format, **options)
    return file.getvalue()


def animated(image_format: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, image_format, save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


def rotated(image_format: str, size: tuple[int, int], orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image_format, size, exif=exif)


def huge_png(width: int, height: int) -> bytes:
    """A PNG of some bytes whose header announces a picture of any size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def settings(redis_url: str, **changes: Any) -> Settings:
    return Settings(redis_url=redis_url, _env_file=None, **changes)


@asynccontextmanager
async def serving(redis_url: str, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app of its own. An exception that the app lets through fails the test."""
    app = create_app(settings(redis_url, **changes))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://impasto", timeout=30) as client:
            yield client


@contextmanager
def listening(redis_url: str, **changes: Any) -> Iterator[int]:
    """A server on a free port; gives the port."""
    with running_server(redis_url, **changes) as server:
        yield port_of(server)


def port_of(server: Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])


@contextmanager
def running_server(redis_url: str, **changes: Any) -> Iterator[Server]:
    """A server on a free port, in a thread."""
    chosen = settings(redis_url, **changes)
    server = _Server(create_app(chosen), chosen)
    server.config.port = 0
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    server.wait_started()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


class _Server(Server):
    def __init__(self, app: FastAPI, chosen: Settings) -> None:
        super().__init__(app, chosen)
        self._started = Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._started.set()

    def wait_started(self) -> None:
        assert self._started.wait(20)

"""A client that does next to nothing: it shares two cores with what it measures, where a full client takes as much as
the service itself."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    server_timing: str
    size: int
    """Bytes of the body."""


class Connection:
    """One connection that is kept open; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def post(self, path: str, body: bytes, headers: str = "") -> Answer:
        """Sends a picture; `headers` are further lines, each with its end.

        Raises `OSError` or `EOFError` when the connection breaks, which closes it.
        """
        try:
            reader, writer = await self._open()
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
            writer.writelines((head.encode(), body))
            return await _read(reader)
        except (OSError, EOFError):
            self.close()
            raise

    @property
    def is_closed_by_server(self) -> bool:
        """Whether it was open, and the server has ended it."""
        return self._streams is not None and self._streams[0].at_eof()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A server closes connections that rest; whoever sends on one of those is told nothing of it but an end.
        if self.is_closed_by_server:
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        return self._streams

    def close(self) -> None:
        """The next request opens it anew."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def _read(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(HEAD_END)).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    size = int(headers.get("content-length", 0))
    await reader.readexactly(size)
    return Answer(int(first.split(" ", 2)[1]), headers.get("server-timing", ""), size)

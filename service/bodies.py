"""The request's body -> the uploaded bytes, stopped as soon as they exceed the limit."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.memory import Content, Memory
from service.problems import (
    BadParameter,
    EncodedBody,
    MalformedMultipart,
    MissingFile,
    QueueFull,
    ServiceStopping,
    TooManyBytes,
    UploadTimeout,
)

FILE_FIELD = "file"
ENVELOPE_BYTES = 64 * 1024
"""What a form may hold besides its file."""


@dataclass(frozen=True)
class Body:
    """What a client sent."""

    content: Content
    filename: str = ""
    """As the client names the file, unchecked; empty for a raw body."""


class BodyReader:
    """Reads the bodies of one process's requests: each within its limits, and all together too."""

    def __init__(self, limit: int, timeout_s: float, memory: Memory) -> None:
        """`limit`: of one body in bytes; `memory`: for all that are being read, or have been and are not let go yet."""
        self._limit = limit
        self._timeout_s = timeout_s
        self._memory = memory
        self._reading: set[asyncio.Timeout] = set()
        self._is_dismissed = False

    def dismiss(self) -> None:
        """Lets all go who are still sending: the process is about to stop."""
        self._is_dismissed = True
        for timeout in self._reading:
            if not timeout.expired():
                timeout.reschedule(0.0)

    async def read(self, request: Request) -> Body:
        """Reads a raw body, whatever its content type, or the field `file` of a form.

        Raises `EncodedBody`, `TooManyBytes`, `UploadTimeout`, `MalformedMultipart`, `MissingFile`, `BadParameter` for
        other fields, `ServiceStopping`, or `QueueFull` where too many bytes are being read.
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise EncodedBody(encoding)
        timeout = asyncio.timeout(0 if self._is_dismissed else self._timeout_s)
        self._reading.add(timeout)
        try:
            async with timeout, aclosing(self._stream(request)) as stream:
                data, filename = await _read_body(request, stream, self._limit)
                return self._keep(data, filename)
        except TimeoutError:
            raise (ServiceStopping() if self._is_dismissed else UploadTimeout(self._timeout_s)) from None
        finally:
            self._reading.remove(timeout)

    def _keep(self, data: bytes, filename: str) -> Body:
        """Counts the file in place of the chunks it came in, which are counted until the stream is closed."""
        self._memory.hold(len(data))
        return Body(Content(data, self._memory), filename)

    async def _stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        read = 0
        try:
            async for chunk in request.stream():
                if not self._memory.take(len(chunk)):
                    raise QueueFull.of_uploads()
                read += len(chunk)
                yield chunk
        finally:
            self._memory.give_back(read)


async def _read_body(request: Request, stream: AsyncGenerator[bytes, None], limit: int) -> tuple[bytes, str]:
    """The file and its name."""
    if _is_form(request):
        return await _read_form(request, stream, limit)
    _check_declared_length(request, limit, limit)
    chunks = [chunk async for chunk in _limited(stream, limit, limit)]
    return b"".join(chunks), ""


def declared_length(request: Request) -> int:
    """Bytes that the client says it will send; 0 where it does not say."""
    declared = request.headers.get("content-length", "")
    return int(declared[:20]) if declared.isdecimal() else 0


def _is_form(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "multipart/form-data"


def _check_declared_length(request: Request, most: int, limit: int) -> None:
    if declared_length(request) > most:
        raise TooManyBytes(limit)


async def _limited(stream: AsyncGenerator[bytes, None], most: int, limit: int) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > most:
            raise TooManyBytes(limit)
        yield chunk


async def _read_form(request: Request, stream: AsyncGenerator[bytes, None], limit: int) -> tuple[bytes, str]:
    most = limit + ENVELOPE_BYTES
    _check_declared_length(request, most, limit)
    form = await _parse_form(request, _limited(stream, most, limit), most)
    try:
        file = form.get(FILE_FIELD)
        if not isinstance(file, UploadFile):
            raise MissingFile
        _refuse_other_fields(form)
        data = await file.read()
    finally:
        await form.close()
    if len(data) > limit:
        raise TooManyBytes(limit)
    return data, file.filename or ""


def _refuse_other_fields(form: FormData) -> None:
    """What a client thinks are parameters would go unheard."""
    reasons = [(name[:64], "send it in the query string, not in the form") for name in form if name != FILE_FIELD]
    if reasons:
        raise BadParameter.because(reasons)


async def _parse_form(request: Request, stream: AsyncGenerator[bytes, None], most: int) -> FormData:
    parser = _FormParser(request.headers, stream, max_files=1, max_fields=16, max_part_size=ENVELOPE_BYTES)
    parser.stream = parser.complete(stream)
    parser.spool_max_size = most  # never to disk: photos are private, and containers read-only
    try:
        return await parser.parse()
    # Python's text codecs, which the client names, raise LookupError and kinds of ValueError.
    except (MultiPartException, ValueError, LookupError) as error:
        raise MalformedMultipart(f"The form cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, MultiPartException) else "its encoding is not understood."


class _FormParser(MultiPartParser):
    ended = False

    def on_end(self) -> None:
        self.ended = True

    async def complete(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The stream; raises `MalformedMultipart` where it stops before the form does."""
        async for chunk in stream:
            yield chunk
        if not self.ended:
            raise MalformedMultipart("The form ends before its closing boundary; send it again.")

"""The request's body -> the uploaded bytes, stopped as soon as they exceed the limit."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.problems import MalformedMultipart, MissingFile, TooManyBytes

ENVELOPE_BYTES = 64 * 1024
"""What a form may hold besides its file."""


@dataclass(frozen=True)
class Body:
    """What a client sent."""

    data: bytes
    filename: str = ""
    """As the client names the file, unchecked; empty for a raw body."""


async def read_body(request: Request, limit: int) -> Body:
    """Reads a raw body, whatever its content type, or the field `file` of a form.

    Raises `TooManyBytes` past `limit` bytes, `MalformedMultipart`, or `MissingFile`.
    """
    if _is_form(request):
        return await _read_form(request, limit)
    _check_declared_length(request, limit, limit)
    chunks = [chunk async for chunk in _limited(request, limit, limit)]
    return Body(b"".join(chunks))


def _is_form(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "multipart/form-data"


def _check_declared_length(request: Request, most: int, limit: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise TooManyBytes(limit)


async def _limited(request: Request, most: int, limit: int) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most:
            raise TooManyBytes(limit)
        yield chunk


async def _read_form(request: Request, limit: int) -> Body:
    most = limit + ENVELOPE_BYTES
    _check_declared_length(request, most, limit)
    form = await _parse_form(request, _limited(request, most, limit), most)
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise MissingFile
        data = await file.read()
    finally:
        await form.close()
    if len(data) > limit:
        raise TooManyBytes(limit)
    return Body(data, file.filename or "")


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

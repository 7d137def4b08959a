"""What a client may send around its pictures: bounds on request lines, headers, trailers and requests that queue up."""

from http import HTTPStatus
from typing import Self

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.handlers import render
from service.problems import Problem

MAX_FIELD_BYTES = 65_536
"""Bytes of a request's address, and of its headers and trailers together; proxies allow 8 to 32 KB."""
MAX_FIELDS = 200
"""Headers and trailers of a request. Each costs some hundred bytes here, however short it is."""
MAX_PIPELINED = 16
"""Requests that a client may have sent ahead of the answer it waits for; each costs 2 KB before it is looked at."""


class MalformedRequest(Problem):
    """What came is not HTTP as it is spoken here."""

    status, slug, title = 400, "malformed-request", "Malformed request"

    def __init__(self, detail: str = "What was sent is not HTTP/1.1; see /docs.") -> None:
        super().__init__(detail)

    @classmethod
    def tunnel(cls) -> Self:
        """The problem of a client that takes this for a proxy."""
        return cls("CONNECT is for proxies; send the picture with POST, see /docs.")

    @classmethod
    def ahead(cls) -> Self:
        """The problem of more requests than may be queued."""
        return cls(f"More than {MAX_PIPELINED} requests were sent ahead of their answers; wait for these.")


class UrlTooLong(Problem):
    """The request's address is over the limit."""

    status, slug, title = 414, "url-too-long", "Address too long"

    def __init__(self) -> None:
        super().__init__(f"The address is longer than {MAX_FIELD_BYTES} bytes; send the picture in the body.")


class HeadersTooLarge(Problem):
    """The request's headers or trailers are over the limit, or what else frames its body."""

    status, slug, title = 431, "headers-too-large", "Headers too large"

    def __init__(self) -> None:
        limits = f"{MAX_FIELDS} headers and trailers, or {MAX_FIELD_BYTES} bytes of them"
        super().__init__(f"The request has more than {limits}; send fewer.")


class BoundedProtocol(HttpToolsProtocol):
    """Takes no more memory for what surrounds a request's body than it should, and answers what it refuses.

    uvicorn collects addresses, headers and trailers without end, and queues any number of requests. It also loses the
    body where a client offers to speak another protocol, as `curl --http2` does: here that is passed over, as RFC 9110
    (7.8) has it.
    """

    _refused = False
    _refusal: Problem | None = None
    _in_body = False
    _fields = 0
    _field_bytes = 0
    _bytes_without_progress = 0
    _has_progressed = False

    def data_received(self, data: bytes) -> None:
        """Parses it, and answers what cannot be taken."""
        self._unset_keepalive_if_required()
        if self._refused:
            return  # read over, because an answer is lost where the connection is closed with something unread
        try:
            self._parse(data)
        except (httptools.HttpParserError, Problem):
            self.refuse(self._refusal or MalformedRequest())

    def refuse(self, problem: Problem) -> None:
        """Reads nothing more; answers with the problem, unless another answer is under way or was given."""
        self._refused = True
        self.logger.warning("refused a request: %s", problem.detail)
        if not self._may_answer():
            self.transport.close()
            return
        if self._in_body:
            self.cycle.disconnected = True  # the application shall wait for no more of it, and say nothing
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write(self._rendered(problem))
        self.transport.write_eof()

    def on_message_begin(self) -> None:
        """Counts anew."""
        self._in_body = False
        self._has_progressed = True
        self._fields = self._field_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Takes a piece of the address."""
        super().on_url(url)
        if len(self.url) > MAX_FIELD_BYTES:
            raise self._limited(UrlTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header; or a trailer, which nobody asks for."""
        self._fields += 1
        self._field_bytes += len(name) + len(value)
        if self._fields > MAX_FIELDS or self._field_bytes > MAX_FIELD_BYTES:
            raise self._limited(HeadersTooLarge())
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begins with the request, or queues it."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise self._limited(MalformedRequest.tunnel())
            return  # comes again, see `_parse`
        super().on_headers_complete()
        self._in_body = True
        if len(self.pipeline) > MAX_PIPELINED:
            raise self._limited(MalformedRequest.ahead())

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body."""
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        if not self.parser.should_upgrade():
            self._in_body = False
            super().on_message_complete()

    def _parse(self, data: bytes | memoryview) -> None:
        self._has_progressed = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            (consumed,) = upgrade.args
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self.parser.feed_data(head)
            self._parse(memoryview(data)[consumed:])
            return
        # A header is reported when it is complete, and the rest of a chunk's line not at all.
        self._bytes_without_progress = 0 if self._has_progressed else self._bytes_without_progress + len(data)
        if self._bytes_without_progress > MAX_FIELD_BYTES:
            raise self._limited(HeadersTooLarge())

    def _head_without_upgrade(self) -> bytes:
        """The head just parsed, as one that offers nothing."""
        version = self.parser.get_http_version().encode()
        fields = b"".join(b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade")
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, fields)

    def _limited(self, problem: Problem) -> Problem:
        """The problem, kept: httptools raises an error of its own for what its callbacks raise."""
        self._refusal = problem
        return problem

    def _may_answer(self) -> bool:
        if self.cycle is None or self.cycle.response_complete:
            return not self._in_body  # or that answer was the answer to this request
        return self._in_body and not self.cycle.response_started and not self.pipeline

    def _rendered(self, problem: Problem) -> bytes:
        answer = render(problem)
        always = [(b"cache-control", b"no-store"), (b"connection", b"close")]
        fields = [*self.server_state.default_headers, *answer.raw_headers, *always]
        status = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n".encode()
        return status + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + bytes(answer.body)

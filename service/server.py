"""The HTTP server: uvicorn, less patient than it is by itself."""

import asyncio
import fcntl
import socket
import struct
import termios

import uvicorn
from fastapi import FastAPI

from service.http_limits import BoundedProtocol
from service.problems import Problem
from service.services import Services
from service.settings import Settings

HEADERS_TIMEOUT_S = 10.0
"""Seconds in which a request's line and headers must have arrived, or the rest of an upload that has been refused."""
KEEP_ALIVE_S = 75
"""Seconds that a connection may idle between requests. Balancers and proxies keep theirs for 60 (AWS, nginx): where the
service is the first to hang up, a request that is just on its way is lost."""
GRACE_S = 10
"""Seconds that requests in hand have when the server is asked to stop."""
PARTING_S = 2.0
"""The last of them: requests that still send theirs then, or wait for one, are told so, and their jobs taken back."""
UNREAD_S = 30.0
"""Seconds in which a client must have read `LEAST_READ_BYTES` of an answer that waits for it."""
LEAST_READ_BYTES = 65_536
HELD_BYTES = 65_536
"""Bytes of an answer that are held back at most until the rest of what is written with them is there."""


class WholeAnswers:
    """A transport that sends what is written in one turn of the loop in one piece, as headers and a picture are.

    uvicorn writes headers and body one after the other. A process that is killed in between has promised a picture
    that never comes, and a proxy that has passed the headers on cannot ask another process any more. It also costs
    a system call more, here and in the proxy. A stream's events are written in turns of their own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._has_ended = False

    def write(self, data: bytes) -> None:
        """Sends it before the loop's next turn."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD_BYTES:  # or the transport would not see in time that the client is slow
            self._send()

    def close(self) -> None:
        """Sends what is held, and closes."""
        self._send()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._has_ended or self._transport.is_closing()

    def abort(self) -> None:
        """Closes without sending what is left."""
        self._transport.abort()

    def write_eof(self) -> None:
        """Sends what is held, and that nothing follows."""
        self._send()
        self._has_ended = True
        self._transport.write_eof()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not handed to the kernel yet."""
        return self._held_bytes + self._transport.get_write_buffer_size()

    def unread_bytes(self) -> int:
        """Bytes that have not arrived at the client yet.

        The kernel holds megabytes itself and takes more of them in lumps, minutes apart where a client is slow.
        """
        return self.get_write_buffer_size() + _unconfirmed_bytes(self._transport)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """As the transport's."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """As the transport's."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As the transport's."""
        self._transport.resume_reading()

    def _send(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and not self.is_closing():
            self._transport.writelines(held)


class ImpatientProtocol(BoundedProtocol):
    """Hangs up on clients that connect and say nothing, send their headers byte by byte, or do not read their answer.

    uvicorn limits only the pause between two requests. While an upload is read, `IMPASTO_UPLOAD_TIMEOUT_S` counts.
    """

    _hanging_up: asyncio.TimerHandle | None = None
    _giving_up: asyncio.TimerHandle | None = None
    _receiving = False
    transport: WholeAnswers  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for the first request."""
        _send_at_once(transport)
        super().connection_made(WholeAnswers(transport, self.loop))  # type: ignore[arg-type]
        self._hang_up_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        self._go_on()
        self._stop_watching()
        self._unset_keepalive_if_required()  # uvicorn leaves it where the client resets, and it holds all this
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Waits for a request where the client has sent something that is none, as empty lines are."""
        was_receiving = self._receiving
        super().data_received(data)
        is_answered = self.cycle is None or self.cycle.response_complete
        if not is_answered or self._receiving or self.transport.is_closing():
            return
        if was_receiving:  # the rest of an upload that has been refused
            self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_S, self.timeout_keep_alive_handler)
        else:
            self._hang_up_later()

    def refuse(self, problem: Problem) -> None:
        """Waits for the client to close the connection."""
        super().refuse(problem)
        self._hang_up_later()

    def pause_writing(self) -> None:
        """Waits for the client to read."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """The client has read nearly all of it."""
        self._stop_watching()
        super().resume_writing()

    def on_message_begin(self) -> None:
        """Waits for the headers."""
        self._receiving = True
        self._hang_up_later()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Leaves the body to the application."""
        self._go_on()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Waits for nothing until the next request begins."""
        self._receiving = False
        self._go_on()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Waits for what the client still sends of a request that has been answered."""
        super().on_response_complete()
        if self._receiving:
            self._hang_up_later()

    def _hang_up_later(self) -> None:
        if self._hanging_up is None:
            self._hanging_up = self.loop.call_later(HEADERS_TIMEOUT_S, self.transport.close)

    def _go_on(self) -> None:
        if self._hanging_up is not None:
            self._hanging_up.cancel()
            self._hanging_up = None

    def _watch_reading(self) -> None:
        unread = self.transport.unread_bytes()
        self._giving_up = self.loop.call_later(UNREAD_S, self._give_up_unless_less, unread)

    def _give_up_unless_less(self, unread: int) -> None:
        if unread - self.transport.unread_bytes() >= LEAST_READ_BYTES:
            self._watch_reading()
        else:
            self.transport.abort()  # closing would wait for the client to read

    def _stop_watching(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None


def _send_at_once(transport: asyncio.Transport) -> None:
    """By itself, TCP may hold a stream's next event back for 40 ms, and the end of a large picture."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _unconfirmed_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has taken and the client's has not confirmed; 0 where it does not tell, as macOS."""
    connection = transport.get_extra_info("socket")
    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ, see tcp(7)
    except (OSError, ValueError):  # also where the connection has just been closed
        return 0
    (unconfirmed,) = struct.unpack("i", answer)
    return int(unconfirmed)


class Server(uvicorn.Server):
    """Serves the app. When it is to stop, it lets those go who follow jobs, and at last who send pictures or wait."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            http=ImpatientProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            forwarded_allow_ips=settings.forwarded_allow_ips,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no more connections and finishes the requests in hand. A second Ctrl-C lets go of these."""
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.followers.dismiss()
            for part in (services.bodies, services.jobs):
                asyncio.get_running_loop().call_later(GRACE_S - PARTING_S, part.dismiss)
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves the application open then
            await self.lifespan.shutdown()

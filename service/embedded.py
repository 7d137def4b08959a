"""Starts what `python -m service` needs besides the API on a machine that has nothing: Valkey and one worker."""

import asyncio
import logging
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from worker.processes import Pauses, describe_status, end, spawn
from worker.redis_program import NoRedisProgramError, find_redis_program

log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
"""Longer than a batch: a worker finishes what it has."""


class EmbeddedError(Exception):
    """Valkey or the worker cannot be started; the sentence says why and what to do."""


class SupervisedProcess:
    """A program that is started again, with growing pauses, whenever it ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
        pauses: Callable[[], Pauses] = Pauses,
    ) -> None:
        """`output`: file for what it writes; without one it writes where this program writes.

        `pauses`: how long to wait before it is started again.
        """
        self._name = name
        self._command = command
        self._environment = environment or {}
        self._output = output
        self._pauses = pauses
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def status(self) -> int | None:
        """How its last run ended; none while it runs."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Starts it. Raises `OSError`."""
        self._process = await self._spawn()

    def supervise(self) -> None:
        """From now on starts it again when it ends."""
        self._supervisor = asyncio.create_task(self._supervise(), name=f"{self._name}-supervisor")

    async def stop(self) -> None:
        """Asks it to end, and ends it if it does not."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process is None:
            return
        await end(self._process, STOP_TIMEOUT_S)
        await self._process.wait()

    async def _supervise(self) -> None:
        pauses = self._pauses()
        while self._process is not None:
            started = asyncio.get_running_loop().time()
            status = await self._process.wait()
            pause_s = pauses.after(asyncio.get_running_loop().time() - started)
            how = describe_status(status)
            log.error("The %s ended with %s; starting it again in %.1f s.", self._name, how, pause_s)
            await asyncio.sleep(pause_s)
            await self._spawn_again()

    async def _spawn_again(self) -> None:
        """Starts it; if that fails, then when memory, or whatever else is short, can be had again."""
        pauses = self._pauses()
        while True:
            try:
                self._process = await self._spawn()
            except OSError as error:
                pause_s = pauses.after(0)
                log.error("The %s cannot be started (%s); trying again in %.1f s.", self._name, error, pause_s)
                await asyncio.sleep(pause_s)
            else:
                return

    async def _spawn(self) -> Process:
        return await spawn(self._command, self._environment, self._output)


class EmbeddedValkey:
    """A Valkey (or Redis) of our own, on a socket in a folder of our own, gone when the program ends."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: of its memory; where they are full, jobs are refused."""
        self._max_bytes = max_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="impasto-")
        folder = Path(self._folder.name)
        self._socket = folder / "valkey.sock"
        self._log = folder / "valkey.log"
        self._process: SupervisedProcess | None = None

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"unix://{self._socket}"

    async def __aenter__(self) -> Self:
        command = [
            _find_server(),
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--dir", self._folder.name, "--save", "", "--appendonly", "no", "--loglevel", "warning"),
            *("--maxmemory", str(self._max_bytes), "--maxmemory-policy", "noeviction"),
        ]
        self._process = SupervisedProcess("embedded Valkey", command, output=self._log)
        try:
            await self._process.start()
            await self._wait_until_up(self._process)
        except OSError as error:
            raise EmbeddedError(_cannot_start(error.strerror or str(error))) from error
        except BaseException:
            await self.__aexit__()
            raise
        self._process.supervise()
        return self

    async def _wait_until_up(self, process: SupervisedProcess) -> None:
        """Returns when the server takes connections. Raises `EmbeddedError` when it ends instead."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            if process.status is not None:
                said = self._log.read_text(errors="replace").strip().splitlines()
                raise EmbeddedError(_cannot_start(said[-1] if said else f"it ended with status {process.status}"))
            with suppress(OSError):
                _, writer = await asyncio.open_unix_connection(str(self._socket))
                writer.close()
                return
            # The server announces nothing that could be waited for.
            await asyncio.sleep(0.02)
        raise EmbeddedError(_cannot_start("it does not answer"))

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await self._process.stop()
        self._folder.cleanup()


class EmbeddedWorker:
    """One `python -m worker` process."""

    def __init__(self, redis_url: str) -> None:
        self._process = SupervisedProcess(
            "worker", [sys.executable, "-m", "worker"], environment={"IMPASTO_REDIS_URL": redis_url}
        )

    async def __aenter__(self) -> Self:
        await self._process.start()
        self._process.supervise()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop()


def _find_server() -> str:
    try:
        return find_redis_program()
    except NoRedisProgramError as error:
        raise EmbeddedError(_cannot_start(str(error))) from error


def _cannot_start(reason: str) -> str:
    return f"The embedded Valkey cannot start: {reason}. Set IMPASTO_REDIS_URL to a running Redis or Valkey."

"""Child processes that do not outlive their parent, and how soon one that died is started again.

Standard library only.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_S = 60.0
"""A process that ran this long is started again as if it had never died before."""


class Pauses:
    """How long to wait before a process is started again: longer each time, until it has run well for a while."""

    def __init__(self, first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def after(self, ran_s: float) -> float:
        """Seconds to wait, now that it ended after `ran_s` seconds."""
        if ran_s >= HEALTHY_S:
            self._next_s = self._first_s
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, self._longest_s)
        return pause_s


async def spawn(command: Sequence[str], environment: Mapping[str, str], output: Path | None = None) -> Process:
    """Starts a program with further environment variables. It gets SIGTERM should this one die.

    `output`: file for what it writes; without one it writes where this program writes. Raises `OSError`.
    """
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    file = output.open("wb") if output else None
    try:
        return await asyncio.create_subprocess_exec(
            *guard,
            *command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # A session of its own: Ctrl-C reaches the parent alone, which then ends its children in order.
            start_new_session=True,
        )
    finally:
        if file is not None:
            file.close()


def send_signal(process: Process, number: signal.Signals) -> None:
    """Does nothing to one that has ended."""
    # Process.send_signal looks first whether it has ended, and so takes its exit status from under asyncio,
    # which then logs "Unknown child process" and makes up a status of 255.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def end(process: Process, patience_s: float) -> bool:
    """Asks it to end, and kills it if it has not in that time. Returns whether it was killed."""
    send_signal(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), patience_s)
    except TimeoutError:
        send_signal(process, signal.SIGKILL)
        return True
    return False


def describe_status(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"

"""Child processes of pool and service."""

import asyncio
import os
import signal
import sys
from contextlib import suppress

from worker.processes import send_signal, spawn


def wait_for_its_end(pid: int) -> None:
    """Blocks the loop, which so cannot have heard of the end, unless asyncio's own thread took the status already."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_one_that_ended_before_it_was_told_to_keeps_its_exit_status() -> None:
    async def run() -> int:
        process = await spawn([sys.executable, "-S", "-c", "raise SystemExit(3)"], {})
        wait_for_its_end(process.pid)
        send_signal(process, signal.SIGTERM)
        return await process.wait()

    # More than one, because that thread is sometimes first.
    assert {asyncio.run(run()) for _ in range(20)} == {3}

"""The programs that the service starts for itself."""

import asyncio
import logging

import pytest

from service.embedded import SupervisedProcess
from worker.processes import Pauses

pytestmark = pytest.mark.anyio


async def test_a_program_that_cannot_be_started_again_is_tried_until_it_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = SupervisedProcess("program", ["sleep", "0"], pauses=lambda: Pauses(first_s=0, longest_s=0))
    await process.start()
    spawn, failures, again = process._spawn, [OSError("no memory"), OSError("no memory")], asyncio.Event()

    async def spawn_at_last() -> asyncio.subprocess.Process:
        if failures:
            raise failures.pop()
        again.set()
        return await spawn()

    monkeypatch.setattr(process, "_spawn", spawn_at_last)
    caplog.set_level(logging.ERROR)
    process.supervise()
    async with asyncio.timeout(20):
        await again.wait()
    await process.stop()
    assert [message for message in caplog.messages if "no memory" in message][1:] == [
        "The program cannot be started (no memory); trying again in 0.0 s."
    ]

"""Several worker processes, each started again when it dies. Loads no PyTorch."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.cores import usable_cores, visible_cores
from worker.errors import StartError
from worker.processes import Pauses, describe_status, end, spawn
from worker.settings import PREFIX, WorkerSettings

log = logging.getLogger(__name__)

CANNOT_START = 2
"""Exit status of a worker that cannot start; starting it again would not help."""
WORKER = (sys.executable, "-m", "worker")
PARTING_S = 10.0
"""Seconds that a worker has, beyond its batch, for closing its jobs."""

_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True)
class Member:
    """One place in a pool, whichever process holds it."""

    name: str
    device: str
    threads: int
    metrics_port: int

    @property
    def environment(self) -> dict[str, str]:
        """What makes `python -m worker` take this place and no other."""
        values = {"devices": self.device, "threads": self.threads, "metrics_port": self.metrics_port}
        return {f"{PREFIX}{key.upper()}": str(value) for key, value in {**values, "processes_per_device": 1}.items()}


def plan_members(settings: WorkerSettings) -> list[Member]:
    """A place for each process on each device. Raises `StartError`."""
    devices = _all_devices() if settings.devices == ("auto",) else settings.devices
    places = [device for device in devices for _ in range(settings.processes_per_device)]
    if settings.metrics_port + len(places) - 1 > 65535:
        raise StartError(f"IMPASTO_METRICS_PORT is too high: {len(places)} processes need a port each.")
    return [
        Member(f"worker {index}", device, _threads(settings, places, device), _metrics_port(settings, index))
        for index, device in enumerate(places)
    ]


def _threads(settings: WorkerSettings, places: Sequence[str], device: str) -> int:
    """CPU threads of one process: processes that compute on the CPU share its cores. 0: what the runtime likes."""
    sharing, usable = places.count("cpu"), usable_cores()
    if settings.threads or device != "cpu" or (sharing == 1 and usable == visible_cores()):
        return settings.threads
    return max(usable // sharing, 1)


def _metrics_port(settings: WorkerSettings, index: int) -> int:
    return settings.metrics_port + index if settings.metrics_port else 0


def _all_devices() -> tuple[str, ...]:
    """Every GPU, else the CPU. PyTorch counts them, in a process of its own, but only where there is a driver."""
    if not any(Path(driver).exists() for driver in _GPU_DRIVERS):
        return ("cpu",)
    command = [sys.executable, "-c", _COUNT_GPUS]
    counted = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (nothing in it is foreign)
    if counted.returncode:
        said = counted.stderr.strip().splitlines() or [describe_status(counted.returncode)]
        raise StartError(f"PyTorch cannot count the GPUs here ({said[-1]}): set IMPASTO_DEVICES.")
    return tuple(f"cuda:{index}" for index in range(int(counted.stdout))) or ("cpu",)


class Pool:
    """Keeps a process running for each member until it is asked to stop, or one of them cannot start at all."""

    def __init__(
        self,
        members: Sequence[Member],
        grace_s: float,
        command: Sequence[str] = WORKER,
        pauses: Callable[[], Pauses] = Pauses,
    ) -> None:
        """`grace_s`: seconds from the wish to stop to the end by force."""
        self._members = members
        self._grace_s = grace_s
        self._command = command
        self._pauses = pauses
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Returns the exit status once all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        log.info("A pool of %d workers starts: %s.", len(self._members), _count_devices(self._members))
        await asyncio.gather(*(self._keep(member) for member in self._members))
        return self._status

    async def _keep(self, member: Member) -> None:
        pauses, started_before = self._pauses(), False
        while not self._stop.is_set():
            started_at = asyncio.get_running_loop().time()
            status = await self._run_once(member)
            if self._stop.is_set():
                return
            # One that has worked before may find, say, the zoo's network drive gone; that passes.
            if status == CANNOT_START and not started_before:
                self._give_up(member)
                return
            started_before = True
            pause_s = pauses.after(asyncio.get_running_loop().time() - started_at)
            log.error(
                "%s (%s) ended with %s; starting it again in %.1f s.",
                member.name,
                member.device,
                describe_status(status),
                pause_s,
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)

    def _give_up(self, member: Member) -> None:
        log.error("%s (%s) cannot start and has said why above; the pool stops.", member.name, member.device)
        self._status = CANNOT_START
        self._stop.set()

    async def _run_once(self, member: Member) -> int:
        """Exit status of the process."""
        try:
            process = await spawn(self._command, member.environment)
        except OSError as error:
            log.error("%s cannot be started: %s.", member.name, error.strerror)
            return os.EX_OSERR
        ended = asyncio.ensure_future(process.wait())
        asked = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not ended.done():
            await self._end(member, process)
        return await ended

    async def _end(self, member: Member, process: Process) -> None:
        """Lets a worker finish its batch, but not forever."""
        if await end(process, self._grace_s):
            log.error("%s has not ended in %.0f s and is killed; its jobs go elsewhere.", member.name, self._grace_s)


def _count_devices(members: Sequence[Member]) -> str:
    devices = dict.fromkeys(member.device for member in members)
    return ", ".join(f"{sum(member.device == device for member in members)} on {device}" for device in devices)


def run_pool(members: Sequence[Member], settings: WorkerSettings) -> int:
    """Runs a pool until SIGTERM or SIGINT. Returns the exit status."""
    return asyncio.run(Pool(members, settings.device_timeout_s + PARTING_S).run())

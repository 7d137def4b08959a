"""The load generator, a process of its own: `python -m benchmarks.load PLAN`.

Closed loop: so many clients, each sending its next picture when it has the last. Open loop: pictures arrive at random
moments (Poisson) whether or not earlier ones are answered, and a latency counts from the moment of arrival.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from statistics import median
from typing import Generic, TypeVar

from benchmarks.http_client import Answer, Connection
from benchmarks.pictures import draw_jpeg
from benchmarks.report import percentile

T = TypeVar("T")

BEGIN = "begin"
"""What the process says when it begins to count. After the last answer that counts it says its outcome."""
DISTINCT = 8
"""Different pictures of each size."""
WORK = ("decode", "infer", "encode")


@dataclass(frozen=True)
class Target:
    """A picture and where to send it."""

    path: str
    width: int = 256
    height: int = 256


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A load."""

    port: int
    targets: tuple[Target, ...]
    """Sent in turn."""
    clients: int
    """Connections; in an open loop the most that may be open."""
    seconds: float
    """Time that counts."""
    warm_up_s: float = 2.0
    per_s: float | None = None
    """Arrivals a second, for an open loop."""

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Reads a plan."""
        fields = json.loads(text)
        return cls(**{**fields, "targets": tuple(Target(**target) for target in fields["targets"])})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the clients saw."""

    answered: int
    """Pictures that came back while it counted."""
    seconds: float
    failed: dict[str, int]
    """How many got something else, by status or error."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    stages_ms: dict[str, float]
    """Medians of what `Server-Timing` says."""
    beyond_work_ms: float
    """Median of what a request takes beyond decode, infer and encode."""
    client_cpu_s: float
    """What the load generator itself used."""

    @property
    def per_s(self) -> float:
        """Pictures a second."""
        return self.answered / self.seconds


@dataclass(frozen=True)
class Observed(Generic[T]):
    """A load's outcome with what was read at its beginning and end."""

    outcome: Outcome
    before: T
    after: T


@dataclass
class _Notes:
    """What is noted while it counts."""

    latencies_ms: list[float] = field(default_factory=list)
    stages_ms: list[dict[str, float]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    counting: bool = False

    def add(self, since: float, answer: Answer | Exception) -> None:
        if not self.counting:
            return
        if isinstance(answer, Exception) or answer.status != 200:
            self.failed[repr(answer) if isinstance(answer, Exception) else str(answer.status)] += 1
            return
        self.latencies_ms.append((time.perf_counter() - since) * 1000)
        self.stages_ms.append(parse_server_timing(answer.server_timing))


class _Generator:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._notes = _Notes()
        self._orders = cycle(_orders(plan))
        self._over = False

    async def run(self) -> Outcome:
        driving = asyncio.create_task(self._drive_open() if self._plan.per_s else self._drive_closed())
        await asyncio.sleep(self._plan.warm_up_s)
        print(BEGIN, flush=True)
        self._notes.counting, started, cpu = True, time.perf_counter(), time.process_time()
        await asyncio.sleep(self._plan.seconds)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        self._notes.counting, self._over = False, True
        outcome = _outcome(self._notes, seconds, cpu)
        print(json.dumps(asdict(outcome)), flush=True)
        await driving
        return outcome

    async def _drive_closed(self) -> None:
        await asyncio.gather(*(self._be_client() for _ in range(self._plan.clients)))

    async def _be_client(self) -> None:
        async with Connection(self._plan.port) as connection:
            while not self._over:
                await self._send(connection, time.perf_counter())

    async def _drive_open(self) -> None:
        arrivals = random.Random(0)
        idle: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(self._plan.clients):
            idle.put_nowait(Connection(self._plan.port))
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while not self._over:
                due += arrivals.expovariate(self._plan.per_s or 1.0)
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                group.create_task(self._send_when_idle(idle, due))
        while not idle.empty():
            idle.get_nowait().close()

    async def _send_when_idle(self, idle: asyncio.Queue[Connection], since: float) -> None:
        connection = await idle.get()
        await self._send(connection, since)
        idle.put_nowait(connection)

    async def _send(self, connection: Connection, since: float) -> None:
        path, body = next(self._orders)
        try:
            self._notes.add(since, await connection.post(path, body))
        except (OSError, EOFError) as error:
            self._notes.add(since, error)


def run_load(plan: Plan, observe: Callable[[], T]) -> Observed[T]:
    """Runs a load in a process of its own; `observe` is called when it begins and ends to count."""
    command = [sys.executable, "-m", "benchmarks.load", plan.to_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != BEGIN:
            raise RuntimeError("The load generator did not begin.")
        before = observe()
        outcome = Outcome(**json.loads(process.stdout.readline()))
        return Observed(outcome, before, observe())


def parse_server_timing(text: str) -> dict[str, float]:
    """Milliseconds by name."""
    entries = (entry.strip().partition(";dur=") for entry in text.split(",") if ";dur=" in entry)
    return {name: float(duration) for name, _, duration in entries}


def _orders(plan: Plan) -> list[tuple[str, bytes]]:
    """Paths and bodies in turn, `DISTINCT` times each."""
    return [
        (target.path, body)
        for seed in range(DISTINCT)
        for target, body in ((target, _body(target, seed)) for target in plan.targets)
    ]


def _body(target: Target, seed: int) -> bytes:
    return draw_jpeg(target.width, target.height, seed)


def _outcome(notes: _Notes, seconds: float, cpu_s: float) -> Outcome:
    latencies = notes.latencies_ms
    beyond = [
        latency - sum(stages[name] for name in WORK)
        for latency, stages in zip(latencies, notes.stages_ms, strict=True)
        if set(WORK) <= stages.keys()
    ]
    return Outcome(
        answered=len(latencies),
        seconds=seconds,
        failed=dict(notes.failed),
        p50_ms=percentile(latencies, 50),
        p95_ms=percentile(latencies, 95),
        p99_ms=percentile(latencies, 99),
        stages_ms=dict(_stage_medians(notes.stages_ms)),
        beyond_work_ms=median(beyond) if beyond else float("nan"),
        client_cpu_s=cpu_s,
    )


def _stage_medians(stages_ms: list[dict[str, float]]) -> Iterator[tuple[str, float]]:
    for name in dict.fromkeys(name for stages in islice(stages_ms, 10) for name in stages):
        yield name, median(stages[name] for stages in stages_ms if name in stages)


def main() -> None:
    """Runs the plan given as the one argument."""
    asyncio.run(_Generator(Plan.from_json(sys.argv[1])).run())


if __name__ == "__main__":
    main()

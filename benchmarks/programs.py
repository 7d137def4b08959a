"""Starts the programs that are measured: Redis, the service, workers, rivals. Each in a process group of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from redis import Redis
from redis.exceptions import RedisError

from worker.contract import workers_key
from worker.redis_program import find_redis_program

ROOT = Path(__file__).parents[1]
START_S = 180.0
STOP_S = 30.0
LOOK_S = 0.05
"""Pause between two looks whether a program is ready; nothing is being measured then."""


class Program:
    """A program and all processes that it starts."""

    def __init__(self, command: Sequence[str], log: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: environment variables beside ours."""
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether that process has not ended."""
        return self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Returns when it is ready. Raises `RuntimeError` with the end of its log when it ends instead, or never is."""
        deadline = time.monotonic() + START_S
        while not is_ready():
            if not self.is_running or time.monotonic() > deadline:
                raise RuntimeError(f"it does not start:\n{self._log.read_text(errors='replace')[-3000:]}")
            time.sleep(LOOK_S)

    def pause(self) -> None:
        """Stops it in its tracks: a program that polls while idle would cost the others their time."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """As `kill -9` does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Asks it to end, and ends it if it does not."""
        if self.is_running:
            self.resume()
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self.kill()


class Stage:
    """A place where programs run, and are ended at the end whatever happens."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for logs and for what else the programs write."""
        self.folder = folder
        self._programs: list[Program] = []

    def start(self, name: str, command: Sequence[str], settings: Mapping[str, str] | None = None) -> Program:
        """Starts a program; `name` is its log's."""
        program = Program(command, self.folder / f"{name}.log", settings)
        self._programs.append(program)
        return program

    def python(self, name: str, *arguments: str, **settings: object) -> Program:
        """Starts `python -m …` with `IMPASTO_*` settings."""
        environment = {f"IMPASTO_{key.upper()}": str(value) for key, value in settings.items()}
        return self.start(name, [sys.executable, "-m", *arguments], environment)

    def redis(self) -> tuple[Program, str]:
        """A Redis that writes nothing to the disk, and its URL."""
        port = free_port()
        program = self.start(
            "redis",
            [find_redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        )
        program.wait_until(lambda: _takes_connections(port))
        return program, f"redis://127.0.0.1:{port}/0"

    def worker(self, redis_url: str, **settings: object) -> Program:
        """A worker process; see `wait_for_workers`."""
        return self.python("worker", "worker", redis_url=redis_url, log_level="warning", **settings)

    def service(self, redis_url: str, **settings: object) -> tuple[Program, int]:
        """The service, once it is ready to paint, and its port."""
        port = free_port()
        program = self.python("service", "service", redis_url=redis_url, port=port, **settings)
        program.wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        return program, port

    def close(self) -> None:
        """Ends what runs, the last first."""
        for program in reversed(self._programs):
            program.stop()


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage in a folder of its own."""
    with TemporaryDirectory(prefix="impasto-benchmark-") as folder:
        place = Stage(Path(folder))
        try:
            yield place
        finally:
            place.close()


def wait_for_workers(redis_url: str, workers: Sequence[Program], processes: int = 1) -> None:
    """Returns when every worker serves, with all its processes."""
    with Redis.from_url(redis_url) as redis:
        for count, worker in enumerate(workers, start=1):
            worker.wait_until(lambda count=count * processes: _has_workers(redis, count))  # type: ignore[misc]


def free_port(count: int = 1) -> int:
    """A port that nobody listens on, nor on the following: `count` in all."""
    while True:
        with ExitStack() as probes:
            first = probes.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for following in range(port + 1, port + count):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", following))
            except (OSError, OverflowError):
                continue
            return port


def answers(url: str) -> bool:
    """Whether a GET of it is answered with success."""
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _has_workers(redis: Redis, count: int) -> bool:
    try:
        return int(redis.zcard(workers_key())) >= count
    except RedisError:
        return False


def _takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

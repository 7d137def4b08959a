"""The whole product as a user starts it: `python -m service`, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


class Product:
    """A running service with its embedded Valkey and worker."""

    def __init__(self, **settings: str) -> None:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("IMPASTO_")},
            "IMPASTO_PORT": "0",
            **{f"IMPASTO_{key.upper()}": value for key, value in settings.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self.address = ""

    def wait_until_said(self, pattern: str) -> str:
        """The first line from now on that matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"the service ended without saying {pattern!r}:\n{''.join(self.log)}")

    def wait_until_ready(self) -> None:
        self.address = self.wait_until_said("Impasto paints on").split()[-1]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=120)

    def children(self) -> dict[int, str]:
        """Process ids and command lines of what it has started."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it has ended meanwhile
            if parent == self.process.pid:
                found[int(entry.name)] = command
        return found

    def child(self, command: str) -> int:
        """The id of the process it has started that has `command` in its command line."""
        return next(pid for pid, started in self.children().items() if command in started)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ends it as Ctrl-C does. Returns its status."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=60)
        self.log.append(output)
        return self.process.returncode


@contextmanager
def running_product(**settings: str) -> Iterator[Product]:
    """A product that is ready; killed at the end if it still runs."""
    product = Product(**settings)
    try:
        product.wait_until_ready()
        yield product
    finally:
        if product.process.poll() is None:
            product.stop()
        if product.process.stdout is not None:
            product.process.stdout.close()

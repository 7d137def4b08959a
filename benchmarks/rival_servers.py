"""LitServe servers, each in the best of a few configurations, on the machine that the product runs on."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.load import Outcome, Plan, Target, run_load
from benchmarks.programs import Program, Stage, answers, free_port

CONFIGURATIONS = (
    ("--max-batch", "8", "--batch-timeout", "0.01"),
    ("--max-batch", "16", "--batch-timeout", "0.02"),
    ("--max-batch", "4", "--batch-timeout", "0.01", "--processes", "2", "--threads", "1"),
    ("--max-batch", "1"),
)
"""A timeout of 0 would keep a core busy with looking for requests, and batches would be of one."""


@dataclass(frozen=True)
class RivalServer:
    """A server that lies still unless it is its turn: while idle it looks for requests a thousand times a second."""

    program: Program
    port: int
    configuration: str

    def load(self, styles: Sequence[str], clients: int, seconds: float) -> Outcome:
        """Its turn."""
        self.program.resume()
        targets = tuple(Target(f"/predict?style={style}") for style in styles)
        plan = Plan(port=self.port, targets=targets, clients=clients, seconds=seconds)
        try:
            return run_load(plan, time.monotonic).outcome
        finally:
            self.program.pause()


def best_server(stage: Stage, runtime: str, zoo: Path, styles: Sequence[str], clients: int, tries: int) -> RivalServer:
    """The fastest of the first `tries` configurations."""
    rates: dict[RivalServer, float] = {}
    for configuration in CONFIGURATIONS[:tries]:
        server = _start(stage, runtime, zoo, configuration)
        rates[server] = server.load(styles, clients, 3.0).per_s
    best = max(rates, key=lambda server: rates[server])
    for server in rates:
        if server is not best:
            server.program.stop()
    return best


def _start(stage: Stage, runtime: str, zoo: Path, configuration: Sequence[str]) -> RivalServer:
    port = free_port()
    accelerator = "cuda" if torch.cuda.is_available() and runtime == "torchscript" else "cpu"
    command = [sys.executable, "-m", "benchmarks.litserve_server", "--port", str(port), "--zoo", str(zoo)]
    options = ["--runtime", runtime, "--accelerator", accelerator, *configuration]
    program = stage.start(f"litserve-{port}", [*command, *options])
    program.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))
    program.pause()
    return RivalServer(program, port, " ".join(configuration))

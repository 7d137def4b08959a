"""deploy/train_on_gpu.sh, with a program in Python's place that writes down what it was asked for."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
exit "${STATUS:-0}"
"""


class Machine:
    """One that is lent: its state folder, and what training was started on it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self._calls = folder / "calls"
        self._python = folder / "python"
        self._python.write_text(PYTHON)
        self._python.chmod(0o755)

    def train(self, *what: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return self.run("train", "packed", "styles", str(self.state), *what, **environment)

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        settings = {"PYTHON": str(self._python), "CALLS": str(self._calls), **environment}
        return subprocess.run(
            ["deploy/train_on_gpu.sh", *arguments],
            cwd=ROOT,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[list[str]]:
        return [line.split() for line in self._calls.read_text().splitlines()] if self._calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def value_of(option: str, call: list[str]) -> str:
    return call[call.index(option) + 1]


def test_everything_is_trained_once_and_what_is_done_stays_done(machine: Machine) -> None:
    assert machine.train().stdout.endswith("All done.\n")
    assert [Path(value_of("--run-dir", call)).name for call in machine.calls] == ["w16", "w32", "x2", "x4", "x8"]
    assert all({"--resume", "--time-limit", "--device"} <= set(call) for call in machine.calls)

    assert machine.train().stdout.endswith("All done.\n")
    assert len(machine.calls) == 5


def test_the_galleries_do_not_replace_each_others_styles(machine: Machine) -> None:
    machine.train("w16", "w32")
    assert [Path(value_of("--zoo", call)) for call in machine.calls] == [
        machine.state / "zoo",
        machine.state / "zoo" / "width-32",
    ]


def test_what_ran_out_of_time_is_gone_on_with(machine: Machine) -> None:
    assert machine.train("x2", "x4", STATUS="130").returncode == 130
    assert [value_of("--factor", call) for call in machine.calls] == ["2"]

    machine.train("x2", "x4")
    assert [value_of("--factor", call) for call in machine.calls] == ["2", "2", "4"]


def test_no_training_is_begun_for_less_than_a_minute(machine: Machine) -> None:
    assert machine.train("w16", LIMIT="50").returncode == 130
    assert not machine.calls


def test_a_run_of_x8_keeps_the_x4_that_it_began_with(machine: Machine) -> None:
    machine.train("x8", STATUS="130")
    (machine.state / "zoo").mkdir()
    (machine.state / "zoo" / "x4.pt").write_bytes(b"came later")
    machine.train("x8")

    first, second = (Path(value_of("--start-from", call)) for call in machine.calls)
    assert first == second
    assert first.read_bytes() == (ROOT / "models" / "zoo" / "x4.pt").read_bytes()


def test_x8_begins_with_this_machines_own_x4(machine: Machine) -> None:
    (machine.state / "zoo").mkdir(parents=True)
    (machine.state / "zoo" / "x4.pt").write_bytes(b"own")
    machine.train("x8")
    assert Path(value_of("--start-from", machine.calls[0])).read_bytes() == b"own"


def test_several_gpus_train_together(machine: Machine) -> None:
    machine.train("w16", PROCESSES="4")
    assert machine.calls[0][:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]


@pytest.mark.parametrize("arguments", [[], ["pack"], ["train", "packed"], ["paint"]])
def test_what_makes_no_sense_is_answered_with_the_usage(machine: Machine, arguments: list[str]) -> None:
    refused = machine.run(*arguments)
    assert refused.returncode == 2
    assert "train_on_gpu.sh pack PHOTOS LOSS_WEIGHTS PACKED" in refused.stderr


def test_what_has_an_unknown_name_is_refused(machine: Machine) -> None:
    refused = machine.train("x3")
    assert refused.returncode == 2
    assert "Nothing is called x3" in refused.stderr

"""How many cores a worker counts."""

import os
from pathlib import Path

import pytest

from worker import cores
from worker.cores import usable_cores


@pytest.mark.parametrize(
    ("limit", "counted"),
    [("50000 100000", 1), ("150000 100000", 2), ("9900000 100000", None), ("max 100000", None), ("", None)],
)
def test_a_containers_share_of_time_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, counted: int | None
) -> None:
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert usable_cores() == 8
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores() == (counted or 8)

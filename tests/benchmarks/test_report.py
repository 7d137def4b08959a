"""What a benchmark leaves behind, and how it gets into the documentation."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import document
from benchmarks.report import Goal, Report, Table, percentile


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 50) == 2.0
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([7.0], 1) == 7.0


def test_a_goal_without_a_number_is_not_met() -> None:
    assert Goal("share", 0.85, at_least=0.85).is_met
    assert not Goal("share", 0.84, at_least=0.85).is_met
    assert not Goal("ms", 11, at_most=10).is_met
    assert not Goal("ms", float("nan"), at_most=10).is_met


def test_a_row_fits_its_table() -> None:
    table = Table("Speed", ("what", "ms"))
    with pytest.raises(ValueError, match="a row of 1"):
        table.add("engine")


def test_a_result_is_printed_written_and_put_into_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report("engine", Namespace(quick=True, output=tmp_path / "engine.json"))
    report.table("Speed", "what", "ms").add("engine", 12.345)
    report.goals.append(Goal("ms", 12.345, at_most=10))
    assert not report.finish()
    assert "| engine | 12.3 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "engine.json").read_text())["goals"][0]["met"] is False

    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- engine -->\nold\n<!-- /engine -->\n<!-- soak -->\nkept\n<!-- /soak -->\n")
    monkeypatch.setattr(sys, "argv", ["document", "--results", str(tmp_path), "--page", str(page)])
    document.main()
    text = page.read_text()
    assert "| engine | 12.3 |" in text
    assert "| ms   | 12.3     | at most 10 | no  |" in text
    assert "old" not in text
    assert "kept" in text

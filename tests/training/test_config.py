from pathlib import Path

import pytest

from training.config import Schedule, Stage, StyleSource, parse_duration, read_gallery
from training.errors import ConfigError
from training.loop import learning_rate_factor
from training.options import GALLERY_FILE


def test_a_stage_is_read_from_text() -> None:
    assert Stage.parse("3000x6@128") == Stage(3000, 6, 128)


@pytest.mark.parametrize("text", ["", "3000", "3000x6", "ax6@128", "3000x6@", "3000*6@128"])
def test_unreadable_stages_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="STEPSxBATCH@SIZE"):
        Stage.parse(text)


@pytest.mark.parametrize("text", ["0x6@128", "10x0@128", "10x6@16", "-1x6@128"])
def test_senseless_stages_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="makes no sense"):
        Stage.parse(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("0s", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "m", "-1m", "1 m", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 30m or 2h"):
        parse_duration(text)


def test_the_learning_rate_rises_is_constant_then_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1001)]

    assert factors[:30] == pytest.approx([step / 30 for step in range(1, 31)])
    assert factors[30:501] == [1.0] * 471
    assert factors[500:] == sorted(factors[500:], reverse=True)
    assert factors[1000] == pytest.approx(0)


def test_a_short_run_hardly_warms_up() -> None:
    assert [learning_rate_factor(step, 20) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert learning_rate_factor(0, 1) == 1.0


def test_the_shipped_gallery_has_ten_styles_with_sources() -> None:
    gallery = read_gallery(GALLERY_FILE, Path("styles"))

    assert len({source.name for source in gallery.styles}) == 10
    assert all(source.card_source()["title"] and source.card_source()["terms"] for source in gallery.styles)
    assert gallery.schedule.steps > 1000


def test_a_source_tells_its_card_what_is_known() -> None:
    assert StyleSource("wave", "wave.jpg", title="The Wave").card_source() == {"title": "The Wave"}


@pytest.mark.parametrize("text", ["width = ", "width = 16", 'width = 16\nstyle = []\n[schedule]\nstages = ["1x1@64"]'])
def test_an_unreadable_gallery_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_text(text)

    with pytest.raises(ConfigError, match=r"mine\.toml"):
        read_gallery(tmp_path / "mine.toml", tmp_path)


def test_schedule_counts_its_steps() -> None:
    schedule = Schedule((Stage(3, 2, 32), Stage(4, 5, 32)))

    assert schedule.steps == 7
    assert [schedule.samples_before(step) for step in (0, 2, 3, 4, 7, 99)] == [0, 4, 6, 11, 26, 26]

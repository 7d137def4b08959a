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


GALLERY = """
width = 4
[schedule]
stages = ["4x2@32"]
learning_rate = 1e-3
seed = 0
[weights]
content = 1.0
style = 1e5
total_variation = 1
[[style]]
name = "wave"
image = "wave.jpg"
year = "c. 1831"
style_weight = 2e5
[[style]]
name = "udnie"
image = "udnie.jpg"
"""


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"c. 1831"', "1831", "The year of the style 'wave' is 1831, which is no text: write it in quotes"),
        ('"c. 1831"', "1831-01-01", "The year of the style 'wave' is .*, which is no text"),
        ('"wave"', "7", "The name of the style 7 is 7, which is no text"),
        ('"wave.jpg"', "3", "The image of a style is 3, which is no text"),
        ("2e5", '"2e5"', "The style_weight of the style 'wave' is '2e5', which is no number"),
        ("2e5", "true", "The style_weight of the style 'wave' is True, which is no number"),
        ("style_weight = 2e5", "tv_weight = false", "The tv_weight of the style 'wave' is False, which is no number"),
        ("content = 1.0", 'content = "1"', "The content of the weights is '1', which is no number"),
        ("learning_rate = 1e-3", 'learning_rate = "1e-3"', "The learning_rate of the schedule is '1e-3'"),
        ("seed = 0", "seed = 0.5", "The seed of the gallery is 0.5, which is no whole number"),
        ("width = 4", 'width = "4"', "The width of the gallery is '4', which is no whole number"),
        ("width = 4", "width = true", "The width of the gallery is True, which is no whole number"),
        ('["4x2@32"]', "[3200]", "The stage 1 of the schedule is 3200, which is no text"),
        ('["4x2@32"]', "3200", r"Cannot read the gallery .*mine\.toml"),
        ('"udnie"', '"wave"', "The gallery holds several styles called wave"),
        ('image = "udnie.jpg"', 'picture = "udnie.jpg"', r"Cannot read the gallery .*KeyError\('image'\)"),
        ('image = "udnie.jpg"', 'image = "udnie.jpg"\ncolour = "red"', "Cannot read the gallery .*colour"),
        ("[[style]]\nname", "[[sketch]]\nname", r"Cannot read the gallery .*KeyError\('style'\)"),
    ],
)
def test_what_a_gallery_cannot_say_is_a_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in GALLERY
    (tmp_path / "mine.toml").write_text(GALLERY.replace(old, new))

    with pytest.raises(ConfigError, match=sentence):
        read_gallery(tmp_path / "mine.toml", tmp_path)


def test_a_gallery_without_styles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("style = []\n" + GALLERY.split("[[style]]")[0])

    with pytest.raises(ConfigError, match="holds no style"):
        read_gallery(tmp_path / "mine.toml", tmp_path)


def test_galleries_are_utf_8_whatever_the_machine_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("io.text_encoding", lambda encoding, _=2: encoding or "latin-1")
    (tmp_path / "mine.toml").write_bytes(GALLERY.replace("c. 1831", "Über 1831").encode())
    assert read_gallery(tmp_path / "mine.toml", tmp_path).styles[0].year == "Über 1831"

    (tmp_path / "mine.toml").write_bytes(GALLERY.replace("c. 1831", "Über 1831").encode("latin-1"))
    with pytest.raises(ConfigError, match=r"Cannot read the gallery .*mine\.toml: UnicodeDecodeError"):
        read_gallery(tmp_path / "mine.toml", tmp_path)


def test_a_source_that_utf_8_cannot_say_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"The artist of the style 'wave' is '.*\\udcfc.*', which cannot be written"):
        StyleSource("wave", "wave.jpg", artist="D\udcfcrer")


def test_schedule_counts_its_steps() -> None:
    schedule = Schedule((Stage(3, 2, 32), Stage(4, 5, 32)))

    assert schedule.steps == 7
    assert [schedule.samples_before(step) for step in (0, 2, 3, 4, 7, 99)] == [0, 4, 6, 11, 26, 26]

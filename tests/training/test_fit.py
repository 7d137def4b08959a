"""Whole small runs of `python -m training.fit`: what a person gets, and what they are told."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.card import Task
from tests.training.conftest import PREVIEW_SIZE, REPOSITORY, Fit
from training import base_trunk, loop
from training.checkpoint import goes_on
from training.options import DEFAULT_ZOO
from training.zoo import read_archive, read_style, read_trunk

TINY = ("--stages", "8x2@32", "4x2@48")
PATCHES = ("--stages", "8x2@48", "4x2@64")


def gallery_file(folder: Path, style_image: Path) -> Path:
    """Settings of a gallery of two styles, made of the same image."""
    shutil.copy(style_image, folder / "stripes.png")
    with Image.open(style_image) as image:
        image.rotate(90, expand=True).save(folder / "turned.png")
    (folder / "gallery.toml").write_text("""
width = 4
[schedule]
stages = ["4x2@32"]
learning_rate = 1e-3
seed = 0
[weights]
content = 1.0
style = 1e5
total_variation = 1.0
[[style]]
name = "stripes"
image = "stripes.png"
artist = "Nobody"
[[style]]
name = "turned"
image = "turned.png"
style_weight = 2e5
""")
    return folder / "gallery.toml"


def image_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def fit_trunk(fit: Fit, tmp_path: Path, style_image: Path) -> int:
    settings = gallery_file(tmp_path, style_image)
    return fit("gallery", "--settings", settings, "--styles", tmp_path, "--run", tmp_path / "gallery-run")


def test_a_gallery_gives_a_trunk_and_its_styles(fit: Fit, tmp_path: Path, style_image: Path) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0

    zoo = tmp_path / "zoo"
    trunk, card = read_trunk(zoo / "trunk-w4.pt")
    stripes, turned = read_style(zoo / "stripes.safetensors"), read_style(zoo / "turned.safetensors")
    assert card.norm_size == trunk.norm_size == stripes.norm_P.numel()
    assert stripes.card.trunk_digest == turned.card.trunk_digest == card.digest
    assert stripes.card.source == {"artist": "Nobody"}
    assert turned.card.training["style_weights"] == {"turned": 2e5}
    assert not stripes.norm_P.equal(turned.norm_P)
    assert image_size(zoo / "stripes.jpg") == (PREVIEW_SIZE, PREVIEW_SIZE)
    assert sorted(path.name for path in zoo.iterdir()) == [
        "stripes.jpg", "stripes.safetensors", "trunk-w4.pt", "turned.jpg", "turned.safetensors"
    ]  # fmt: skip


def test_a_gallery_goes_on_from_what_a_zoo_holds(fit: Fit, tmp_path: Path, style_image: Path) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    zoo, again = tmp_path / "zoo", tmp_path / "again"
    (zoo / "turned.safetensors").unlink()
    gallery = ("gallery", "--settings", tmp_path / "gallery.toml", "--styles", tmp_path, "--start-from", zoo)

    assert fit(*gallery, "--learning-rate", 1e-12, "--stages", "1x2@32", "--zoo", again) == 0

    before, after = read_trunk(zoo / "trunk-w4.pt")[0], read_trunk(again / "trunk-w4.pt")
    for name, value in before.state_dict().items():
        assert torch.allclose(after[0].state_dict()[name], value, atol=1e-6)
    stripes = read_style(zoo / "stripes.safetensors").norm_P
    for name in ("stripes", "turned"):  # the missing one starts from the mean of the others
        assert torch.allclose(read_style(again / f"{name}.safetensors").norm_P, stripes, atol=1e-6)
    assert after[1].training["before"]["steps"] == 4


def test_a_new_style_is_a_vector_on_the_trunk(fit: Fit, tmp_path: Path, style_image: Path) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    before = (tmp_path / "zoo" / "trunk-w4.pt").read_bytes()

    assert fit("style", style_image, "--trunk", "trunk-w4", *TINY, "--strength", "strong", "--title", "Stripes") == 0

    style = read_style(tmp_path / "zoo" / "stripes_1.safetensors")
    assert style.card.trunk_digest == read_trunk(tmp_path / "zoo" / "trunk-w4.pt")[1].digest
    assert style.card.training["steps"] == 12
    assert style.card.training["weights"]["style"] > 0
    assert style.card.training["losses"].keys() == {"total", "content", "style"}
    assert style.card.source == {"title": "Stripes"}
    assert (tmp_path / "zoo" / "trunk-w4.pt").read_bytes() == before
    assert (tmp_path / "zoo" / "stripes_1.jpg").exists()
    assert image_size(tmp_path / "run" / "preview.jpg") == (3 * PREVIEW_SIZE, 3 * PREVIEW_SIZE)


def test_a_zoo_of_ones_own_gets_a_copy_of_the_shipped_trunk(
    fit: Fit, tmp_path: Path, style_image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    shipped, own = tmp_path / "zoo", tmp_path / "own"
    monkeypatch.setattr(base_trunk, "DEFAULT_ZOO", shipped)
    caplog.set_level(logging.INFO)
    # So small a rate that the vector stays what it starts from.
    vector = ("style", style_image, "--trunk", "trunk-w4", "--zoo", own, "--stages", "1x2@32", "--learning-rate", 1e-12)

    assert fit(*vector, "--name", "first") == 0
    assert f"{own} has no trunk: {shipped / 'trunk-w4.pt'} is trained on, and copied there" in caplog.text
    (own / "first.safetensors").unlink()
    caplog.clear()
    assert fit(*vector, "--name", "second") == 0

    assert "has no trunk" not in caplog.text
    assert sorted(path.name for path in own.iterdir()) == [
        "first.jpg", "second.jpg", "second.safetensors", "trunk-w4.pt"
    ]  # fmt: skip
    second, trunk = read_style(own / "second.safetensors"), read_trunk(own / "trunk-w4.pt")
    assert second.card.trunk_digest == trunk[1].digest
    stripes_P, turned_P = (read_style(shipped / f"{name}.safetensors").norm_P for name in ("stripes", "turned"))
    starts = (stripes_P, turned_P, (stripes_P + turned_P) / 2)
    assert any(torch.allclose(second.norm_P, start_P, atol=1e-6) for start_P in starts)


def test_a_trunk_that_is_not_there_is_missed_before_anything_is_computed(
    fit: Fit, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    zoo, empty, shipped = tmp_path / "zoo", tmp_path / "empty", DEFAULT_ZOO
    # Loss weights that cannot be read would be complained of next.
    vector = ("style", style_image, "--loss-weights", tmp_path / "nowhere.pth")
    caplog.set_level(logging.WARNING)
    caplog.clear()

    assert fit(*vector) == 1
    assert fit(*vector, "--zoo", empty, "--trunk", "nope") == 1

    beside, missing = (record.message for record in caplog.records)
    assert f"There is no trunk 'trunk-w16' in {zoo}; it has trunk-w4: give" in beside
    assert f"copy {shipped / 'trunk-w16.pt'} to {zoo}, or train" in beside
    assert f"There is no trunk 'nope' in {empty}; {shipped} has trunk-w16: give" in missing
    assert "--from-scratch" in missing
    assert not empty.exists()


def test_a_style_from_scratch_brings_its_own_trunk(fit: Fit, tmp_path: Path, style_image: Path) -> None:
    scratch = ("--from-scratch", "--width", 4, "--name", "bars", "--style-weight", 1e5, *TINY)

    assert fit("style", style_image, *scratch) == 0

    _, trunk_card = read_trunk(tmp_path / "zoo" / "bars-trunk.pt")
    style = read_style(tmp_path / "zoo" / "bars.safetensors")
    assert style.card.trunk_digest == trunk_card.digest
    assert style.card.training["weights"]["style"] == 1e5


def test_the_seed_decides_the_first_weights_of_a_network_from_scratch(
    fit: Fit, tmp_path: Path, style_image: Path
) -> None:
    scratch = ("--from-scratch", "--width", 4, "--name", "bars", "--style-weight", 1e5, "--stages", "1x2@32")
    for run in ("one", "two"):
        torch.rand(3)
        assert fit("style", style_image, *scratch, "--zoo", tmp_path / run, "--run", tmp_path / f"run-{run}") == 0

    digests = [read_trunk(tmp_path / run / "bars-trunk.pt")[1].digest for run in ("one", "two")]

    assert digests[0] == digests[1]


@pytest.mark.parametrize("architecture", ["compact", "paper"])
def test_an_upscaler(fit: Fit, tmp_path: Path, architecture: str) -> None:
    assert fit("upscale", "--factor", 2, "--architecture", architecture, "--stages", "3x2@48") == 0

    archive = read_archive(tmp_path / "zoo" / "x2.pt", Task.UPSCALE)
    assert (archive.card.factor, archive.card.architecture) == (2, architecture)
    assert archive.module(torch.rand(1, 3, 17, 20)).shape == (1, 3, 34, 40)
    assert (tmp_path / "run" / "preview.png").exists()


@pytest.mark.parametrize("readers", [0, 1])
def test_a_resumed_run_equals_an_unbroken_one_exactly(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readers: int
) -> None:
    tiny = ("--stages", "2x2@48", "1x2@64", "--data-processes", readers)
    options = ("upscale", "--factor", 2, "--architecture", "paper", *tiny)
    reported: list[dict[int, dict[str, float]]] = []
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    monkeypatch.setattr("training.upscale_runs.loss_writer", lambda options, settings: reported[-1].__setitem__)

    reported.append({})
    assert fit(*options, "--run", tmp_path / "unbroken", "--zoo", tmp_path / "a") == 0
    reported.append({})
    broken = (*options, "--run", tmp_path / "broken", "--zoo", tmp_path / "b", "--resume")
    sittings = 0
    while fit(*broken, "--time-limit", "0s") == 130:
        sittings += 1
    assert sittings == 2

    assert reported[1] == reported[0]
    assert len(reported[0]) == 3
    cards = [read_archive(tmp_path / zoo / "x2.pt", Task.UPSCALE).card for zoo in "ab"]
    assert cards[0].digest == cards[1].digest


def test_a_resumed_style_equals_an_unbroken_one_exactly(fit: Fit, tmp_path: Path, style_image: Path) -> None:
    options = ("style", style_image, "--from-scratch", "--width", 4, "--name", "bars", "--style-weight", 1e5, *TINY)
    assert fit(*options, "--run", tmp_path / "unbroken", "--zoo", tmp_path / "a") == 0

    broken = (*options, "--run", tmp_path / "broken", "--zoo", tmp_path / "b", "--resume")
    assert fit(*broken, "--time-limit", "0s") == 130
    assert not (tmp_path / "b").exists()
    assert fit(*broken) == 0

    styles = [read_style(tmp_path / zoo / "bars.safetensors") for zoo in "ab"]
    assert styles[0].norm_P.equal(styles[1].norm_P)
    assert styles[0].card.trunk_digest == styles[1].card.trunk_digest


def test_a_resumed_vector_goes_on_from_its_checkpoint_without_comparing_starts_again(
    fit: Fit, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    options = ("style", style_image, "--name", "bars", "--trunk", "trunk-w4", "--zoo", tmp_path / "zoo", *TINY)
    assert fit(*options, "--run", tmp_path / "unbroken") == 0
    unbroken = read_style(tmp_path / "zoo" / "bars.safetensors")

    broken = (*options, "--run", tmp_path / "broken", "--resume")
    caplog.set_level(logging.INFO)
    assert fit(*broken, "--time-limit", "0s") == 130
    assert fit(*broken) == 0
    assert caplog.text.count("Starting from") == 1
    assert read_style(tmp_path / "zoo" / "bars.safetensors").norm_P.equal(unbroken.norm_P)


@pytest.mark.parametrize("way", ["--resume", "--finish"])
def test_a_photo_more_does_not_change_the_weight_of_a_style_that_goes_on(
    fit: Fit, photos: Path, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    own = shutil.copytree(photos, tmp_path / "photos")
    scratch = ("style", style_image, "--name", "bars", "--from-scratch", "--width", 4, "--photos", own, *TINY)
    assert fit(*scratch, "--time-limit", "0s") == 130
    weight = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["config"]["weights"]["style"]
    Image.effect_noise((96, 96), 90).save(own / "a.png")

    assert fit(*scratch, "--run", tmp_path / "another", "--zoo", tmp_path / "other-zoo", "--time-limit", "0s") == 130
    other = torch.load(tmp_path / "another" / "checkpoint.pt", weights_only=True)["config"]["weights"]["style"]
    assert other != weight
    assert fit(*scratch, way) == 0, caplog.text
    assert read_style(tmp_path / "zoo" / "bars.safetensors").card.training["weights"]["style"] == weight


def test_a_style_weight_of_nothing_is_refused(
    fit: Fit, photos: Path, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "photo-0.jpg", tmp_path / "photos")
    scratch = ("style", style_image, "--name", "bars", "--from-scratch", "--width", 4, "--stages", "1x2@32")

    assert fit(*scratch, "--photos", tmp_path / "photos") == 1
    assert "A style weight of 0 would teach nothing" in caplog.text
    assert "give more photos, or --style-weight" in caplog.text
    assert fit(*scratch, "--photos", tmp_path / "photos", "--style-weight", 1e5) == 0


def test_a_content_weight_leaves_the_style_weight_as_it_is(fit: Fit, tmp_path: Path, style_image: Path) -> None:
    scratch = ("style", style_image, "--name", "bars", "--from-scratch", "--width", 4, "--stages", "1x2@32")
    weights = []
    for content_weight in (1.0, 3.0):
        assert fit(*scratch, "--content-weight", content_weight) == 0
        weights.append(read_style(tmp_path / "zoo" / "bars.safetensors").card.training["weights"])
    assert [each["content"] for each in weights] == [1.0, 3.0]
    assert weights[0]["style"] == weights[1]["style"]


@pytest.mark.parametrize("option", ["--title", "--artist", "--year", "--terms"])
def test_what_a_card_cannot_say_is_said_before_the_training(
    fit: Fit, style_image: Path, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    # As Python reads D\xfcrer, in Latin-1, off a command line that should be UTF-8.
    assert fit("style", style_image, "--from-scratch", option, "D\udcfcrer") == 1

    assert (
        f"The {option[2:]} of the style 'stripes_1' is 'D\\udcfcrer', which cannot be written as UTF-8" in caplog.text
    )


@pytest.mark.parametrize("task", ["style", "upscale"])
def test_training_on_a_gpu(photos: Path, style_image: Path, loss_weights: Path, tmp_path: Path, task: str) -> None:
    pretended = [] if torch.cuda.is_available() else ["tests.pretended_gpu"]
    what = [style_image, "--from-scratch", "--width", "4", "--name", "x2"] if task == "style" else ["--factor", "2"]
    command: list[str | Path] = [
        # The data loader sees through the pretence, and says so.
        sys.executable, "-W", "error", "-W", "ignore:'pin_memory' argument", "-m", *pretended, "training.fit", task,
        *what, "--photos", photos, "--loss-weights", loss_weights, "--run", tmp_path / "run", "--zoo", tmp_path / "zoo",
        "--device", "cuda", "--threads", "1", "--stages", "2x2@64", "1x1@96",
    ]  # fmt: skip
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    if task == "style":
        card = read_style(tmp_path / "zoo" / "x2.safetensors").card
    else:
        card = read_archive(tmp_path / "zoo" / "x2.pt", Task.UPSCALE).card
    assert card.training["device"] == "cuda"
    assert card.training["steps"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_a_checkpoint(photos: Path, loss_weights: Path, tmp_path: Path, number: signal.Signals) -> None:
    command: list[str | Path] = [
        sys.executable, "-W", "error", "-m", "training.fit", "upscale", "--photos", photos, "--stages", "100000x2@48",
        "--loss-weights", loss_weights, "--run", tmp_path / "run", "--zoo", tmp_path / "zoo", "--threads", "1",
        "--device", "cpu",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stderr is not None
        seen = b""
        while not re.search(rb"\b[1-9]\d*/100000 ", seen):
            seen += process.stderr.read1()  # type: ignore[attr-defined]
            assert process.poll() is None, seen
        # To the whole group, as a terminal sends Ctrl-C and `timeout` SIGTERM.
        os.killpg(process.pid, number)
        rest = process.stderr.read().decode()

    assert process.returncode == 130
    assert "--resume goes on" in rest
    assert "Traceback" not in rest
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["progress"]["step"] > 0
    assert not (tmp_path / "zoo").exists()


def test_finish_exports_what_the_checkpoint_holds(fit: Fit, tmp_path: Path) -> None:
    assert fit("upscale", *PATCHES, "--time-limit", "0s") == 130
    assert not (tmp_path / "zoo").exists()

    assert fit("upscale", *PATCHES, "--finish") == 0

    assert read_archive(tmp_path / "zoo" / "x4.pt", Task.UPSCALE).card.training["steps"] == 1


def test_a_run_goes_on_though_its_results_replaced_what_it_began_with(
    fit: Fit, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    zoo, run = tmp_path / "zoo", ("--run", tmp_path / "second")
    gallery = ("gallery", "--settings", tmp_path / "gallery.toml", "--styles", tmp_path, "--start-from", zoo, *run)
    assert fit(*gallery, "--stages", "1x2@32", "--seed", 1) == 0
    (zoo / "turned.safetensors").unlink()  # as if the disk had been full by then

    assert fit(*gallery, "--stages", "1x2@32", "--seed", 1, "--finish") == 0
    assert (zoo / "turned.safetensors").exists()
    assert fit(*gallery, "--stages", "1x2@32", "1x2@48", "--seed", 1, "--resume") == 0, caplog.text

    training = read_trunk(zoo / "trunk-w4.pt")[1].training
    assert training["steps"] == 2
    assert training["before"]["steps"] == 4
    assert "before" not in training["before"] or not training["before"]["before"]


def test_an_upscaler_can_start_from_another(fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = ("--feature-weight", 0, "--texture-weight", 0)
    pixel = ("upscale", "--stages", "2x2@48", *weights, "--name", "x4-pixel", "--run", tmp_path / "one")
    assert fit(*pixel) == 0
    start = ("--start-from", tmp_path / "zoo" / "x4-pixel.pt", "--learning-rate", 0, "--stages", "1x2@48")

    assert fit("upscale", *start) == 0

    archives = [read_archive(tmp_path / "zoo" / name, Task.UPSCALE) for name in ("x4-pixel.pt", "x4.pt")]
    assert archives[0].card.digest == archives[1].card.digest
    assert "warm_up_samples" not in archives[1].card.training
    assert archives[1].card.training["before"] == archives[0].card.training
    assert archives[0].card.training["weights"] == {
        "pixel": 0.1, "feature": 0, "texture": 0, "color": 0, "adversarial": 0, "repetition": 0
    }  # fmt: skip
    assert fit("upscale", *start, "--architecture", "paper", "--run", tmp_path / "three") == 1
    assert "another architecture or factor" in caplog.text


def test_the_first_of_two_stages_can_start_from_an_upscaler_of_half_the_factor(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("upscale", "--stages", "1x2@128", "--learning-rate", 0)
    assert fit(*options, "--run", tmp_path / "one") == 0
    start = (*options, "--architecture", "progressive", "--start-from")

    assert fit(*start, tmp_path / "zoo" / "x4.pt", "--factor", 8, "--run", tmp_path / "two") == 0
    assert fit(*start, tmp_path / "zoo" / "x8.pt", "--factor", 8, "--name", "again", "--run", tmp_path / "three") == 0

    states = [read_archive(tmp_path / "zoo" / f"{name}.pt", Task.UPSCALE).module.state_dict() for name in ("x4", "x8")]
    assert all(torch.equal(states[1][f"first.{name}"], value) for name, value in states[0].items())
    assert read_archive(tmp_path / "zoo" / "again.pt", Task.UPSCALE).card.architecture == "progressive"
    assert fit(*start, tmp_path / "zoo" / "x8.pt", "--run", tmp_path / "four") == 1
    assert "another architecture or factor" in caplog.text


def test_two_stages_cannot_enlarge_twice(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    assert fit("upscale", "--factor", 2, "--architecture", "progressive") == 1
    assert "2 times in two stages" in caplog.text


def test_an_earlier_runs_checkpoint_is_kept(fit: Fit, tmp_path: Path) -> None:
    assert fit("upscale", *PATCHES, "--time-limit", "0s") == 130
    assert fit("upscale", "--stages", "2x2@48") == 0

    assert len(list((tmp_path / "run").glob("checkpoint*.pt"))) == 2


@pytest.mark.parametrize("readers", [0, 2])
def test_broken_photos_are_named_and_counted_once(
    fit: Fit, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, readers: int
) -> None:
    mixed = shutil.copytree(photos, tmp_path / "mixed")
    (mixed / "a.jpg").write_text("no picture")
    (mixed / "b.jpg").write_text("no picture")

    # Each is met about three times.
    options = ("--feature-weight", 0, "--texture-weight", 0, "--stages", "9x3@32", "--data-processes", readers)
    assert fit("upscale", "--factor", 2, "--photos", mixed, *options) == 0

    said = [record.message for record in caplog.records]
    assert said.count(f"{mixed / 'a.jpg'} cannot be read: passed over.") == 1
    assert said.count(f"{mixed / 'b.jpg'} cannot be read: passed over.") == 1
    assert "2 unreadable photos were passed over." in said


def test_the_sentences(fit: Fit, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "photo.jpg").write_text("no picture")
    (tmp_path / "text.png").write_text("no picture")
    vector = ("style", style_image, "--style-weight", "1e5")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("upscale", "--photos", tmp_path / "nowhere"), "There is no folder"),
        (("upscale", "--photos", tmp_path / "empty"), "No photos in"),
        (("upscale", "--photos", tmp_path / "broken"), "None of the photos can be read"),
        (("style", tmp_path / "text.png", "--from-scratch"), "Cannot read the style image"),
        (("style", tmp_path / "nowhere.png", "--from-scratch"), "Cannot read the style image"),
        ((*vector, "--trunk", "nowhere"), "There is no trunk 'nowhere'"),
        ((*vector, "--name", "Ünfit!"), "cannot be a name"),
        (("upscale", "--name", "../x4"), "cannot be a name"),
        (("style", style_image, "--from-scratch", "--name", "a" * 60), "-trunk' cannot be a name"),
        (("upscale", "--stages", "many"), "STEPSxBATCH@SIZE"),
        (("upscale", "--stages", "2x2@50"), "cannot be reduced 4 times"),
        (("upscale", "--stages", "2x2@32"), "too small for the discriminator: give 48 px"),
        (("upscale", "--loss-weights", tmp_path / "nowhere.pth"), "Cannot read the loss weights"),
        (("upscale", "--loss-weights", tmp_path / "text.png"), "was not written by torch.save"),
        (("upscale", "--device", "quantum"), "is no device"),
        (("upscale", "--finish"), "Cannot go on from"),
        (("gallery", "--styles", tmp_path, "--settings", tmp_path / "nowhere.toml"), "Cannot read the gallery"),
    ]
    for arguments, sentence in cases:
        caplog.clear()
        assert fit(*arguments) == 1, arguments
        assert sentence in caplog.text
        assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1


def test_the_checkpoint_of_another_run_is_refused(fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fit("upscale", *PATCHES, "--time-limit", "0s") == 130

    for changed in (("--stages", "8x3@48"), (*PATCHES, "--seed", 1), (*PATCHES, "--learning-rate", 1e-4)):
        caplog.clear()
        assert fit("upscale", *changed, "--resume") == 1
        assert "belongs to a run with other settings" in caplog.text

    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"half a file")
    assert fit("upscale", *PATCHES, "--resume") == 1
    assert "Cannot go on from" in caplog.text


def test_stages_to_come_may_be_changed_for_a_resume(
    fit: Fit, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after running out of memory in the second stage."""
    scratch = ("style", style_image, "--name", "bars", "--from-scratch", "--width", 4, "--style-weight", 1e5)
    assert fit(*scratch, "--stages", "4x2@32", "9x9@64", "--time-limit", "0s") == 130

    assert fit(*scratch, "--stages", "4x2@32", "2x1@48", "--resume") == 0

    training = read_style(tmp_path / "zoo" / "bars.safetensors").card.training
    assert training["steps"] == 6
    assert [stage["batch"] for stage in training["schedule"]["stages"]] == [2, 1]


def test_the_stage_in_which_memory_runs_out_may_be_changed_for_a_resume(fit: Fit, tmp_path: Path) -> None:
    """Features need most of it, from half of the first stage on: what learned from pixels alone stays that."""
    assert fit("upscale", "--stages", "4x2@48", "--time-limit", "0s") == 130

    assert fit("upscale", "--stages", "1x2@48", "2x1@48", "--resume") == 0

    training = read_archive(tmp_path / "zoo" / "x4.pt", Task.UPSCALE).card.training
    assert training["steps"] == 3
    assert training["warm_up_samples"] == 4


def test_what_is_done_cannot_be_changed() -> None:
    stages = [{"steps": 10, "batch": 4, "size": 64}, {"steps": 5, "batch": 2, "size": 96}]
    saved = {"schedule": {"stages": stages, "seed": 0}}
    longer = {"schedule": {"stages": [stages[0], {**stages[1], "steps": 50}], "seed": 0}}
    smaller = {"schedule": {"stages": [stages[0], {**stages[1], "batch": 1}], "seed": 0}}

    assert goes_on(saved, longer, 15)
    assert goes_on(saved, smaller, 10)
    assert not goes_on(saved, smaller, 11)
    assert not goes_on(saved, {"schedule": {"stages": stages, "seed": 1}}, 0)
    assert goes_on({"name": "x"}, {"name": "x"}, 3)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--jpeg-share", "1.5", "'1.5' is no share: give 0 to 1"),
        ("--jpeg-share", "half", "'half' is no share: give 0 to 1"),
        ("--time-limit", "soon", "'soon' is no duration: write 90s, 30m or 2h"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_sentence(
    fit: Fit, option: str, value: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit("upscale", option, value)

    assert sentence in capsys.readouterr().err


def test_an_unwritable_zoo_is_named(fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "zoo").write_text("a file where the folder should be")

    assert fit("upscale", "--stages", "2x2@48") == 1
    assert "Is the disk full, or the folder read-only?" in caplog.text


def test_a_card_is_json_a_person_can_read(fit: Fit, tmp_path: Path) -> None:
    assert fit("upscale", "--stages", "10x2@48", "--blur-sigma", 1.0, "--jpeg-share", 0.25) == 0

    card = read_archive(tmp_path / "zoo" / "x4.pt", Task.UPSCALE).card
    training = json.loads(card.to_json())["training"]
    assert training["degradation"] == {"factor": 4, "blur_sigma": 1.0, "jpeg_share": 0.25, "seed": 0}
    assert training["photos"] == 7
    assert training["losses"].keys() == {
        "total", "pixel", "feature", "texture", "color", "repetition", "judge", "verdict",
    }  # fmt: skip

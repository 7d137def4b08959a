"""What lies in a zoo is not lost unawares to a run that writes there."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.style_net import StyleTrunk
from tests.training.conftest import Fit
from tests.zoo import build_zoo
from training.export import export_trunk, trunk_card
from training.targets import announce_upscaler, check_gallery, check_trunk
from training.zoo import read_card

Gallery = Callable[..., int]


@pytest.fixture
def gallery(fit: Fit, tmp_path: Path, style_image: Path) -> Gallery:
    """Runs `fit gallery` for the style `red`, and for those of other names in `also`, on a trunk of width 4."""

    def run(*options: object, also: tuple[str, ...] = ()) -> int:
        names = ("red", *also)
        (tmp_path / "images").mkdir(exist_ok=True)
        for name in names:
            shutil.copy(style_image, tmp_path / "images" / f"{name}.png")
        styles = "".join(f'[[style]]\nname = "{name}"\nimage = "{name}.png"\n' for name in names)
        (tmp_path / "mine.toml").write_text(
            'width = 4\n[schedule]\nstages = ["1x2@32"]\nlearning_rate = 1e-3\nseed = 0\n[weights]\n' + styles
        )
        return fit("gallery", "--settings", tmp_path / "mine.toml", "--styles", tmp_path / "images", *options)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_other_trunk(path: Path) -> None:
    torch.manual_seed(1)
    trunk = StyleTrunk(width=4, residual_blocks=1)
    export_trunk(trunk, trunk_card(trunk, path.stem, {}), path)


def test_a_wider_trunk_does_not_take_the_names_of_a_zoos_styles(
    gallery: Gallery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zoo = build_zoo(tmp_path / "zoo", styles=("red",))
    before = contents(zoo)

    assert gallery("--widen-from", zoo, "--width", 8) == 1

    assert "holds red on trunk-w4, and styles of trunk-w8 would replace them: give another --zoo." in caplog.text
    assert contents(zoo) == before
    assert gallery("--widen-from", zoo, "--width", 8, "--zoo", tmp_path / "wide") == 0
    assert contents(zoo) == before
    assert (tmp_path / "wide" / "trunk-w8.pt").exists()


def test_styles_that_would_lose_their_trunk_are_named(
    gallery: Gallery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zoo = build_zoo(tmp_path / "zoo", styles=("red", "blue", "green"))
    before = contents(zoo)

    assert gallery() == 1
    assert "styles of trunk-w4 that this run does not train, blue, green: they" in caplog.text
    assert gallery("--start-from", zoo, also=("green",)) == 1
    assert "does not train, blue: they" in caplog.text
    assert contents(zoo) == before

    # Its own ones, and those added to its file, may be replaced together with their trunk.
    assert (
        gallery(
            "--start-from",
            zoo,
            also=("green", "blue"),
        )
        == 0
    )
    cards = [read_card(zoo / f"{name}.safetensors") for name in ("red", "green", "blue")]
    trunk = read_card(zoo / "trunk-w4.pt")
    assert trunk is not None
    assert {card.trunk_digest for card in cards if card} == {trunk.digest}


def test_styles_of_other_trunks_do_not_count(tmp_path: Path) -> None:
    zoo = build_zoo(tmp_path / "zoo", styles=("red", "blue"))
    check_trunk(zoo, "trunk-w8", ["green"])
    write_other_trunk(zoo / "trunk-w8.pt")

    check_trunk(zoo, "trunk-w8", ["green"])
    check_gallery(zoo, "trunk-w8", ["green"])


def test_styles_whose_trunk_is_gone_may_be_replaced(tmp_path: Path) -> None:
    """As `--finish` does where the disk was full after the trunk."""
    zoo = build_zoo(tmp_path / "zoo", styles=("red", "blue"))
    write_other_trunk(zoo / "trunk-w4.pt")

    check_gallery(zoo, "trunk-w4", ["red", "blue"])


def test_a_network_from_scratch_replaces_no_trunk_of_other_styles(
    fit: Fit, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zoo = build_zoo(tmp_path / "zoo", styles=("blue",))
    (zoo / "trunk-w4.pt").rename(zoo / "bars-trunk.pt")

    assert fit("style", style_image, "--name", "bars", "--from-scratch", "--stages", "1x2@32") == 1

    assert "styles of bars-trunk that this run does not train, blue" in caplog.text


@pytest.mark.parametrize(
    ("task", "there", "target"),
    [("upscale", "trunk-w4", "mine"), ("style", "x2", "mine-trunk"), ("gallery", "x2", "trunk-w4")],
)
def test_a_file_for_another_task_is_not_replaced(
    fit: Fit, gallery: Gallery, tmp_path: Path, style_image: Path, task: str, there: str, target: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    zoo = build_zoo(tmp_path / "zoo", styles=())
    (zoo / f"{there}.pt").replace(zoo / f"{target}.pt")

    if task == "gallery":
        assert gallery() == 1
    else:
        what = [style_image, "--from-scratch"] if task == "style" else []
        assert fit(task, *what, "--name", "mine", "--stages", "1x2@48") == 1

    assert f"{target}.pt is there and holds no" in caplog.text
    assert "give another name, or another --zoo" in caplog.text


def test_a_damaged_file_may_be_replaced(fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "x2.pt").write_text("half a file")
    caplog.set_level(logging.INFO)

    assert fit("upscale", "--factor", 2, "--stages", "1x2@48") == 0

    assert "x2.pt is there and will be replaced" in caplog.text


def test_an_upscaler_says_what_it_replaces_and_what_it_stands_beside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zoo = build_zoo(tmp_path / "zoo", factors=(2, 4))
    caplog.set_level(logging.INFO)
    announce_upscaler(zoo, "x8", 8)
    assert not caplog.text

    announce_upscaler(zoo, "x2", 2)
    assert [record.message for record in caplog.records] == [f"{zoo / 'x2.pt'} is there and will be replaced."]

    caplog.clear()
    announce_upscaler(zoo, "x2-soft", 2)
    assert [record.message for record in caplog.records] == [
        "The zoo already has an upscaler of factor 2, x2: the first by file name is served."
    ]


def test_an_upscaler_says_so_before_it_trains(fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build_zoo(tmp_path / "zoo")
    caplog.set_level(logging.INFO)

    assert fit("upscale", "--factor", 2, "--name", "soft", "--loss-weights", tmp_path / "nowhere.pth") == 1

    assert "upscaler of factor 2, x2: the first by file name is served" in caplog.text


@pytest.mark.parametrize("linked", [False, True])
def test_a_preview_does_not_replace_the_style_image(
    fit: Fit, tmp_path: Path, style_image: Path, linked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    image = build_zoo(tmp_path / "zoo") / "stripes.jpg"
    shutil.copy(style_image, image)
    before = image.read_bytes()
    if linked:
        (tmp_path / "stripes.jpg").symlink_to(image)
    # From another folder the same file has another name.
    given = tmp_path / "stripes.jpg" if linked else os.path.relpath(image)

    assert fit("style", given, "--trunk", "trunk-w4", "--stages", "1x2@32") == 1

    assert "would replace a style image: give another name" in caplog.text
    assert image.read_bytes() == before
    assert fit("style", given, "--trunk", "trunk-w4", "--stages", "1x2@32", "--name", "bars") == 0
    assert image.read_bytes() == before


def test_previews_of_a_gallery_do_not_replace_each_others_style_images(
    gallery: Gallery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "red.jpg").symlink_to(tmp_path / "images" / "blue.png")

    assert gallery("--zoo", tmp_path / "images", also=("blue",)) == 1

    assert "red.jpg would replace a style image" in caplog.text

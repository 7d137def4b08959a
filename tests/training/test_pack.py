import shutil
from pathlib import Path

import pytest
import torch

from training.data import list_photos
from training.losses import load_loss_network
from training.pack import WEIGHTS, main
from training.pictures import read_rgb


def test_packed_photos_are_small_and_the_loss_network_is_the_same(
    photos: Path, loss_weights: Path, tmp_path: Path
) -> None:
    mixed = shutil.copytree(photos, tmp_path / "mixed")
    (mixed / "broken.jpg").write_text("no picture")
    arguments = ["--photos", mixed, "--loss-weights", loss_weights, "--short-side", 70]

    assert main([str(tmp_path / "packed"), *map(str, arguments)]) == 0

    packed = [read_rgb(path) for path in list_photos(tmp_path / "packed" / "photos")]
    assert len(packed) == 7
    assert {min(photo.size) for photo in packed} == {64, 69, 70}
    again, original = load_loss_network(tmp_path / "packed" / WEIGHTS), load_loss_network(loss_weights)
    picture_BCHW = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(picture_BCHW, ["relu2_2"]), original(picture_BCHW, ["relu2_2"]))


def test_no_more_photos_are_packed_than_may_travel(photos: Path, loss_weights: Path, tmp_path: Path) -> None:
    arguments = ["--photos", photos, "--loss-weights", loss_weights]
    assert main([str(tmp_path / "all"), *map(str, arguments)]) == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "all" / "photos").iterdir()}
    room = (tmp_path / "all" / WEIGHTS).stat().st_size + sum(sizes.values()) / 2

    assert main([str(tmp_path / "some"), *map(str, arguments), "--most-mb", str(room / 1e6)]) == 0

    some = [path.name for path in (tmp_path / "some" / "photos").iterdir()]
    assert 0 < len(some) < len(sizes)
    assert sum(sizes[name] for name in some) < sum(sizes.values()) / 2 + max(sizes.values())


def test_a_missing_folder_is_said(loss_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert (
        main([str(tmp_path / "packed"), "--photos", str(tmp_path / "nowhere"), "--loss-weights", str(loss_weights)])
        == 1
    )
    assert "There is no folder" in caplog.text

import shutil
from pathlib import Path

import pytest
import torch

from models.style_net import StyleTrunk
from tests.zoo import add_style, build_zoo
from training.export import trunk_card
from worker.catalog import Catalog, ZooLoader
from worker.contract import PictureFormat, StyleJob
from worker.errors import JobError, ZooError
from worker.runtimes.torchscript import TorchScriptRuntime


def load(folder: Path) -> Catalog:
    return ZooLoader(TorchScriptRuntime("cpu")).load(folder)


def style_job(**styles: float) -> StyleJob:
    return StyleJob(
        id="0", reply_to="", submitted_at=0, deadline=0, format=PictureFormat.PNG, quality=90, result_ttl_s=1,
        styles=styles,
    )  # fmt: skip


def test_a_zoo_is_loaded_without_flags(small_zoo: Path) -> None:
    catalog = load(small_zoo)
    assert [info.name for info in catalog.style_infos()] == ["blue", "red"]
    assert catalog.style_infos()[0].title == "Blue"
    assert catalog.style_infos()[0].preview
    assert [info.factor for info in catalog.upscaler_infos()] == [2]
    assert catalog.refused == ()


def test_a_blend_is_a_weighted_sum(small_zoo: Path) -> None:
    catalog = load(small_zoo)
    _, norm_P, _ = catalog.blend(style_job(red=0.25, blue=0.75))
    expected = 0.25 * catalog.styles["red"].norm_P + 0.75 * catalog.styles["blue"].norm_P
    assert abs(norm_P - expected).max() < 1e-6
    with pytest.raises(JobError, match="green"):
        catalog.blend(style_job(green=1.0))


def test_bad_files_are_refused_by_name_and_the_rest_is_served(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    (zoo / "empty.safetensors").write_bytes(b"")
    (zoo / "noise.pt").write_bytes(b"no archive")
    whole = (zoo / "red.safetensors").read_bytes()
    (zoo / "flipped.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (zoo / "cut.pt").write_bytes((zoo / "x2.pt").read_bytes()[:5000])
    shutil.copy(zoo / "blue.safetensors", zoo / "blue_again.safetensors")
    shutil.copy(zoo / "x2.pt", zoo / "x2_again.pt")
    other = StyleTrunk(width=4, residual_blocks=1)
    add_style(zoo, trunk_card(other, "other", {}), other, "green")
    catalog = load(zoo)
    assert set(catalog.styles) == {"red", "blue"}
    assert set(catalog.upscalers) == {2}
    refused = " ".join(map(str, catalog.refused))
    for name in ("empty.safetensors", "noise.pt", "flipped.safetensors", "cut.pt", "blue_again", "green", "x2"):
        assert name in refused
    assert len(catalog.refused) == 7


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_weights_that_the_card_does_not_know_are_refused(small_zoo: Path, tmp_path: Path) -> None:
    zoo = build_zoo(tmp_path)
    archive = torch.jit.load(str(zoo / "x2.pt"), _extra_files=(extra := {"card.json": ""}))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        next(archive.parameters()).add_(1)
    archive.save(str(zoo / "x2.pt"), _extra_files=extra)
    catalog = load(zoo)
    assert not catalog.upscalers
    assert "digest" in str(catalog.refused[0])


def test_a_missing_zoo_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="IMPASTO_ZOO_DIR"):
        load(tmp_path / "nowhere")

import errno
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from models.card import Task
from models.style_net import StyleTrunk
from tests.zoo import add_style, build_zoo
from training.export import trunk_card
from worker import zoo_files
from worker.archive import LARGEST_STYLE, Archive, read_style
from worker.catalog import Catalog, ZooLoader
from worker.contract import PictureFormat, StyleJob
from worker.errors import JobError, ZooError
from worker.runtimes.torchscript import TorchScriptNetwork, TorchScriptRuntime
from worker.zoo_files import READINGS, Shelf, Stamp, scan


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


def test_a_link_to_itself_is_passed_over(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    (zoo / "loop.pt").symlink_to("loop.pt")
    assert scan(zoo).keys() == {zoo / path.name for path in small_zoo.iterdir()}


def test_a_missing_zoo_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="IMPASTO_ZOO_DIR"):
        load(tmp_path / "nowhere")


class CountingRuntime(TorchScriptRuntime):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.loaded: list[str] = []

    def load(self, archive: Archive) -> TorchScriptNetwork:
        self.loaded.append(archive.card.name)
        return super().load(archive)


@pytest.fixture
def two_trunks(tmp_path: Path) -> Path:
    """Red and blue on a trunk; red and pink on a wider one, in a folder of its own."""
    zoo = build_zoo(tmp_path / "zoo", ("red", "blue"), factors=())
    build_zoo(zoo / "trunk-w8", ("red", "pink"), factors=(), width=8)
    return zoo


@pytest.mark.parametrize(("trunk", "other"), [("trunk-w4", "trunk-w8"), ("trunk-w8", "trunk-w4")])
def test_the_chosen_trunk_counts_where_styles_share_a_name(two_trunks: Path, trunk: str, other: str) -> None:
    catalog = ZooLoader(TorchScriptRuntime("cpu"), trunk).load(two_trunks)
    assert set(catalog.styles) == {"red", "blue", "pink"}
    assert catalog.styles["red"].trunk.card.name == trunk
    assert {style.trunk.card.name for style in catalog.styles.values()} == {trunk, other}
    assert catalog.refused == ()
    assert catalog.trunks == ("trunk-w4", "trunk-w8")


def test_a_trunk_that_no_style_needs_is_not_loaded(two_trunks: Path) -> None:
    (two_trunks / "trunk-w8" / "pink.safetensors").unlink()
    runtime = CountingRuntime()
    loader = ZooLoader(runtime, "trunk-w4")
    assert set(loader.load(two_trunks).styles) == {"red", "blue"}
    assert runtime.loaded == ["trunk-w4"]
    (two_trunks / "red.safetensors").unlink()
    assert loader.load(two_trunks).styles["red"].trunk.card.name == "trunk-w8"
    assert runtime.loaded == ["trunk-w4", "trunk-w8"]


def test_only_what_changed_is_loaded_again(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    runtime = CountingRuntime()
    loader = ZooLoader(runtime)
    before = loader.load(zoo)
    assert sorted(runtime.loaded) == ["trunk-w4", "x2"]
    (zoo / "red.safetensors").unlink()
    after = loader.load(zoo)
    assert after.styles == {"blue": before.styles["blue"]}
    assert after.upscalers == before.upscalers
    assert sorted(runtime.loaded) == ["trunk-w4", "x2"]


def test_a_network_that_the_device_refuses_is_refused_by_name(small_zoo: Path) -> None:
    class Full(TorchScriptRuntime):
        def load(self, archive: Archive) -> TorchScriptNetwork:
            if archive.card.task is Task.STYLE_TRUNK:
                raise RuntimeError("out of memory\nand so on")
            return super().load(archive)

    catalog = ZooLoader(Full("cpu")).load(small_zoo)
    assert set(catalog.upscalers) == {2}
    assert str(catalog.refused[0]) == "trunk-w4.pt is refused: out of memory."


class FailingRuntime(TorchScriptRuntime):
    """Loads nothing as long as there is a fault."""

    def __init__(self, fault: Exception) -> None:
        super().__init__("cpu")
        self.fault: Exception | None = fault

    def load(self, archive: Archive) -> TorchScriptNetwork:
        if self.fault is not None:
            raise self.fault
        return super().load(archive)


FULL_DISK = OSError(errno.ENOSPC, "No space left on device")
FULL_DEVICE = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.mark.parametrize("fault", [FULL_DISK, FULL_DEVICE])
def test_what_memory_or_a_disk_kept_from_being_served_is_tried_again_after_a_while(
    small_zoo: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    runtime = FailingRuntime(fault)
    loader = ZooLoader(runtime)
    monkeypatch.setattr(zoo_files, "RETRY_S", math.inf)
    assert loader.load(small_zoo).is_empty
    runtime.fault = None
    assert loader.load(small_zoo).is_empty
    monkeypatch.setattr(zoo_files, "RETRY_S", 0.0)
    catalog = loader.load(small_zoo)
    assert (set(catalog.styles), set(catalog.upscalers)) == ({"red", "blue"}, {2})
    assert catalog.refused == ()


def test_a_network_that_is_of_no_use_is_tried_once(small_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo_files, "RETRY_S", 0.0)
    runtime = FailingRuntime(RuntimeError("Unsupported operator"))
    loader = ZooLoader(runtime)
    assert loader.load(small_zoo).is_empty
    runtime.fault = None
    assert loader.load(small_zoo).is_empty


@pytest.mark.parametrize(("cause", "is_read"), [(FULL_DISK, True), (ValueError("no archive"), False)])
def test_a_file_that_could_not_be_read_is_tried_again_if_the_disk_was_to_blame(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, is_read: bool
) -> None:
    is_over = False

    def read(path: Path) -> str:
        if not is_over:
            raise ZooError("it is refused.") from cause
        return "content"

    shelf, stamps = Shelf(read), {Path("x2.pt"): Stamp(1, 1, 1, 1)}
    monkeypatch.setattr(zoo_files, "RETRY_S", math.inf)
    for _ in range(READINGS):
        shelf.update(stamps)
    is_over = True
    shelf.update(stamps)
    assert [str(refusal) for refusal in shelf.refusals] == ["it is refused."]
    monkeypatch.setattr(zoo_files, "RETRY_S", 0.0)
    shelf.update(stamps)
    assert bool(shelf.contents) == is_read


def test_an_archive_that_the_disk_did_not_give_is_tried_again(small_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def fail(path: Path) -> bytes:
        if path.suffix == ".pt":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_bytes(path)

    loader = ZooLoader(TorchScriptRuntime("cpu"))
    monkeypatch.setattr(Path, "read_bytes", fail)
    for _ in range(READINGS):
        assert "Permission denied" in str(loader.load(small_zoo).refused[0])
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(zoo_files, "RETRY_S", 0.0)
    assert set(loader.load(small_zoo).styles) == {"blue", "red"}


def test_a_file_that_may_be_read_now_is_another_version(tmp_path: Path) -> None:
    path = tmp_path / "x2.pt"
    path.touch()
    before = scan(tmp_path)
    path.chmod(0o400)
    assert scan(tmp_path) != before


def test_a_pipe_in_the_zoo_is_not_waited_for(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    os.mkfifo(zoo / "x4.pt")
    os.mkfifo(zoo / "wave.safetensors")
    assert load(zoo).refused == ()


def test_a_card_that_no_training_writes_costs_nobody_else_the_zoo(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    card = json.loads(style_card(small_zoo)) | {"trunk_digest": ["x"]}
    norm_P = read_style(zoo / "blue.safetensors")[1]
    save_file({"norm_P": norm_P}, zoo / "blue.safetensors", {"card.json": json.dumps(card)})
    catalog = load(zoo)
    assert set(catalog.styles) == {"red"}
    assert "trunk_digest" in str(catalog.refused[0])


def test_a_style_comes_back_when_its_second_file_is_needed(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    shutil.copy(zoo / "blue.safetensors", zoo / "blue_again.safetensors")
    loader = ZooLoader(TorchScriptRuntime("cpu"))
    assert "blue_again" in str(loader.load(zoo).refused[0])
    (zoo / "blue.safetensors").unlink()
    catalog = loader.load(zoo)
    assert set(catalog.styles) == {"blue", "red"}
    assert catalog.refused == ()


def test_a_vector_of_a_type_that_numpy_lacks_is_refused(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    metadata = {"card.json": style_card(small_zoo)}
    save_torch_file({"norm_P": torch.zeros(3, dtype=torch.bfloat16)}, zoo / "blue.safetensors", metadata)
    catalog = load(zoo)
    assert set(catalog.styles) == {"red"}
    assert str(catalog.refused[0]).startswith("blue.safetensors is refused")


def test_a_style_file_of_absurd_size_or_without_a_vector_is_refused(small_zoo: Path, tmp_path: Path) -> None:
    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    os.truncate(zoo / "red.safetensors", LARGEST_STYLE + 1)
    save_file({"other": np.zeros(3, np.float32)}, zoo / "blue.safetensors", {"card.json": style_card(small_zoo)})
    refused = [str(refusal) for refusal in load(zoo).refused]
    assert refused[0] == "blue.safetensors is refused: it holds no tensor norm_P."
    assert refused[1] == "red.safetensors is refused: it is larger than any style (16 MB)."


def style_card(zoo: Path) -> str:
    return read_style(zoo / "blue.safetensors")[0].to_json()

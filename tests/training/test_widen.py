"""A widened trunk paints what the narrow one painted, and can become something else."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.style_net import NormCursor, StyleTrunk
from tests.training.conftest import Fit
from tests.training.test_fit import fit_trunk
from training.errors import ConfigError
from training.widen import find_narrower, widen_norms, widen_trunk
from training.zoo import read_style, read_trunk


def some_norms(trunk: StyleTrunk, count: int) -> Tensor:
    """Vectors (S, P) unlike the neutral one."""
    return trunk.neutral_norm() + 0.3 * torch.randn(count, trunk.norm_size)


@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("unevenness", [0.0, 0.5])
def test_the_wide_trunk_paints_what_the_narrow_one_paints(width: int, unevenness: float) -> None:
    torch.manual_seed(0)
    narrow = StyleTrunk(4, residual_blocks=2)
    norms_SP, photos_BCHW = some_norms(narrow, 2), torch.rand(2, 3, 37, 42)

    wide = widen_trunk(narrow, width, unevenness=unevenness)

    with torch.no_grad():
        before_BCHW, after_BCHW = narrow(photos_BCHW, norms_SP), wide(photos_BCHW, widen_norms(narrow, norms_SP, width))
    assert (wide.width, wide.residual_blocks) == (width, 2)
    assert (before_BCHW - after_BCHW).abs().max() < 1e-4
    assert before_BCHW.std() > 0.01


def test_the_photos_channels_are_not_copied() -> None:
    narrow = StyleTrunk(4)

    wide = widen_trunk(narrow, 8, unevenness=0.0)

    first = wide.state_dict()["down.0.conv.weight"]
    assert first.shape == (8, 3, 9, 9)
    assert first.equal(narrow.state_dict()["down.0.conv.weight"].repeat(2, 1, 1, 1))
    assert wide.state_dict()["out.bias"].equal(narrow.state_dict()["out.bias"])
    assert wide.state_dict()["out.weight"].shape == (3, 8, 9, 9)


def test_vectors_keep_the_layout_that_the_trunk_reads() -> None:
    narrow = StyleTrunk(4)
    norms_SP = torch.randn(1, narrow.norm_size)

    before, after = NormCursor(norms_SP), NormCursor(widen_norms(narrow, norms_SP, 8))

    for channels in (4, 8, 16):
        for old_SC, new_SC in zip(before.take(channels), after.take(2 * channels), strict=True):
            assert new_SC.equal(torch.cat([old_SC, old_SC], dim=1))


def test_training_tells_the_copies_apart() -> None:
    torch.manual_seed(0)
    narrow = StyleTrunk(4, residual_blocks=1)
    wide = widen_trunk(narrow, 8)
    norms_SP = widen_norms(narrow, some_norms(narrow, 1), 8).requires_grad_()

    wide(torch.rand(1, 3, 24, 24), norms_SP).square().mean().backward()

    for parameter in [value for value in wide.parameters() if value.ndim == 4 and value.shape[0] != 3]:
        assert parameter.grad is not None
        first, second = parameter.grad.chunk(2)
        assert not torch.allclose(first, second, rtol=0.01, atol=0)


def test_widths_that_cannot_be_are_named() -> None:
    narrow = StyleTrunk(4)
    for width in (2, 4, 6):
        with pytest.raises(ConfigError, match=f"width 4 cannot be widened to {width}"):
            widen_trunk(narrow, width)


def test_the_widest_fitting_trunk_is_taken(tmp_path: Path) -> None:
    for width in (2, 8, 12, 32):
        (tmp_path / f"trunk-w{width}.pt").touch()

    assert find_narrower(tmp_path, 32).name == "trunk-w8.pt"
    with pytest.raises(ConfigError, match=r"holds no trunk that can be widened to 7, such as"):
        find_narrower(tmp_path, 7)


def test_a_gallery_is_widened(fit: Fit, tmp_path: Path, style_image: Path) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    zoo, wide = tmp_path / "zoo", tmp_path / "wide"
    gallery = ("gallery", "--settings", tmp_path / "gallery.toml", "--styles", tmp_path, "--widen-from", zoo)
    still = ("--learning-rate", 1e-12, "--stages", "1x2@32", "--zoo", wide)

    assert fit(*gallery, "--width", 8, *still) == 0

    narrow, (trunk, card) = read_trunk(zoo / "trunk-w4.pt")[0], read_trunk(wide / "trunk-w8.pt")
    photo_BCHW = torch.rand(1, 3, 40, 40)
    for name in ("stripes", "turned"):
        old, new = read_style(zoo / f"{name}.safetensors"), read_style(wide / f"{name}.safetensors")
        assert new.card.trunk_digest == card.digest
        with torch.no_grad():
            difference_BCHW = narrow(photo_BCHW, old.norm_P[None]) - trunk(photo_BCHW, new.norm_P[None])
        assert difference_BCHW.abs().max() < 1e-4
    assert card.training["before"]["widened_from"] == 4


def test_nothing_to_widen_is_said(
    fit: Fit, tmp_path: Path, style_image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fit_trunk(fit, tmp_path, style_image) == 0
    gallery = ("gallery", "--settings", tmp_path / "gallery.toml", "--styles", tmp_path)

    assert fit(*gallery, "--widen-from", tmp_path / "zoo", "--width", 6) == 1
    assert "holds no trunk that can be widened to 6" in caplog.text

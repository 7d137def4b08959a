import hashlib
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from models.vgg import LossNetwork
from training import losses
from training.errors import LossWeightsError
from training.losses import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    color_loss,
    feature_loss,
    gram_matrix,
    load_loss_network,
    normalized_feature_loss,
    pixel_loss,
    repetition_loss,
    style_grams,
    style_loss,
    texture_loss,
    total_variation,
)


def test_a_gram_matrix_by_hand() -> None:
    features_BCHW = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, -1.0]]]])

    gram_BCC = gram_matrix(features_BCHW)

    # Channels 1 2 3 4 and 0 1 0 -1: products 30, -2, 2, over C * H * W = 8.
    torch.testing.assert_close(gram_BCC, torch.tensor([[[30.0, -2.0], [-2.0, 2.0]]]) / 8)


def test_a_gram_matrix_of_half_precision_does_not_overflow() -> None:
    features_BCHW = torch.full((1, 4, 64, 64), 200.0, dtype=torch.float16)

    assert gram_matrix(features_BCHW).max() == pytest.approx(200.0**2 / 4)


def test_a_gram_matrix_does_not_depend_on_place_or_picture_size() -> None:
    features_BCHW = torch.rand(1, 5, 6, 8)

    torch.testing.assert_close(gram_matrix(features_BCHW.flip(2, 3)), gram_matrix(features_BCHW))
    torch.testing.assert_close(gram_matrix(features_BCHW.repeat(1, 1, 2, 3)), gram_matrix(features_BCHW))


def test_all_losses_are_zero_on_identical_input() -> None:
    network, picture_BCHW = LossNetwork(), torch.rand(2, 3, 32, 32)
    features = network(picture_BCHW, STYLE_LAYERS)
    grams = {layer: gram_matrix(features[layer]) for layer in STYLE_LAYERS}

    assert feature_loss(features[CONTENT_LAYER], features[CONTENT_LAYER]).eq(0).all()
    assert style_loss(features, grams).eq(0).all()
    assert normalized_feature_loss(features, features, STYLE_LAYERS).eq(0).all()
    assert pixel_loss(picture_BCHW, picture_BCHW).eq(0).all()
    assert total_variation(torch.full((2, 3, 8, 8), 0.3)).eq(0).all()


def test_losses_are_means_so_repeating_a_picture_changes_nothing() -> None:
    a_BCHW, b_BCHW = torch.rand(1, 4, 6, 6), torch.rand(1, 4, 6, 6)

    for loss in (feature_loss, pixel_loss):
        once, tiled = loss(a_BCHW, b_BCHW), loss(a_BCHW.repeat(1, 1, 2, 2), b_BCHW.repeat(1, 1, 2, 2))
        torch.testing.assert_close(once, tiled)


def test_losses_scale_as_squares_and_the_style_loss_as_a_fourth_power() -> None:
    features = {"relu1_2": torch.rand(1, 4, 6, 6)}
    zero = {"relu1_2": torch.zeros(1, 4, 4)}
    doubled = {"relu1_2": 2 * features["relu1_2"]}

    torch.testing.assert_close(style_loss(doubled, zero), 16 * style_loss(features, zero))
    a_BCHW, b_BCHW = features["relu1_2"], torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(feature_loss(2 * a_BCHW, 2 * b_BCHW), 4 * feature_loss(a_BCHW, b_BCHW))
    torch.testing.assert_close(total_variation(2 * a_BCHW), 4 * total_variation(a_BCHW))


def test_the_normalized_feature_loss_ignores_brightness_of_features() -> None:
    features, targets = {"relu1_2": torch.rand(1, 4, 6, 6)}, {"relu1_2": torch.rand(1, 4, 6, 6)}
    brighter = {"relu1_2": 3 * features["relu1_2"]}

    torch.testing.assert_close(
        normalized_feature_loss(brighter, targets, ["relu1_2"]), normalized_feature_loss(features, targets, ["relu1_2"])
    )


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_color_loss_sees_colours_and_grids_and_nothing_else(factor: int) -> None:
    target_BCHW = torch.rand(2, 3, 64, 64)
    flat_BCHW = target_BCHW.mean(dim=(2, 3), keepdim=True).expand_as(target_BCHW)
    grid_11HW = torch.zeros(1, 1, 64, 64)
    grid_11HW[:, :, ::factor, ::factor] = 0.5

    assert (color_loss(target_BCHW, flat_BCHW, factor) < 0.2).all()
    torch.testing.assert_close(color_loss(flat_BCHW + 0.1, flat_BCHW, factor), torch.full((2,), 0.1))
    torch.testing.assert_close(color_loss(flat_BCHW + grid_11HW, flat_BCHW, factor), torch.full((2,), 0.5 / factor**2))
    assert (color_loss(flat_BCHW + grid_11HW - grid_11HW.mean(), flat_BCHW, factor) > 0.01).all()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_repetition_loss_sees_strokes_that_come_again_and_nothing_else(factor: int) -> None:
    torch.manual_seed(0)
    count = 128 // factor
    target_BCHW, other_BCHW = 0.5 + 0.1 * torch.randn(2, 3, 128, 128), 0.5 + 0.1 * torch.randn(2, 3, 128, 128)
    stroke_11FF = 0.1 * torch.randn(1, 1, factor, factor)
    woven_BCHW = 0.5 + stroke_11FF.repeat(2, 3, count, count)
    signs_NN = 1.0 - 2 * ((torch.arange(count)[:, None] + torch.arange(count)) % 2)
    alternating_BCHW = 0.5 + torch.kron(signs_NN[None, None], stroke_11FF).expand(2, 3, 128, 128)

    strangers_B = repetition_loss(other_BCHW, target_BCHW, factor)

    assert (repetition_loss(other_BCHW + 0.2, other_BCHW, factor) < 1e-9).all()
    assert (strangers_B < 0.01).all()
    assert (repetition_loss(woven_BCHW, target_BCHW, factor) > 20 * strangers_B).all()
    # Its mean over places is that of the photo, for each of the px of an input: the colour loss does not see it.
    assert (repetition_loss(alternating_BCHW, target_BCHW, factor) > 20 * strangers_B).all()
    assert (color_loss(alternating_BCHW, torch.full_like(target_BCHW, 0.5), factor) < 1e-6).all()


@pytest.mark.parametrize("side", [8, 16, 32])
def test_the_repetition_loss_of_small_pictures_looks_less_far(side: int) -> None:
    picture_BCHW = torch.rand(1, 3, side, side)

    assert repetition_loss(torch.rand(1, 3, side, side), picture_BCHW, 8).isfinite().all()
    assert (repetition_loss(picture_BCHW, picture_BCHW, 8) == 0).all()


def test_the_texture_loss_asks_what_is_in_a_cell_and_not_where() -> None:
    target_BCHW = torch.rand(2, 4, 32, 32)
    targets = {"relu1_2": target_BCHW}

    def loss(features_BCHW: torch.Tensor) -> torch.Tensor:
        return texture_loss({"relu1_2": features_BCHW}, targets, ["relu1_2"], cell=16)

    mirrored_BCHW = torch.cat([part.flip(3) for part in torch.chunk(target_BCHW, 2, dim=3)], dim=3)
    torch.testing.assert_close(loss(mirrored_BCHW), torch.zeros(2), atol=1e-6, rtol=0)
    elsewhere_BCHW = target_BCHW.roll(16, dims=3)
    assert (loss(elsewhere_BCHW) > 0).all()
    flat_BCHW = target_BCHW.mean(dim=(2, 3), keepdim=True).expand_as(target_BCHW)
    assert (loss(flat_BCHW) > loss(elsewhere_BCHW)).all()
    torch.testing.assert_close(loss(torch.zeros_like(target_BCHW)), torch.ones(2))
    one = {"relu1_2": flat_BCHW[1:]}
    torch.testing.assert_close(texture_loss(one, {"relu1_2": target_BCHW[1:]}, ["relu1_2"]), loss(flat_BCHW)[1:])


def test_the_texture_loss_looks_at_the_same_places_in_every_layer() -> None:
    left_BCHW, right_BCHW = torch.rand(1, 2, 32, 16), torch.rand(1, 2, 32, 16)
    coarse = [functional.avg_pool2d(part, 4) for part in (left_BCHW, right_BCHW)]
    features = {"relu1_2": torch.cat([left_BCHW, right_BCHW], dim=3), "relu3_3": torch.cat(coarse, dim=3)}
    wrong = {"relu1_2": features["relu1_2"], "relu3_3": torch.cat([coarse[0], coarse[1].flip(3)], dim=3)}

    (loss,) = texture_loss(wrong, features, ["relu1_2", "relu3_3"])

    assert loss == pytest.approx(0, abs=1e-6)


def test_total_variation_by_hand() -> None:
    step_BCHW = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])

    assert total_variation(step_BCHW).tolist() == [1.0]


def test_the_grams_of_a_style_image_have_one_size_per_layer(loss_weights: Path) -> None:
    grams = style_grams(load_loss_network(loss_weights), torch.rand(3, 40, 56))

    assert [tuple(gram.shape) for gram in grams.values()] == [(64, 64), (128, 128), (256, 256), (512, 512)]


def test_loss_weights_from_a_pth_file(tmp_path: Path, loss_weights: Path) -> None:
    state = load_loss_network(loss_weights).features.state_dict()
    torch.save({f"features.{key}": value for key, value in state.items()}, tmp_path / "vgg16.pth")

    network = load_loss_network(tmp_path / "vgg16.pth")

    assert all(value.equal(state[key]) for key, value in network.features.state_dict().items())


@pytest.mark.parametrize("name", ["vgg.safetensors", "vgg.pth"])
def test_unreadable_loss_weights_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")

    with pytest.raises(LossWeightsError, match=name):
        load_loss_network(tmp_path / name)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")

    with pytest.raises(LossWeightsError, match="does not hold torchvision's VGG-16"):
        load_loss_network(tmp_path / "other.pth")


def test_without_torchvision_the_weights_are_downloaded_once(
    tmp_path: Path, loss_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    state = load_loss_network(loss_weights).features.state_dict()
    torch.save({f"features.{key}": value for key, value in state.items()}, tmp_path / "all.pth")
    digest = hashlib.sha256((tmp_path / "all.pth").read_bytes()).hexdigest()
    served = (tmp_path / "all.pth").rename(tmp_path / f"vgg16-{digest[:8]}.pth")
    monkeypatch.setattr(losses, "VGG16_ADDRESS", served.as_uri())

    load_loss_network(None)
    served.unlink()
    network = load_loss_network(None)

    assert (tmp_path / "cache" / "hub" / "checkpoints" / served.name).exists()
    assert all(value.equal(state[key]) for key, value in network.features.state_dict().items())
    assert "100%" in capsys.readouterr().err


def test_half_a_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"half of it")
    monkeypatch.setattr(losses, "VGG16_ADDRESS", (tmp_path / "vgg16-397923af.pth").as_uri())

    with pytest.raises(LossWeightsError, match="invalid hash"):
        load_loss_network(None)

    assert not list((tmp_path / "cache" / "hub" / "checkpoints").iterdir())


def test_without_a_network_the_sentence_names_the_file_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers

    with pytest.raises(LossWeightsError, match="could not be downloaded") as raised:
        load_loss_network(None)

    assert "fetch https://download.pytorch.org/models/vgg16-397923af.pth in some other way" in str(raised.value)
    assert "--loss-weights vgg16-397923af.pth" in str(raised.value)

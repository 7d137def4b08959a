from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from models.sr_net import CompactUpscaler
from models.style_net import StyleTrunk
from tests.training.conftest import draw_photo
from training.balance import STRENGTHS, UntrainedLosses, measure_untrained
from training.config import StyleWeights, UpscaleWeights
from training.discriminator import FeatureDiscriminator
from training.losses import load_loss_network
from training.pictures import to_picture, to_tensor
from training.tasks import SCALES, Degradation, StyleTask, UpscaleTask


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(64, 48), (128, 96)])
def test_the_degradation_equals_pillows_bicubic(factor: int, size: tuple[int, int]) -> None:
    photo = draw_photo(0, *size)
    small = photo.resize((size[0] // factor, size[1] // factor), Image.Resampling.BICUBIC)

    low_res_BCHW = Degradation(factor)(to_picture(photo)[None], torch.tensor([0]))

    difference = (low_res_BCHW[0] * 255).round() - to_tensor(small)
    assert difference.abs().max() <= 1


def test_the_degradation_gives_levels_of_a_file_and_keeps_the_mean_colour() -> None:
    high_res_BCHW = to_picture(draw_photo(1, 64, 64))[None]

    for sigma in (0.0, 1.0):
        low_res_BCHW = Degradation(4, sigma)(high_res_BCHW, torch.tensor([0]))
        torch.testing.assert_close((low_res_BCHW * 255).round(), low_res_BCHW * 255)
        torch.testing.assert_close(low_res_BCHW.mean(dim=(2, 3)), high_res_BCHW.mean(dim=(2, 3)), atol=0.01, rtol=0)


def test_the_blur_is_a_gaussian_of_that_width() -> None:
    point_BCHW = torch.zeros(1, 3, 33, 33)
    point_BCHW[:, :, 16, 16] = 1

    blurred_BCHW = Degradation(4, 1.5)._blur(point_BCHW)

    offsets = torch.arange(33) - 16
    profile_W = blurred_BCHW[0, 0].sum(dim=0)
    assert profile_W.sum() == pytest.approx(1, abs=1e-5)
    assert (profile_W * offsets**2).sum().sqrt() == pytest.approx(1.5, rel=0.05)
    assert np.argmax(profile_W.numpy()) == 16


def test_a_share_of_the_pictures_has_been_jpeg_the_same_ones_each_time() -> None:
    high_res_BCHW = to_picture(draw_photo(1, 128, 128))[None].expand(40, -1, -1, -1)
    number_B = torch.arange(40)

    whole_BCHW = Degradation(4)(high_res_BCHW, number_B)
    shared_BCHW = Degradation(4, jpeg_share=0.5)(high_res_BCHW, number_B)
    all_BCHW = Degradation(4, jpeg_share=1.0)(high_res_BCHW, number_B)

    damage_B = (shared_BCHW - whole_BCHW).abs().amax(dim=(1, 2, 3))
    assert 10 < (damage_B > 0).sum() < 30
    # Qualities differ, and none is so low that the picture is gone.
    assert len(set(damage_B.tolist())) > 5
    assert (shared_BCHW - whole_BCHW).abs().mean() < 0.03
    assert ((all_BCHW - whole_BCHW).abs().amax(dim=(1, 2, 3)) > 0).all()
    torch.testing.assert_close((all_BCHW * 255).round(), all_BCHW * 255)
    # A broken run sees what an unbroken one would have seen.
    torch.testing.assert_close(
        Degradation(4, jpeg_share=0.5)(high_res_BCHW[7:9], number_B[7:9]), shared_BCHW[7:9], rtol=0, atol=0
    )
    assert not torch.equal(Degradation(4, jpeg_share=0.5, seed=1)(high_res_BCHW, number_B), shared_BCHW)


def test_samples_take_their_styles_in_turn(loss_weights: Path) -> None:
    styles = {"dark": torch.zeros(3, 48, 48), "light": torch.ones(3, 48, 48)}
    network = load_loss_network(loss_weights)
    task = StyleTask(StyleTrunk(4, 1), styles, network, StyleWeights(), {"light": 0.0})
    content_BCHW = torch.rand(1, 3, 32, 32)

    assert task(content_BCHW, torch.tensor([4]))["style"] > 0
    assert task(content_BCHW, torch.tensor([5]))["style"] == 0


def test_a_style_may_have_its_own_smoothness(loss_weights: Path) -> None:
    styles = {"dark": torch.zeros(3, 48, 48), "light": torch.ones(3, 48, 48)}
    network = load_loss_network(loss_weights)
    weights = StyleWeights(content=0, style=0, total_variation=1)
    task = StyleTask(StyleTrunk(4, 1), styles, network, weights, None, {"light": 3.0})
    content_BCHW = torch.rand(1, 3, 32, 32)

    plain, smooth = (float(task(content_BCHW, torch.tensor([number]))["total"].detach()) for number in (0, 1))

    assert smooth == pytest.approx(3 * plain, rel=1e-4)


def test_a_frozen_trunk_trains_its_vector_alone(loss_weights: Path) -> None:
    styles = {"dark": torch.zeros(3, 48, 48)}
    task = StyleTask(StyleTrunk(4, 1), styles, load_loss_network(loss_weights), StyleWeights(), train_trunk=False)

    task(torch.rand(1, 3, 32, 32), torch.tensor([0]))["total"].backward()

    assert [name for name, value in task.named_parameters() if value.grad is not None] == ["norms_SP"]


def test_every_style_starts_from_the_vector_it_is_given(loss_weights: Path) -> None:
    trunk = StyleTrunk(4, 1)
    styles = {"a": torch.zeros(3, 48, 48), "b": torch.ones(3, 48, 48)}
    task = StyleTask(trunk, styles, load_loss_network(loss_weights), StyleWeights())
    assert task.norms_SP[1].equal(trunk.neutral_norm())

    task.start_from(2 * trunk.neutral_norm())

    assert task.norms_SP[1].equal(2 * trunk.neutral_norm())


def test_without_weights_of_features_the_upscaler_learns_from_pixels_alone(loss_weights: Path) -> None:
    network = load_loss_network(loss_weights)
    high_res_BCHW = torch.rand(2, 3, 64, 64)

    losses = UpscaleTask(CompactUpscaler(4, 4, 1), Degradation(4), network, UpscaleWeights(1.0, 0.0, 0.0))(
        high_res_BCHW, torch.arange(2)
    )

    assert losses["feature"] == losses["texture"] == 0
    assert losses["total"] == losses["pixel"]


def test_an_upscalers_convolutions_are_named_without_those_of_its_judge(loss_weights: Path) -> None:
    task = UpscaleTask(CompactUpscaler(4, 4, 1), Degradation(4), load_loss_network(loss_weights), UpscaleWeights())
    assert task.discriminators
    assert task.convolutions() == ["network.body.0.weight", "network.out.weight"]


def test_the_upscaler_that_is_kept_is_the_mean_of_a_runs_last_steps(loss_weights: Path) -> None:
    network = load_loss_network(loss_weights)
    task = UpscaleTask(CompactUpscaler(4, 4, 1), Degradation(4), network, UpscaleWeights())
    trained, kept = (dict(each.named_parameters())["out.bias"] for each in (task.network, task.averaged_network))

    seen = []
    for value in [5.0] * 40 + [1.0, 3.0] * 20:
        nn.init.constant_(trained, value)
        task.after_step()
        seen.append(kept.mean().item())

    assert seen[0] == pytest.approx(5)
    # By then a fifth of the steps were of the second kind; at the end more than it reaches back.
    assert seen[49] == pytest.approx(2 + 3 * (40 / 50) ** 5, abs=0.2)
    assert seen[-1] == pytest.approx(2, abs=0.2)
    assert not any(value.requires_grad for value in task.averaged.parameters())


def test_discriminators_rest_while_nothing_is_asked_of_them(loss_weights: Path) -> None:
    network = load_loss_network(loss_weights)
    task = UpscaleTask(CompactUpscaler(4, 4, 1), Degradation(4), network, UpscaleWeights(), warm_up_samples=2)

    for number, side, asked in ((0, 96, set()), (2, 64, {"1"}), (4, 96, {"1", "2"})):
        task.zero_grad()
        task(torch.rand(2, 3, side, side), torch.arange(number, number + 2))["total"].backward()
        assert all(value.grad is not None for value in task.parameters() if value.requires_grad)
        task.before_step()
        for scale, discriminator in task.discriminators.items():
            assert all((value.grad is not None) == (scale in asked) for value in discriminator.parameters())
        assert all(value.grad is not None for value in task.network.parameters())


def test_upscalers_are_seen_from_farther_away_as_well(loss_weights: Path) -> None:
    weights = UpscaleWeights(adversarial=0.0)
    task = UpscaleTask(CompactUpscaler(4, 4, 1), Degradation(4), load_loss_network(loss_weights), weights)
    high_res_BCHW, number_B = to_picture(draw_photo(0, 96, 96)).repeat(2, 1, 1, 1), torch.arange(2)
    smaller_BCHW = functional.interpolate(high_res_BCHW, scale_factor=0.5, mode="bilinear", antialias=True)

    enlarged_BCHW = task.network(task.degradation(high_res_BCHW, number_B))
    reduced_BCHW = functional.interpolate(enlarged_BCHW, scale_factor=0.5, mode="bilinear", antialias=True)
    near = task._compare(enlarged_BCHW, high_res_BCHW, number_B, 1)
    far = task._compare(reduced_BCHW, smaller_BCHW, number_B, 1)
    share = SCALES[2] / SCALES[1]

    both = task(high_res_BCHW, number_B)
    for name in ("feature", "texture"):
        assert not torch.isclose(near[name], far[name], rtol=0.01)
        torch.testing.assert_close(both[name], near[name] + share * far[name])


class Brightening(nn.Module):
    """Enlarges four times, and beyond white."""

    def forward(self, low_res_BCHW: Tensor) -> Tensor:
        return functional.interpolate(low_res_BCHW, scale_factor=4.0) + 0.5


def test_colours_are_compared_as_they_are_shown(loss_weights: Path) -> None:
    task = UpscaleTask(Brightening(), Degradation(4), load_loss_network(loss_weights), UpscaleWeights())

    assert task(torch.ones(2, 3, 64, 64), torch.arange(2))["color"] < 1e-4
    assert task(torch.zeros(2, 3, 64, 64), torch.arange(2))["color"] > 1


def test_the_balance_is_the_same_for_every_style_image(loss_weights: Path) -> None:
    network = load_loss_network(loss_weights)
    photos_BCHW = torch.stack([to_picture(draw_photo(index, 64, 64)) for index in range(3)])
    rows = torch.rand(1, 1, 64).expand(3, 64, 64)

    for style_3HW in (rows, 0.5 * rows):
        untrained = measure_untrained(network, photos_BCHW, style_3HW)
        for strength, ratio in STRENGTHS.items():
            weight = untrained.style_weight(strength)
            assert weight * untrained.style / untrained.content == pytest.approx(ratio, rel=0.05)


def test_strengths_grow() -> None:
    untrained = UntrainedLosses(content=8.0, style=1e-4)
    weights = [untrained.style_weight(strength) for strength in ("light", "normal", "strong")]

    assert weights == sorted(set(weights))


def test_the_first_pictures_train_on_pixels_alone(loss_weights: Path) -> None:
    task = UpscaleTask(
        CompactUpscaler(4, 4, 1),
        Degradation(4),
        load_loss_network(loss_weights),
        UpscaleWeights(0.5, 1.0),
        warm_up_samples=4,
    )
    high_res_BCHW = torch.rand(2, 3, 64, 64)

    early, late = task(high_res_BCHW, torch.tensor([2, 3])), task(high_res_BCHW, torch.tensor([4, 5]))

    assert early["feature"] == 0 < late["feature"]
    assert early["texture"] == 0 < late["texture"]
    torch.testing.assert_close(early["pixel"], 2 * late["pixel"])


def test_with_a_discriminator_both_sides_learn_and_neither_for_the_other(loss_weights: Path) -> None:
    weights = UpscaleWeights(pixel=0, feature=0, texture=1e-9, color=0, adversarial=1.0)
    task = UpscaleTask(CompactUpscaler(4, 4, 1), Degradation(4), load_loss_network(loss_weights), weights)
    discriminator = cast(FeatureDiscriminator, task.discriminators["1"])
    made, photographed = (
        {
            "relu2_2": torch.rand(2, 128, 20, 20, requires_grad=True),
            "relu3_3": torch.rand(2, 256, 10, 10),
            "relu4_3": torch.rand(2, 512, 5, 5),
        }
        for _ in "ab"
    )

    own, verdict = discriminator.losses(made, photographed)
    own.backward()  # type: ignore[no-untyped-call]
    assert made["relu2_2"].grad is None
    judged = [value.grad.clone() for value in discriminator.parameters() if value.grad is not None]
    assert len(judged) == len(list(discriminator.parameters()))
    verdict.backward()  # type: ignore[no-untyped-call]
    assert made["relu2_2"].grad is not None
    for value, before in zip(discriminator.parameters(), judged, strict=True):
        torch.testing.assert_close(value.grad, before)

    losses = task(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))
    assert {"judge", "verdict"} < set(losses)


def test_the_discriminator_learns_to_tell_pictures_apart() -> None:
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator()
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)

    def features(scale: float) -> dict[str, torch.Tensor]:
        shapes = {"relu2_2": (128, 20, 20), "relu3_3": (256, 10, 10), "relu4_3": (512, 5, 5)}
        return {layer: torch.rand(2, *shape) ** scale for layer, shape in shapes.items()}

    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        own, _ = discriminator.losses(features(3.0), features(1.0))
        own.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(own.detach()))
    assert losses[-1] < 0.5 * losses[0]

import pytest
import torch

from models.vgg import LAYERS, LossNetwork


def random_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"features.{key}": value for key, value in LossNetwork().features.state_dict().items()}


def test_features_have_the_shapes_of_vgg16() -> None:
    network = LossNetwork()

    features = network(torch.rand(1, 3, 64, 48), tuple(LAYERS))

    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "relu1_2": (1, 64, 64, 48),
        "relu2_2": (1, 128, 32, 24),
        "relu3_3": (1, 256, 16, 12),
        "relu4_3": (1, 512, 8, 6),
    }
    assert all(value.min() >= 0 for value in features.values())


def test_features_do_not_depend_on_which_layers_are_asked_for() -> None:
    network, picture_BCHW = LossNetwork(), torch.rand(1, 3, 32, 32)

    everything = network(picture_BCHW, tuple(LAYERS))

    for name in LAYERS:
        torch.testing.assert_close(network(picture_BCHW, (name,))[name], everything[name])


def test_the_loss_network_is_frozen_but_passes_gradients() -> None:
    network = LossNetwork.from_state_dict(random_state())
    picture_BCHW = torch.rand(1, 3, 32, 32, requires_grad=True)

    network(picture_BCHW, ("relu2_2",))["relu2_2"].sum().backward()

    assert picture_BCHW.grad is not None
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_weights_in_half_precision_are_taken_as_float32() -> None:
    half = LossNetwork.from_state_dict({key: value.half() for key, value in random_state().items()})

    assert {value.dtype for value in half.state_dict().values()} == {torch.float32}


def test_a_missing_or_misshapen_weight_is_named() -> None:
    state = random_state()
    with pytest.raises(KeyError, match=r"features\.21\.weight"):
        LossNetwork.from_state_dict({key: value for key, value in state.items() if key != "features.21.weight"})
    with pytest.raises(RuntimeError, match=r"21\.weight"):
        LossNetwork.from_state_dict(state | {"features.21.weight": torch.zeros(1)})

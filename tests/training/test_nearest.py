import torch

from models.style_net import StyleTrunk
from models.vgg import LossNetwork
from training.nearest import nearest_norm
from training.optimize import Objective


def test_a_new_style_starts_from_what_paints_like_it() -> None:
    torch.manual_seed(3)
    trunk, network = StyleTrunk(4), LossNetwork()
    neutral_P = trunk.neutral_norm()
    norms = {name: neutral_P + 0.2 * torch.randn_like(neutral_P) for name in ("one", "two", "three")}
    photos = [torch.rand(3, 32, 32) for _ in range(2)]
    with torch.no_grad():
        painting_3HW = trunk.eval()(photos[0][None], norms["two"][None])[0]

    objective = Objective.of_style(network, painting_3HW)
    assert nearest_norm(trunk, norms, objective, photos, content_weight=0) == "two"

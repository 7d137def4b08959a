"""Orthogonal steps of convolutions, Adam's of everything else."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 243), (64, 64), (96, 20)])
def test_orthogonal_matrices_keep_singular_vectors(shape: tuple[int, int]) -> None:
    matrix_MN = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix_MN, full_matrices=False)

    found = torch.diagonal(left.T @ orthogonalize(matrix_MN[None])[0] @ right.T)

    strong = values > 0.02 * values.max()
    assert found[strong].min() > 0.6
    assert found[strong].max() < 1.3


def test_a_gradient_of_nothing_is_no_step() -> None:
    assert not orthogonalize(torch.zeros(1, 4, 9)).any()


def test_a_convolution_learns_from_weak_directions_as_from_strong_ones() -> None:
    weight = nn.Parameter(torch.zeros(2, 2, 1, 1))
    optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=0.1)
    weight.grad = torch.diag(torch.tensor([1.0, 0.05]))[:, :, None, None]

    optimizer.step()

    strong, weak = -torch.diagonal(weight.detach()[:, :, 0, 0])
    assert strong > 0
    assert weak / strong > 0.5
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.2 * 0.1, rel=0.3)


def test_other_parameters_learn_as_with_adam() -> None:
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    weight = nn.Parameter(torch.ones(2, 2, 3, 3))
    groups: list[dict[str, Any]] = [{"params": [ours]}, {"params": [weight], "orthogonal": True}]
    muon = Muon(groups, lr=0.1)
    adam = torch.optim.Adam([theirs], lr=0.1)

    for factor in (1.0, -3.0, 0.5):
        weight.grad = torch.full_like(weight, factor)
        for parameter in (ours, theirs):
            parameter.grad = factor * torch.tensor([1.0, 2.0, -3.0])
        muon.step()
        adam.step()

    assert torch.equal(ours, theirs)


def convolution(value: Tensor) -> tuple[nn.Parameter, Muon]:
    weight = nn.Parameter(value.clone())
    return weight, Muon([{"params": [weight], "orthogonal": True}], lr=0.1)


def train(weight: nn.Parameter, optimizer: Muon, steps: range) -> None:
    for step in steps:
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()


def test_it_goes_on_from_its_saved_state() -> None:
    unbroken, optimizer = convolution(torch.ones(4, 3, 3, 3))
    train(unbroken, optimizer, range(6))

    first, before = convolution(torch.ones(4, 3, 3, 3))
    train(first, before, range(3))
    second, after = convolution(first.detach())
    after.load_state_dict(before.state_dict())
    train(second, after, range(3, 6))

    assert torch.equal(unbroken, second)


def test_a_weight_without_a_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(2, 2, 3, 3))
    Muon([{"params": [weight], "orthogonal": True}]).step()
    assert torch.equal(weight, torch.ones(2, 2, 3, 3))

"""Muon: steps along orthogonalised gradients, for the weights of convolutions; Adam for everything else."""

from typing import cast

import torch
from torch import Tensor

MOMENTUM = 0.95
STEP_RMS = 0.2
"""Root mean square of a step, in learning rates: about that of Adam's, so that one rate suits both."""
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that brings singular values near 1: it rises steeply at 0, where most of them are."""


class Muon(torch.optim.Adam):
    """Adam; but in groups with `orthogonal`, all singular values of a step are near 1.

    Gradients of a convolution lie in few directions for the most part, and steps along them learn nothing of the
    others. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the step's length is that of
    Liu et al., "Muon is Scalable for LLM Training", 2025. A weight (O, I, K, K) counts as a matrix (O, I * K * K).
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all parameters that have a gradient. Those of orthogonal groups are used up."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group.get("orthogonal") and weights:
                self._step_orthogonally(weights, group["lr"])
        super().step(closure)

    def _step_orthogonally(self, weights: list[Tensor], learning_rate: float) -> None:
        for weight in weights:
            if not self.state[weight]:
                # Adam looks for its `step` in whatever state is loaded.
                self.state[weight].update(step=torch.zeros(()), momentum=torch.zeros_like(weight))
        gradients = [cast(Tensor, weight.grad) for weight in weights]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        # Looking ahead as Nesterov does.
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        # Those of one shape together: one by one, a GPU would wait for the host most of the time.
        alike: dict[torch.Size, list[int]] = {}
        for index, weight in enumerate(weights):
            alike.setdefault(weight.shape, []).append(index)
            weight.grad = None
        for indices in alike.values():
            direction_NOI = orthogonalize(torch.stack([ahead[index].flatten(1) for index in indices]))
            length = STEP_RMS * max(direction_NOI.shape[1:]) ** 0.5
            some = [weights[index] for index in indices]
            steps = [direction_OI.view_as(weight) for direction_OI, weight in zip(direction_NOI, some, strict=True)]
            torch._foreach_add_(some, steps, alpha=-learning_rate * length)


def orthogonalize(matrix_NOI: Tensor) -> Tensor:
    """Matrices with the same singular vectors, and singular values between about 0.7 and 1.2 (Newton-Schulz)."""
    if matrix_NOI.shape[-2] > matrix_NOI.shape[-1]:
        return orthogonalize(matrix_NOI.mT).mT
    linear, cubic, quintic = COEFFICIENTS
    norm = matrix_NOI.norm(dim=(-2, -1), keepdim=True)
    x: Tensor = matrix_NOI / norm.clamp(min=torch.finfo(matrix_NOI.dtype).tiny)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        inner = torch.baddbmm(square, square, square, beta=cubic, alpha=quintic)
        x = torch.baddbmm(x, inner, x, beta=linear)
    return x

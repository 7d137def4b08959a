"""Muon: steps along orthogonalised gradients, for the weights of convolutions; Adam for everything else."""

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
            for weight in group["params"] if group.get("orthogonal") else ():
                if weight.grad is not None:
                    self._step_orthogonally(weight, weight.grad, group["lr"])
                    weight.grad = None
        super().step(closure)

    def _step_orthogonally(self, weight: Tensor, gradient: Tensor, learning_rate: float) -> None:
        state = self.state[weight]
        if not state:
            # Adam looks for its `step` in whatever state is loaded.
            state.update(step=torch.zeros(()), momentum=torch.zeros_like(weight))
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        # Looking ahead as Nesterov does.
        direction_OI = orthogonalize(gradient.lerp(momentum, MOMENTUM).flatten(1))
        length = STEP_RMS * max(direction_OI.shape) ** 0.5
        weight.add_(direction_OI.view_as(weight), alpha=-learning_rate * length)


def orthogonalize(matrix_MN: Tensor) -> Tensor:
    """A matrix with the same singular vectors and singular values between about 0.7 and 1.2 (Newton-Schulz)."""
    if matrix_MN.shape[0] > matrix_MN.shape[1]:
        return orthogonalize(matrix_MN.T).T
    linear, cubic, quintic = COEFFICIENTS
    x_MN: Tensor = matrix_MN / matrix_MN.norm().clamp(min=torch.finfo(matrix_MN.dtype).tiny)
    for _ in range(ITERATIONS):
        square_MM = x_MN @ x_MN.T
        x_MN = linear * x_MN + (cubic * square_MM + quintic * square_MM @ square_MM) @ x_MN
    return x_MN

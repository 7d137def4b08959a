"""What the tests of both kinds of network share."""

import warnings

import torch
from torch import Tensor, nn


def traced(network: nn.Module, *example: Tensor) -> torch.jit.ScriptModule:
    """The network traced as the export traces it."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        archive: torch.jit.ScriptModule = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        return archive

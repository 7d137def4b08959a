"""Turns what was trained into zoo files that a worker loads without flags."""

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.card import CARD_FILE, ModelCard, Task, weights_digest
from models.style_net import StyleTrunk
from training.checkpoint import write_whole

STYLE_VECTOR = "norm_P"
"""Name of the one tensor in a style's file."""


def to_bytes(tensor: Tensor) -> bytes:
    """A tensor's values as bytes, in row-major order."""
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def module_digest(module: nn.Module) -> str:
    """`weights_digest` of a network's state."""
    return weights_digest((name, to_bytes(value)) for name, value in module.state_dict().items())


def trunk_card(trunk: StyleTrunk, name: str, training: dict[str, object]) -> ModelCard:
    """The card of a trunk as it is now."""
    return ModelCard(
        name=name,
        task=Task.STYLE_TRUNK,
        architecture=f"johnson-cin-{trunk.residual_blocks}",
        width=trunk.width,
        digest=module_digest(trunk),
        norm_size=trunk.norm_size,
        training=training,
    )


def export_archive(network: nn.Module, card: ModelCard, example: tuple[Tensor, ...], path: Path) -> None:
    """Writes a network and its card as a TorchScript archive.

    Traced, not scripted: OpenVINO converts only traced instance norms and paddings. Raises `CheckpointError`.
    """
    network = network.cpu().float().eval()
    with warnings.catch_warnings(), torch.no_grad():
        # torch 2.13 calls torch.jit deprecated; the archive is still what every runtime here reads.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        write_whole(
            path, lambda temporary: traced.save(str(temporary), _extra_files={CARD_FILE: card.to_json().encode()})
        )


def export_trunk(trunk: StyleTrunk, card: ModelCard, path: Path) -> None:
    """Writes a trunk."""
    example = (torch.rand(2, 3, 48, 64), trunk.neutral_norm().repeat(2, 1))
    export_archive(trunk, card, example, path)


def export_upscaler(network: nn.Module, card: ModelCard, path: Path) -> None:
    """Writes an upscaler."""
    export_archive(network, card, (torch.rand(2, 3, 24, 32),), path)


def export_style(norm_P: Tensor, card: ModelCard, path: Path) -> None:
    """Writes a style's vector and card. `card.digest` is filled in here."""
    from safetensors.torch import save_file

    norm_P = norm_P.detach().cpu().float().contiguous()
    digest = weights_digest([(STYLE_VECTOR, to_bytes(norm_P))])
    metadata = {CARD_FILE: replace(card, digest=digest).to_json()}
    write_whole(path, lambda temporary: save_file({STYLE_VECTOR: norm_P}, temporary, metadata=metadata))

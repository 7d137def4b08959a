"""Turns what was trained into zoo files that a worker loads without flags."""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.card import CARD_FILE, ModelCard, Task, weights_digest
from models.style_net import StyleTrunk
from training.checkpoint import write_whole

STYLE_VECTOR = "norm_P"
"""Name of the one tensor in a style's file."""
LARGEST_FLOAT32 = 3_800_000
"""Bytes of weights. No file of a zoo should be larger than 4 MB: repositories and networks take them without ado."""


def to_bytes(tensor: Tensor) -> bytes:
    """A tensor's values as bytes, in row-major order."""
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def stored_dtype(module: nn.Module) -> torch.dtype:
    """How a network's weights are stored: in half precision where they would fill more than `LARGEST_FLOAT32`.

    Whoever loads them computes in float32 all the same.
    """
    values = sum(value.numel() for value in module.state_dict().values())
    return torch.float16 if 4 * values > LARGEST_FLOAT32 else torch.float32


def module_digest(module: nn.Module) -> str:
    """`weights_digest` of a network's state as an archive stores it."""
    dtype = stored_dtype(module)
    # As `nn.Module.to` does it: counters stay whole numbers.
    stored = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in module.state_dict().items()
    }
    return weights_digest((name, to_bytes(value)) for name, value in stored.items())


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


def export_archive(network: nn.Module, card: ModelCard, examples: Mapping[str, tuple[Tensor, ...]], path: Path) -> None:
    """Writes a network and its card as a TorchScript archive with the methods that `examples` has arguments for.

    Traced, not scripted: OpenVINO converts only traced instance norms and paddings. The weights are stored as
    `stored_dtype` says; `network` itself stays as it is. Raises `CheckpointError`.
    """
    dtype, network = stored_dtype(network), deepcopy(network).cpu().float().eval()
    with warnings.catch_warnings(), torch.no_grad():
        # torch 2.13 calls torch.jit deprecated; the archive is still what every runtime here reads.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace_module(network, dict(examples), check_trace=False).to(dtype)  # type: ignore[no-untyped-call]
        write_whole(
            path, lambda temporary: traced.save(str(temporary), _extra_files={CARD_FILE: card.to_json().encode()})
        )


def export_trunk(trunk: StyleTrunk, card: ModelCard, path: Path) -> None:
    """Writes a trunk: `forward`, and the stages of a photo too large to be painted in one piece."""
    content_BCHW, norm_1P = torch.rand(2, 3, 48, 64), trunk.neutral_norm()[None]
    statistics_2C = torch.ones(2, trunk.normalized_channels)
    half_1CHW, features_1CHW = torch.rand(1, 2 * trunk.width, 24, 32), torch.rand(1, 4 * trunk.width, 12, 16)
    examples: dict[str, tuple[Tensor, ...]] = {
        "forward": (content_BCHW, norm_1P.repeat(2, 1)),
        "down_survey": (content_BCHW[:1], torch.ones(1, 1, 48, 64)),
        "down_second": (content_BCHW[:1], norm_1P, statistics_2C),
        "down_third": (half_1CHW, norm_1P, statistics_2C),
        "down_end": (features_1CHW, norm_1P, statistics_2C),
        "up_begin": (features_1CHW, norm_1P),
        "up_survey": (half_1CHW, torch.ones(1, 1, 24, 32), norm_1P, statistics_2C),
        "up_end": (half_1CHW, content_BCHW[:1], norm_1P, statistics_2C),
    }
    of_blocks = {
        "block_first": (features_1CHW,),
        "block_second": (features_1CHW, norm_1P, statistics_2C),
        "block_sum": (features_1CHW, features_1CHW, norm_1P, statistics_2C),
    }
    trunk = deepcopy(trunk)
    for index, (name, example) in product(range(trunk.residual_blocks), of_blocks.items()):
        # An archive's method knows its weights: there is one for each block.
        setattr(trunk, f"{name}_{index}", partial(getattr(trunk, name), index))
        examples[f"{name}_{index}"] = example
    export_archive(trunk, card, examples, path)


def export_upscaler(network: nn.Module, card: ModelCard, path: Path) -> None:
    """Writes an upscaler."""
    export_archive(network, card, {"forward": (torch.rand(2, 3, 24, 32),)}, path)


def export_style(norm_P: Tensor, card: ModelCard, path: Path) -> None:
    """Writes a style's vector and card. `card.digest` is filled in here."""
    norm_P = norm_P.detach().cpu().float().contiguous()
    digest = weights_digest([(STYLE_VECTOR, to_bytes(norm_P))])
    metadata = {CARD_FILE: replace(card, digest=digest).to_json()}
    write_whole(path, lambda temporary: save_file({STYLE_VECTOR: norm_P}, temporary, metadata=metadata))

"""Reads the zoo's files and proves that they are whole."""

import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load

from models.card import CARD_FILE, CardError, ModelCard, Task
from worker.arrays import Norms
from worker.errors import ZooError

STYLE_VECTOR = "norm_P"
"""Name of the one tensor in a style's file."""
LARGEST_STYLE = 16_000_000
"""Bytes; a style takes some thousands."""


@dataclass(frozen=True)
class Archive:
    """A network as the training exported it."""

    card: ModelCard
    module: torch.jit.ScriptModule


def read_archive(path: Path) -> Archive:
    """A TorchScript archive with its card, digest checked. Raises `ZooError`."""
    extra = {CARD_FILE: ""}
    try:
        with warnings.catch_warnings():
            # torch 2.13 calls torch.jit deprecated; the archive is still what every runtime here reads.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Read by Python, whose errors tell a disk's from a file's; torch says the same of both.
            content = io.BytesIO(path.read_bytes())
            module = torch.jit.load(content, map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
        card = ModelCard.from_json(extra[CARD_FILE])
        if card.task is Task.STYLE:
            raise ZooError(f"{path.name} is refused: a style belongs into a .safetensors file.")
        card.verify({name: value.numpy().tobytes() for name, value in module.state_dict().items()})
    except (OSError, RuntimeError, ValueError) as error:
        raise ZooError(f"{path.name} is refused: {_first_line(error)}") from error
    # Large networks are stored in half precision, which a CPU would compute in too.
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return Archive(card, module.float().eval())


def read_style(path: Path) -> tuple[ModelCard, Norms]:
    """A style's card and vector (P,), digest checked. Raises `ZooError`."""
    try:
        content = _read_small(path)
        tensors = load(content)
        card = ModelCard.from_json(_metadata(content).get(CARD_FILE, ""))
        if STYLE_VECTOR not in tensors:
            raise CardError(f"it holds no tensor {STYLE_VECTOR}.")
        norm_P: Norms = np.ascontiguousarray(tensors[STYLE_VECTOR])
        card.verify({STYLE_VECTOR: norm_P.tobytes()})
        if card.task is not Task.STYLE or norm_P.shape != (card.norm_size,) or norm_P.dtype != np.float32:
            raise CardError(f"it holds no style's vector but {card.task}, {norm_P.dtype} {norm_P.shape}.")
    except (OSError, SafetensorError, ValueError) as error:
        raise ZooError(f"{path.name} is refused: {_first_line(error)}") from error
    return card, norm_P


def _read_small(path: Path) -> bytes:
    """The whole file. Not mapped into memory: being cut short by a writer would then end this process (SIGBUS)."""
    if path.stat().st_size > LARGEST_STYLE:
        raise CardError(f"it is larger than any style ({LARGEST_STYLE // 1_000_000} MB).")
    return path.read_bytes()


def _metadata(content: bytes) -> dict[str, str]:
    """What a whole safetensors file says of itself: JSON behind its length in eight bytes."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    return metadata


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]

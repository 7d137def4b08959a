"""A small zoo of untrained networks, for tests that are not about what pictures look like."""

from pathlib import Path

import torch
from PIL import Image

from models.card import ModelCard, Task
from models.sr_net import CompactUpscaler
from models.style_net import StyleTrunk
from training.export import export_style, export_trunk, export_upscaler, module_digest, trunk_card


def build_zoo(
    folder: Path, styles: tuple[str, ...] = ("red", "blue"), factors: tuple[int, ...] = (2,), width: int = 4
) -> Path:
    """Writes a trunk of that width, the same each time, styles and upscalers."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    trunk = StyleTrunk(width=width, residual_blocks=1)
    card = trunk_card(trunk, f"trunk-w{width}", {})
    export_trunk(trunk, card, folder / f"trunk-w{width}.pt")
    for name in styles:
        add_style(folder, card, trunk, name)
    for factor in factors:
        network = CompactUpscaler(factor, width=8, layers=2)
        upscaler_card = ModelCard(f"x{factor}", Task.UPSCALE, "compact", 8, module_digest(network), factor=factor)
        export_upscaler(network, upscaler_card, folder / f"x{factor}.pt")
    return folder


def add_style(folder: Path, trunk_card: ModelCard, trunk: StyleTrunk, name: str) -> None:
    """Writes a style of random strength and its preview."""
    card = ModelCard(
        name, Task.STYLE, trunk_card.architecture, trunk_card.width, "", norm_size=trunk_card.norm_size,
        trunk_digest=trunk_card.digest, source={"title": name.title()},
    )  # fmt: skip
    export_style(trunk.neutral_norm() + 0.5 * torch.randn(trunk.norm_size), card, folder / f"{name}.safetensors")
    Image.new("RGB", (32, 32), name).save(folder / f"{name}.jpg")

"""Zoos made on the fly: an untrained trunk of any width, and one that gives back what it gets."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.card import ModelCard, Task
from models.style_net import StyleTrunk
from training.export import export_archive, export_style, export_trunk, module_digest, trunk_card
from worker.archive import Archive, read_archive
from worker.settings import SHIPPED_ZOO

STYLES = ("one", "two", "three", "four")
IDENTITY_NORMS = 4
"""P of the identity trunk: a vector that changes nothing."""


class IdentityTrunk(nn.Module):
    """A trunk that costs nothing, so that all else shows."""

    def forward(self, content_BCHW: Tensor, norm_BP: Tensor) -> Tensor:
        """The photo itself; the vector is read, so that every runtime keeps it as an input."""
        return torch.relu(content_BCHW) + 0.0 * norm_BP.mean(dim=1)[:, None, None, None]


@dataclass(frozen=True)
class Trunk:
    """A trunk on the disk."""

    path: Path
    archive: Archive

    @property
    def width(self) -> int:
        """Channels at full resolution."""
        return self.archive.card.width


def trunks(folder: Path, widths: tuple[int, ...]) -> list[Trunk]:
    """The shipped trunk of each width, or where there is none an untrained one, written to `folder`."""
    shipped = {trunk.width: trunk for trunk in map(_read, sorted(SHIPPED_ZOO.glob("trunk-*.pt")))}
    return [shipped.get(width) or _read(write_trunk(folder, width)) for width in widths]


def write_trunk(folder: Path, width: int) -> Path:
    """An untrained trunk's archive: as fast as a trained one."""
    torch.manual_seed(0)
    trunk, path = StyleTrunk(width), folder / f"untrained-w{width}.pt"
    export_trunk(trunk, trunk_card(trunk, f"untrained-w{width}", {}), path)
    return path


def write_identity_zoo(folder: Path) -> Path:
    """A zoo whose four styles give back the photo."""
    folder.mkdir()
    trunk = IdentityTrunk()
    card = ModelCard(
        "trunk-w16", Task.STYLE_TRUNK, "identity", 16, module_digest(trunk), norm_size=IDENTITY_NORMS
    )  # fmt: skip
    example = (torch.rand(2, 3, 48, 64), torch.rand(2, IDENTITY_NORMS))
    export_archive(trunk, card, {"forward": example}, folder / "trunk-w16.pt")
    for name in STYLES:
        style = ModelCard(
            name, Task.STYLE, card.architecture, card.width, "", norm_size=IDENTITY_NORMS, trunk_digest=card.digest
        )
        export_style(torch.zeros(IDENTITY_NORMS), style, folder / f"{name}.safetensors")
    return folder


def _read(path: Path) -> Trunk:
    return Trunk(path, read_archive(path))

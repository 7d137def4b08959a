"""Starts a wider trunk from a trained narrower one that paints the same pictures (Net2WiderNet, Chen et al. 2016).

Every channel is copied and the weights that read the copies share the old weight, so nothing changes at first. The
shares are unequal: copies would otherwise get equal gradients and stay copies for ever. Because shares of one weight
sum to it, the picture stays the same whatever they are; noise on the weights themselves would change it.
"""

from pathlib import Path

import torch
from torch import Tensor

from models.style_net import ConvNorm, EnlargingConvNorm, StyleTrunk
from training.errors import ConfigError

UNEVENNESS = 0.5
"""Standard deviation of the shares' differences, in units of the standard deviation of even shares. At 1 the wide
weights would spread as those of a network that was wide from the start."""


def widen_trunk(trunk: StyleTrunk, width: int, seed: int = 0, unevenness: float = UNEVENNESS) -> StyleTrunk:
    """A trunk of `width` that paints what `trunk` paints, given vectors from `widen_norms`.

    Raises `ConfigError` unless `width` is a multiple of the trunk's.
    """
    count_copies(trunk, width)
    random = torch.Generator().manual_seed(seed)
    wide = StyleTrunk(width, trunk.residual_blocks)
    with torch.no_grad():
        for old, new in zip(trunk.parameters(), wide.parameters(), strict=True):
            new.copy_(_widen_weight(old, new.shape, unevenness, random) if old.ndim == 4 else old)
    return wide


def widen_norms(trunk: StyleTrunk, norms_SP: Tensor, width: int) -> Tensor:
    """Vectors (S, P) of styles on `trunk` as vectors of the trunk from `widen_trunk`.

    Raises `ConfigError` unless `width` is a multiple of the trunk's.
    """
    copies = count_copies(trunk, width)
    channels = [module.channels for module in trunk.modules() if isinstance(module, ConvNorm)]
    # A scale, then a shift for every channel of every layer, as `NormCursor` takes them.
    *parts, mixes_SM = torch.split(
        norms_SP, [*(count for count in channels for _ in range(2)), trunk.norm_size - 2 * sum(channels)], dim=1
    )
    return torch.cat([*(part_SC.repeat(1, copies) for part_SC in parts), *_widen_mixes(trunk, mixes_SM, copies)], dim=1)


def _widen_mixes(trunk: StyleTrunk, mixes_SM: Tensor, copies: int) -> list[Tensor]:
    """What enlargements take for `mix_channels`: sums over copies, whose weights are times the root of their number."""
    channels = [layer.in_channels for layer in trunk.up if isinstance(layer, EnlargingConvNorm)]
    parts = torch.split(mixes_SM, [count**2 for count in channels], dim=1)
    return [
        (torch.unflatten(part_SM, 1, (count, count)).repeat(1, copies, copies) * copies**-0.5).flatten(1)
        for part_SM, count in zip(parts, channels, strict=True)
    ]


def count_copies(trunk: StyleTrunk, width: int) -> int:
    """How many channels of the wide trunk stand for one. Raises `ConfigError`."""
    if width % trunk.width or width == trunk.width:
        raise ConfigError(f"A trunk of width {trunk.width} cannot be widened to {width}: choose a multiple of it.")
    return width // trunk.width


def find_narrower(zoo: Path, width: int) -> Path:
    """The widest gallery trunk of a zoo from which one of `width` can start. Raises `ConfigError`."""
    for narrow in range(width // 2, 0, -1):
        path = zoo / f"trunk-w{narrow}.pt"
        if width % narrow == 0 and path.exists():
            return path
    raise ConfigError(f"{zoo} holds no trunk that can be widened to {width}, such as trunk-w{width // 2}.pt.")


def _widen_weight(weight_OIHW: Tensor, shape: torch.Size, unevenness: float, random: torch.Generator) -> Tensor:
    """Where `shape` has as many channels as before, these are a picture's, and are not copied."""
    writes, reads = shape[0] // weight_OIHW.shape[0], shape[1] // weight_OIHW.shape[1]
    wide_OIHW = weight_OIHW.repeat(writes, reads, 1, 1) / reads
    shares_ORIHW = torch.randn((shape[0], reads, *weight_OIHW.shape[1:]), generator=random)
    # One copy's surplus is the others' lack.
    uneven_OIHW = (shares_ORIHW - shares_ORIHW.mean(dim=1, keepdim=True)).reshape(shape)
    return wide_OIHW + unevenness * wide_OIHW.std() * uneven_OIHW

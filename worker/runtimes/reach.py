"""How far a network sees: how many pixels around a tile it must be shown as well."""

import torch
from torch import Tensor

from models.card import Task
from worker.archive import Archive
from worker.runtimes.methods import Method

_SIDES = (64, 160, 256)
"""Px of the inputs that are tried. A network that sees farther than the last is not cut into tiles."""
_CENTER = 8
"""Px of the square whose dependencies are looked at: all phases of two halvings or of enlarging 8 times."""


def measure_reach(archive: Archive, method: Method) -> int | None:
    """Px of its input from a place of a method's result to the farthest that changes it.

    Measured, not calculated: it is where the gradient of some values reaches. None if that is the input's border.
    """
    if not hasattr(archive.module, method.name_in_archive(0)):
        return None
    for side in _SIDES:
        reach = _reach_within(archive, method, side)
        if reach is not None:
            return reach
    return None


def _reach_within(archive: Archive, method: Method, side: int) -> int | None:
    generator = torch.Generator().manual_seed(0)
    channels = _channels(method, archive.card.width)
    input_1CHW = torch.rand(1, channels, side, side, generator=generator).requires_grad_()
    result_1CHW = _run(archive, method, input_1CHW, generator)
    start, stop = (side - _CENTER) // 2, (side + _CENTER) // 2
    center = slice(start * result_1CHW.shape[2] // side, stop * result_1CHW.shape[2] // side)
    looked_at = result_1CHW[:, :, center, center]
    weights = torch.rand(looked_at.shape, generator=generator)
    (gradient_1CHW,) = torch.autograd.grad((looked_at * weights).sum(), input_1CHW)
    touched = gradient_1CHW[0].abs().sum(dim=0).nonzero()
    if not len(touched):
        return None
    first, last = int(touched.min()), int(touched.max())
    return None if first == 0 or last == side - 1 else max(start - first, last - (stop - 1))


def _channels(method: Method, width: int) -> int:
    """Of a method's first input."""
    if method in (Method.FORWARD, Method.DOWN_SECOND):
        return 3
    return 2 * width if method in (Method.DOWN_THIRD, Method.UP_END) else 4 * width


def _run(archive: Archive, method: Method, input_1CHW: Tensor, generator: torch.Generator) -> Tensor:
    run = getattr(archive.module, method.name_in_archive(0))
    if archive.card.task is not Task.STYLE_TRUNK or method is Method.BLOCK_FIRST:
        return run(input_1CHW)  # type: ignore[no-any-return]
    # Small numbers, lest the sigmoid be flat; positive shifts, lest the ReLUs be closed.
    norm_1P = 0.1 * torch.rand(1, archive.card.norm_size or 0, generator=generator) + 0.05
    if method in (Method.FORWARD, Method.UP_BEGIN):
        return run(input_1CHW, norm_1P)  # type: ignore[no-any-return]
    statistics_2C = torch.rand(2, norm_1P.shape[1] // 2, generator=generator) + 0.5
    if method is not Method.UP_END:
        return run(input_1CHW, norm_1P, statistics_2C)  # type: ignore[no-any-return]
    photo_1CHW = torch.zeros(1, 3, 2 * input_1CHW.shape[2], 2 * input_1CHW.shape[3])
    return run(input_1CHW, photo_1CHW, norm_1P, statistics_2C)  # type: ignore[no-any-return]

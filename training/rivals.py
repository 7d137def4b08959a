"""Direct optimisation of the pixels, for comparison: kept on disk, as it takes minutes and no trunk changes it."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from models.card import weights_digest
from training.checkpoint import write_whole
from training.export import to_bytes
from training.optimize import Objective, optimize_pixels

Curve = list[float]
"""Objective before the first iteration, after the first, and so on."""

STARTS: dict[str, Callable[[Tensor], Tensor]] = {"noise": torch.rand_like, "photo": torch.clone}
"""Where direct optimisation begins: at noise as in the paper, or at the photo, which is the harder rival."""

TIMED_ITERATIONS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rivals:
    """Runs direct optimisation, or takes what an earlier evaluation left."""

    folder: Path
    """Where curves are kept, a file each."""
    iterations: int
    deadline: float
    """`time.monotonic()` after which no further one is started."""

    def curve(self, objective: Objective, style_3HW: Tensor, content_BCHW: Tensor, start: str) -> Curve | None:
        """The curve of one photo (1, 3, H, W) from a key of `STARTS`.

        A kept one may be longer than `iterations`, and after the deadline shorter; none if there is none by then.
        Raises `CheckpointError` when the folder cannot be written.
        """
        path = self.folder / f"{rival_key(objective, style_3HW, content_BCHW, start)}.json"
        kept = read_curve(path)
        if len(kept) > self.iterations or time.monotonic() > self.deadline:
            return kept or None
        torch.manual_seed(0)
        begin_BCHW = STARTS[start](content_BCHW)
        curve = [value for value, _ in optimize_pixels(objective, content_BCHW, begin_BCHW, self.iterations)]
        log.info("From %s at %d px: %.2f after %d.", start, content_BCHW.shape[-1], curve[-1], self.iterations)
        keep_curve(path, curve)
        return curve


def rival_key(objective: Objective, style_3HW: Tensor, content_BCHW: Tensor, start: str) -> str:
    """A name for everything that decides a curve."""
    digest = hashlib.sha256()
    network = weights_digest((name, to_bytes(value)) for name, value in objective.network.state_dict().items())
    digest.update(f"{network} {objective.style_weight} {start}".encode())
    for picture in (style_3HW, content_BCHW):
        digest.update(f" {tuple(picture.shape)} ".encode() + to_bytes(picture))
    return digest.hexdigest()[:24]


def read_curve(path: Path) -> Curve:
    """A kept curve; empty if there is none, or none that can be read."""
    try:
        return [float(value) for value in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def keep_curve(path: Path, curve: Curve) -> None:
    """Writes a curve, whole or not at all. Raises `CheckpointError`."""

    def write(temporary: Path) -> None:
        temporary.write_text(json.dumps(curve))

    write_whole(path, write)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean objective of several rivals after each iteration, as far as the shortest goes."""
    return [fmean(values) for values in zip(*curves, strict=False)]


def seconds_per_iteration(objective: Objective, content_BCHW: Tensor) -> float:
    """The fastest of some iterations; the first one only warms up."""
    # What is yielded last has cost no iteration: it says where the one before it has led.
    marks = [time.perf_counter() for _ in optimize_pixels(objective, content_BCHW, content_BCHW, TIMED_ITERATIONS)][:-1]
    return min(after - before for before, after in pairwise(marks))

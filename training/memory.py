"""What to say when a step does not fit into a device's memory."""

from collections.abc import Callable

import torch
from torch import Tensor

from training.errors import DeviceMemoryError


def largest_fitting(attempt: Callable[[int], object], batch: int) -> int:
    """The largest of `batch` / 2, / 4, ... with which `attempt` does not run out of memory; 0 if none."""
    while batch > 1:
        batch //= 2
        torch.cuda.empty_cache()
        try:
            attempt(batch)
        except torch.OutOfMemoryError:
            continue
        return batch
    return 0


def memory_error(pictures_BCHW: Tensor, attempt: Callable[[int], object] | None) -> DeviceMemoryError:
    """A sentence that says which batch fits, found by `attempt`, which runs a step with that many pictures.

    Without it, the sentence says what to try.
    """
    batch, _, size, _ = pictures_BCHW.shape
    fitting = largest_fitting(attempt, batch) if attempt else 0
    if fitting:
        way_out = f"a batch of {fitting} fits"
    elif attempt or batch == 1:
        way_out = f"try pictures of {max(size // 2, 32)} px"
    else:
        way_out = "try half of the batch"
    return DeviceMemoryError(
        f"{batch} pictures of {size} px do not fit into the memory of {pictures_BCHW.device}: {way_out}. "
        "Say so with --stages STEPSxBATCH@SIZE; with --resume, leave the stages that are done as they were."
    )

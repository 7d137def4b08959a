"""What is done to every picture of a run: painting in a style, or enlarging."""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

from worker.arrays import Norms, Pixels
from worker.catalog import Catalog, LoadedTrunk, LoadedUpscaler
from worker.codec import Picture
from worker.compose import compose, with_alpha_of
from worker.contract import MIN_SIDE, ErrorCode, PictureFormat, StyleJob
from worker.engine import EngineTask, EnlargeTask, PaintTask
from worker.errors import JobError, ZooError


class Recipe(Protocol):
    """Turns a decoded photo into what the engine computes, and that into the picture to be written."""

    @property
    def size(self) -> int | None:
        """Longest side in px to reduce the photo to first; none keeps its size."""
        ...

    def measure(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in px of what becomes of a photo of that size."""
        ...

    def task(self, photo: Picture) -> EngineTask:
        """What the engine is to compute."""
        ...

    def finish(self, photo: Picture, pixels_HWC: Pixels) -> Picture:
        """The picture to be written, given what the engine computed."""
        ...


@dataclass(frozen=True)
class StyleChoice:
    """How pictures are to be painted."""

    styles: dict[str, float]
    """Style names and their weights, which sum to 1."""
    strength: float = 1.0
    preserve_color: bool = False
    size: int | None = None


class StyleRecipe:
    """Paints in a style or a blend."""

    def __init__(self, catalog: Catalog, choice: StyleChoice) -> None:
        """Raises `JobError` for a style that is not in the catalog, naming near ones.

        Raises `ZooError` where the zoo is to blame: it holds none, or refuses the style's file.
        """
        for name in choice.styles:
            _check_style(name, catalog)
        self._choice = choice
        self._trunk, self._norm_P = _blend(catalog, choice)

    @property
    def size(self) -> int | None:
        """See `Recipe.size`."""
        return self._choice.size

    def measure(self, width: int, height: int) -> tuple[int, int]:
        """See `Recipe.measure`."""
        if self.size is None or self.size >= max(width, height):
            return width, height
        scale = self.size / max(width, height)
        return max(round(width * scale), MIN_SIDE), max(round(height * scale), MIN_SIDE)

    def task(self, photo: Picture) -> PaintTask:
        """See `Recipe.task`."""
        return PaintTask(photo.pixels_HWC, self._trunk, self._norm_P)

    def finish(self, photo: Picture, pixels_HWC: Pixels) -> Picture:
        """See `Recipe.finish`."""
        return compose(photo, pixels_HWC, self._choice.strength, self._choice.preserve_color)


class UpscaleRecipe:
    """Enlarges."""

    size = None

    def __init__(self, catalog: Catalog, factor: int) -> None:
        """Raises `JobError` for a factor that is not in the catalog, naming those that are; `ZooError` without any."""
        self._upscaler = _find_upscaler(catalog, factor)

    def measure(self, width: int, height: int) -> tuple[int, int]:
        """See `Recipe.measure`."""
        return width * self._upscaler.factor, height * self._upscaler.factor

    def task(self, photo: Picture) -> EnlargeTask:
        """See `Recipe.task`."""
        return EnlargeTask(photo.pixels_HWC, self._upscaler)

    def finish(self, photo: Picture, pixels_HWC: Pixels) -> Picture:
        """See `Recipe.finish`."""
        return with_alpha_of(photo, pixels_HWC)


def _blend(catalog: Catalog, choice: StyleChoice) -> tuple[LoadedTrunk, Norms]:
    job = StyleJob(
        id="", reply_to="", submitted_at=0.0, deadline=math.inf, result_ttl_s=0,
        format=PictureFormat.PNG, quality=100, styles=choice.styles,
    )  # fmt: skip
    trunk, norm_P, _ = catalog.blend(job)
    return trunk, norm_P


def _check_style(name: str, catalog: Catalog) -> None:
    if name in catalog.styles:
        return
    unknown = f"There is no style {name[:64]!r}"
    if not catalog.styles:
        raise ZooError(f"{unknown}; the zoo holds none.{_refused(name, catalog)}")
    near = get_close_matches(name.lower(), catalog.styles)
    hint = f"did you mean {' or '.join(near)}?" if near else "`impasto styles` lists those there are."
    if refused := _refused(name, catalog):
        raise ZooError(f"{unknown}; {hint}{refused}")
    raise JobError(ErrorCode.UNKNOWN_STYLE, f"{unknown}; {hint}")


def _refused(name: str, catalog: Catalog) -> str:
    about = [str(refusal) for refusal in catalog.refused if str(refusal).startswith(f"{name}.")]
    return "".join(f" {refusal}" for refusal in about)


def _find_upscaler(catalog: Catalog, factor: int) -> LoadedUpscaler:
    if factor in catalog.upscalers:
        return catalog.upscalers[factor]
    unknown = f"Nothing here enlarges {factor} times"
    if not catalog.upscalers:
        raise ZooError(f"{unknown}; the zoo holds no upscaler.")
    there = ", ".join(map(str, catalog.upscalers))
    raise JobError(ErrorCode.UNKNOWN_FACTOR, f"{unknown}; there are {there}.")

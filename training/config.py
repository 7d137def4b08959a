"""Settings of a training run, as plain values that go into checkpoints and cards."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one picture size."""

    steps: int
    batch: int
    size: int
    """Height and width in px of the square pictures (of the high-resolution patch, for upscalers)."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.size < 32:
            raise ConfigError(f"{self} makes no sense: steps and batch must be at least 1, size at least 32 px.")

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """Reads `STEPSxBATCH@SIZE`, for example `3000x6@128`."""
        try:
            steps, rest = text.split("x")
            batch, size = rest.split("@")
            return cls(int(steps), int(batch), int(size))
        except ValueError as error:
            raise ConfigError(f"Cannot read the stage {text!r}: write STEPSxBATCH@SIZE, as in 3000x6@128.") from error


@dataclass(frozen=True)
class Schedule:
    """Stages in order; the learning rate is constant for the first half and falls to zero as a cosine."""

    stages: tuple[Stage, ...]
    learning_rate: float = 1e-3
    seed: int = 0

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def samples_before(self, step: int) -> int:
        """The number of pictures seen in the first `step` steps."""
        seen = 0
        for stage in self.stages:
            seen += min(stage.steps, step) * stage.batch
            step = max(step - stage.steps, 0)
        return seen


@dataclass(frozen=True)
class StyleWeights:
    """Weights of the parts of the style objective. Single styles of a gallery may have other ones."""

    content: float = 1.0
    style: float = 1e5
    total_variation: float = 1.0

    def __post_init__(self) -> None:
        _check_numbers("the weights", vars(self))


@dataclass(frozen=True)
class UpscaleWeights:
    """Weights of the parts of the super-resolution objective."""

    pixel: float = 0.1
    feature: float = 1.0
    texture: float = 2.0
    color: float = 200.0
    """Enough that no grid is left. At 30 there was one, with 10 to 13 dB more power than photos have (4 times)."""
    adversarial: float = 0.2
    """Of a discriminator's verdict; 0 trains without one."""
    repetition: float = 250.0
    """Of strokes that repeat from input to input: at this weight about as much of the sum as each of the others."""

    @property
    def compares_features(self) -> bool:
        """Whether the loss network is needed; without it there is the per-pixel loss alone."""
        return bool(self.feature or self.texture)

    @property
    def judged(self) -> bool:
        """Whether a discriminator learns beside the upscaler."""
        return bool(self.adversarial and self.compares_features)


@dataclass(frozen=True)
class StyleSource:
    """A style image and what is known of where it comes from; the card of the style repeats it."""

    name: str
    path: str
    title: str = ""
    artist: str = ""
    year: str = ""
    terms: str = ""
    style_weight: float | None = None
    """Replaces `StyleWeights.style` for this style."""
    tv_weight: float | None = None
    """Replaces `StyleWeights.total_variation` for this style: more of it where flat areas fill with dots."""

    def __post_init__(self) -> None:
        owner = f"the style {self.name!r}"
        _check_texts(owner, {"name": self.name, **self._origin()})
        weights = {"style_weight": self.style_weight, "tv_weight": self.tv_weight}
        _check_numbers(owner, {key: weight for key, weight in weights.items() if weight is not None})

    def card_source(self) -> dict[str, str]:
        """The parts that are known, for a card."""
        return {key: value for key, value in self._origin().items() if value}

    def _origin(self) -> dict[str, str]:
        return {"title": self.title, "artist": self.artist, "year": self.year, "terms": self.terms}


@dataclass(frozen=True)
class Gallery:
    """Everything a gallery run needs besides photos and loss weights."""

    width: int
    styles: tuple[StyleSource, ...]
    schedule: Schedule
    weights: StyleWeights = field(default_factory=StyleWeights)

    def __post_init__(self) -> None:
        names = [source.name for source in self.styles]
        if not names:
            raise ConfigError("The gallery holds no style: a [[style]] with name and image makes one.")
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ConfigError(
                f"The gallery holds several styles called {', '.join(sorted(repeated))}: name them apart."
            )


def _check_texts(owner: str, values: Mapping[str, object]) -> None:
    """Raises `ConfigError` for the first that no card could hold."""
    for key, value in values.items():
        if not isinstance(value, str):
            raise ConfigError(f"The {key} of {owner} is {value!r}, which is no text: write it in quotes.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"The {key} of {owner} is {value!r}, which cannot be written as UTF-8.") from error


def _check_numbers(owner: str, values: Mapping[str, object]) -> None:
    """Raises `ConfigError` for the first that is no number, as true and false are none."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"The {key} of {owner} is {value!r}, which is no number.")


_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `90s`, `30m` or `2h`. Raises `ValueError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        raise ValueError(f"{text!r} is no duration: write 90s, 30m or 2h")
    return float(found[1]) * _UNITS_S[found[2]]


def read_gallery(path: Path, styles_folder: Path) -> Gallery:
    """Reads a gallery's settings; the style images are in `styles_folder`. Raises `ConfigError`."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        return Gallery(
            width=_read_whole(settings, "width"),
            styles=tuple(_read_source(entry, styles_folder) for entry in settings["style"]),
            schedule=_read_schedule(settings["schedule"]),
            weights=StyleWeights(**settings["weights"]),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"Cannot read the gallery {path}: {error!r}.") from error


def _read_schedule(settings: dict[str, Any]) -> Schedule:
    _check_texts("the schedule", {f"stage {number}": text for number, text in enumerate(settings["stages"], 1)})
    _check_numbers("the schedule", {"learning_rate": settings["learning_rate"]})
    stages = tuple(Stage.parse(text) for text in settings["stages"])
    return Schedule(stages, settings["learning_rate"], _read_whole(settings, "seed"))


def _read_source(entry: dict[str, Any], styles_folder: Path) -> StyleSource:
    fields = dict(entry)
    image = fields.pop("image")
    _check_texts("a style", {"image": image})
    return StyleSource(path=str(styles_folder / image), **fields)


def _read_whole(settings: dict[str, Any], key: str) -> int:
    value = settings[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"The {key} of the gallery is {value!r}, which is no whole number.")
    return value

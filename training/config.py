"""Settings of a training run, as plain values that go into checkpoints and cards."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

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

    def card_source(self) -> dict[str, str]:
        """The parts that are known, for a card."""
        parts = {"title": self.title, "artist": self.artist, "year": self.year, "terms": self.terms}
        return {key: value for key, value in parts.items() if value}


@dataclass(frozen=True)
class Gallery:
    """Everything a gallery run needs besides photos and loss weights."""

    width: int
    styles: tuple[StyleSource, ...]
    schedule: Schedule
    weights: StyleWeights = field(default_factory=StyleWeights)


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
        settings = tomllib.loads(path.read_text())
        schedule = settings["schedule"]
        return Gallery(
            width=settings["width"],
            styles=tuple(_read_source(entry, styles_folder) for entry in settings["style"]),
            schedule=Schedule(
                tuple(Stage.parse(text) for text in schedule["stages"]), schedule["learning_rate"], schedule["seed"]
            ),
            weights=StyleWeights(**settings["weights"]),
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"Cannot read the gallery {path}: {error!r}.") from error


def _read_source(entry: dict[str, str], styles_folder: Path) -> StyleSource:
    fields = dict(entry)
    return StyleSource(path=str(styles_folder / fields.pop("image")), **fields)  # type: ignore[arg-type]

"""The card that every checkpoint carries: what it is, how it was made, and how to tell that it is whole."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

CARD_FILE = "card.json"
"""Name of the card among a TorchScript archive's `_extra_files`, and its key in safetensors metadata."""

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""What UTF-8 cannot say. JSON can, and so can a command line that is no UTF-8."""


class Task(StrEnum):
    """What a checkpoint is for."""

    STYLE_TRUNK = "style_trunk"
    """The network that paints, without any style."""
    STYLE = "style"
    """One style: a vector for a trunk."""
    UPSCALE = "upscale"
    """An upscaler of one factor."""


class CardError(ValueError):
    """A card is missing, unreadable or contradicts itself."""


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint is. Kept inside the checkpoint, so that loading needs no flags."""

    name: str
    task: Task
    architecture: str
    width: int
    digest: str
    """SHA-256 of the weights (`weights_digest`), hexadecimal."""
    factor: int | None = None
    """How many times an upscaler enlarges."""
    norm_size: int | None = None
    """P, the length of a style's vector (trunks and styles)."""
    trunk_digest: str | None = None
    """`digest` of the trunk that a style belongs to."""
    training: dict[str, Any] = field(default_factory=dict)
    """The run's settings, steps and duration."""
    quality: dict[str, float] = field(default_factory=dict)
    """What was measured of the result."""
    source: dict[str, str] = field(default_factory=dict)
    """Title, artist, year and terms of a style's image."""

    def __post_init__(self) -> None:
        self._check_types()
        if not NAME_PATTERN.fullmatch(self.name):
            raise CardError(f"The name {self.name!r} is not 1 to 64 lower-case letters, digits, '-' and '_'.")
        missing = {
            Task.STYLE_TRUNK: self.norm_size is None,
            Task.STYLE: self.norm_size is None or self.trunk_digest is None,
            Task.UPSCALE: self.factor is None,
        }
        if missing[self.task]:
            raise CardError(f"The card of {self.name!r} lacks a field that a {self.task} needs.")
        if not _holds_texts(self.source):
            # One such style would otherwise cost a service's clients the whole list of styles.
            raise CardError(f"The source in the card of {self.name!r} is not made of texts.")

    def _check_types(self) -> None:
        """JSON holds anything; what the fields are used for, from dictionary keys to sizes of arrays, does not."""
        for name in ("name", "architecture", "digest", "trunk_digest"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (name == "trunk_digest" and value is None):
                raise CardError(f"The {name} in the card of {self.name!r} is no text.")
        for name in ("width", "factor", "norm_size"):
            value = getattr(self, name)
            if value is None and name != "width":
                continue
            if type(value) is not int or value < 1:
                raise CardError(f"The {name} in the card of {self.name!r} is no whole number of at least 1.")

    @property
    def kind(self) -> str:
        """Equal for networks that differ in their weights alone, which are as fast and take as much memory."""
        return f"{self.task} {self.architecture} {self.width} {self.factor}"

    def to_json(self) -> str:
        """The card as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "ModelCard":
        """Reads a card, passing over fields it does not know (a newer version's). Raises `CardError`."""
        try:
            fields = json.loads(text)
            known = {key: fields[key] for key in fields if key in cls.__dataclass_fields__}
            return cls(**{**known, "task": Task(known["task"])})
        except CardError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise CardError(f"The card cannot be read: {error!r}.") from error

    def verify(self, weights: Mapping[str, bytes]) -> None:
        """Raises `CardError` unless `weights` are those the card was written for."""
        if weights_digest(weights.items()) != self.digest:
            raise CardError(f"The weights of {self.name!r} are not those its card was written for (digest mismatch).")


def _holds_texts(source: object) -> bool:
    """Whether it is a mapping of texts to texts that UTF-8 can say."""
    if not isinstance(source, Mapping):
        return False
    return all(isinstance(text, str) and not _LONE_SURROGATE.search(text) for pair in source.items() for text in pair)


def weights_digest(weights: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 over names and little-endian bytes of weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, content in sorted(weights):
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()

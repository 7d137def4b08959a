"""The query parameters of the picture routes, as values that are right once they exist."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from worker.contract import MIN_SIDE, PictureFormat

FACTORS = (2, 4, 8)
MAX_BLENDED = 16
"""Styles that one picture may blend."""


def parse_blend(text: str) -> dict[str, float]:
    """Reads `candy` or `candy:0.7,wave:0.3`.

    Weights are normalised to sum 1; a style without one weighs 1; one that weighs 0 is left out.
    Raises `ValueError` with a sentence.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, weight = _parse_part(part)
        weights[name] = weights.get(name, 0.0) + weight
    if len(weights) > MAX_BLENDED:
        raise ValueError(f"at most {MAX_BLENDED} styles can be blended")
    total = sum(weights.values())
    if not 0 < total < math.inf:
        raise ValueError("the weights must sum to more than 0")
    return {name: weight / total for name, weight in weights.items() if weight > 0}


def _parse_part(part: str) -> tuple[str, float]:
    name, colon, number = (piece.strip() for piece in part.partition(":"))
    if not name:
        raise ValueError("write a style as `candy`, or a blend as `candy:0.7,wave:0.3`")
    try:
        weight = float(number) if colon else 1.0
    except ValueError:
        raise ValueError(f"the weight {number[:32]!r} of {name[:64]!r} is not a number") from None
    if not 0 <= weight < math.inf:
        raise ValueError(f"the weight of {name[:64]!r} must be 0 or more")
    return name, weight


def _check_blend(text: str) -> str:
    parse_blend(text)
    return text


def _check_factor(factor: int) -> int:
    if factor not in FACTORS:
        raise ValueError(f"it must be {', '.join(map(str, FACTORS[:-1]))} or {FACTORS[-1]}")
    return factor


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class OutputParameters(BaseModel):
    """How the picture is to be written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[Literal["jpeg", "jpg", "png", "webp", "avif"] | None, BeforeValidator(_lower)] = Field(
        None,
        description="File format of the answer; without it `Accept` decides, then the upload's own.",
        examples=[None],
    )
    quality: int | None = Field(
        None, ge=1, le=100, description="1 to 100, for JPEG (90), WebP (85) and AVIF (70).", examples=[None]
    )

    @property
    def picture_format(self) -> PictureFormat | None:
        """The format asked for, if any."""
        if self.format is None:
            return None
        return PictureFormat.JPEG if self.format == "jpg" else PictureFormat(self.format)


class StylizeParameters(OutputParameters):
    """How a picture is to be painted."""

    style: Annotated[str, AfterValidator(_check_blend)] = Field(
        min_length=1,
        max_length=1024,
        description="A style of GET /styles, or a blend of several with weights: `candy:0.7,wave:0.3`.",
        examples=["candy"],
    )
    strength: float = Field(1.0, ge=0, le=1, description="0 gives the photo, 1 the painting, between them a mix.")
    preserve_color: bool = Field(False, description="Keep the photo's colours; take only the painting's brightness.")
    size: int | None = Field(
        None,
        ge=MIN_SIDE,
        le=65535,
        description="Longest side in px to reduce the photo to before painting; none keeps its size.",
        examples=[None],
    )

    @property
    def styles(self) -> dict[str, float]:
        """Style names and their weights, which sum to 1."""
        return parse_blend(self.style)


class UpscaleParameters(OutputParameters):
    """How a picture is to be enlarged."""

    factor: Annotated[int, AfterValidator(_check_factor)] = Field(
        description="How many times wider and higher: 2, 4 or 8.",
        examples=[4],
        json_schema_extra={"enum": list(FACTORS)},
    )

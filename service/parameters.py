"""The query parameters of the picture routes, as values that are right once they exist."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from worker.contract import MIN_SIDE, PictureFormat, parse_blend

FACTORS = (2, 4, 8)


def _check_blend(text: str) -> str:
    parse_blend(text)
    return text


def _check_factor(factor: int) -> int:
    if factor not in FACTORS:
        raise ValueError(f"it must be {', '.join(map(str, FACTORS[:-1]))} or {FACTORS[-1]}")
    return factor


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _absent_if_empty(value: Any) -> Any:
    """HTML forms and some clients send what is not given as `name=`."""
    return None if value == "" else value


class OutputParameters(BaseModel):
    """How the picture is to be written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[
        Literal["jpeg", "jpg", "png", "webp", "avif"] | SkipJsonSchema[None],
        BeforeValidator(_lower),
        BeforeValidator(_absent_if_empty),
    ] = Field(None, description="File format of the answer; without it `Accept` decides, then the upload's own.")
    quality: Annotated[
        Annotated[int, Field(ge=1, le=100)] | SkipJsonSchema[None], BeforeValidator(_absent_if_empty)
    ] = Field(None, description="1 to 100, for JPEG (90), WebP (85) and AVIF (70).")

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
    size: Annotated[
        Annotated[int, Field(ge=MIN_SIDE, le=65535)] | SkipJsonSchema[None], BeforeValidator(_absent_if_empty)
    ] = Field(None, description="Longest side in px to reduce the photo to before painting; none keeps its size.")

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

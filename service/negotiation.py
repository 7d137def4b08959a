"""Which format a picture is answered in: `format=`, else `Accept`, else the upload's own."""

from dataclasses import dataclass

from service.problems import BadParameter
from service.uploads import InputFormat, Upload
from worker.contract import PictureFormat


@dataclass(frozen=True)
class MediaRange:
    """One entry of an `Accept` header."""

    type: str
    """Such as `image/webp`, `image/*` or `*/*`; lower case."""
    q: float
    """0 to 1; 0 means not acceptable."""


def choose_format(asked: PictureFormat | None, accept: str, upload: Upload) -> PictureFormat:
    """The output format. `accept` is the value of the `Accept` header, which may be empty or malformed."""
    if asked is not None:
        return asked
    default = default_format(upload)
    ranges = parse_accept(accept)
    # A browser's navigation names AVIF and WebP for pages it loads, not for pictures a person saves.
    if any(entry.type == "text/html" for entry in ranges):
        return default
    weights = {candidate: _weight(candidate, ranges) for candidate in (default, *PictureFormat)}
    best = max(weights, key=lambda candidate: weights[candidate])
    return best if weights[best] > 0 else default


def default_format(upload: Upload) -> PictureFormat:
    """The upload's own format, or the nearest one that is written."""
    if upload.format is InputFormat.HEIF:
        return PictureFormat.PNG if upload.has_alpha else PictureFormat.JPEG
    if upload.format.value in list(PictureFormat):
        return PictureFormat(upload.format.value)
    return PictureFormat.PNG


def check_sides(width: int, height: int, picture_format: PictureFormat) -> None:
    """Raises `BadParameter` where the file format cannot hold so long a side, in px."""
    limit = picture_format.max_side
    if limit is not None and max(width, height) > limit:
        name = picture_format.upper()
        raise BadParameter(f"{name} holds at most {limit} px a side, not {width} x {height}; ask for format=png.")


def parse_accept(header: str) -> list[MediaRange]:
    """The header's entries; malformed ones are left out."""
    entries = (_parse_range(part) for part in header.lower().split(","))
    return [entry for entry in entries if entry is not None]


def _parse_range(part: str) -> MediaRange | None:
    media_type, *parameters = (piece.strip() for piece in part.split(";"))
    if "/" not in media_type:
        return None
    q = next((value[2:] for value in parameters if value.startswith("q=")), "1")
    try:
        return MediaRange(media_type, min(max(float(q), 0.0), 1.0))
    except ValueError:
        return None


def _weight(candidate: PictureFormat, ranges: list[MediaRange]) -> float:
    weights = {entry.type: entry.q for entry in ranges}
    for media_type in (candidate.media_type, "image/*", "*/*"):
        if media_type in weights:
            return weights[media_type]
    return 0.0

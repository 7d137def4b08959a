"""What the service and the workers agree on: jobs, results, events, and every Redis key. Standard library only."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

QUEUE = "impasto"
"""Name of the RQ queue of jobs that somebody waits for."""
BULK_QUEUE = "impasto-bulk"
"""Name of the RQ queue of jobs that are asked for with `Prefer: respond-async`."""

STYLIZE_TASK = "impasto.stylize"
UPSCALE_TASK = "impasto.upscale"
"""Names under which jobs are enqueued. They are names, not import paths: only `worker.consumer` runs them."""

HEARTBEAT_S = 5.0
"""Seconds between two reports of a worker."""
WORKER_TTL_S = 15
"""Seconds without a report after which a worker counts as gone."""

MIN_SIDE = 16
"""Shortest side in px that the networks take."""
MAX_BLENDED = 16
"""Styles that one picture may blend."""


class PictureFormat(StrEnum):
    """File formats that the workers write."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"

    @property
    def media_type(self) -> str:
        """The format's media type, as in `Content-Type`."""
        return f"image/{self.value}"

    @property
    def ending(self) -> str:
        """What the names of its files end in, with the dot."""
        return ".jpg" if self is PictureFormat.JPEG else f".{self.value}"

    @property
    def default_quality(self) -> int:
        """1 to 100, where nobody asks for another. PNG loses nothing at any."""
        return {PictureFormat.JPEG: 90, PictureFormat.WEBP: 85, PictureFormat.AVIF: 70}.get(self, 100)

    @property
    def max_side(self) -> int | None:
        """Longest side in px that its files can hold, if there is a limit."""
        return {PictureFormat.JPEG: 65500, PictureFormat.WEBP: 16383, PictureFormat.AVIF: 65535}.get(self)


class Lane(StrEnum):
    """Which of the queues a job waits in."""

    INTERACTIVE = "interactive"
    """Somebody waits for the answer."""
    BULK = "bulk"
    """The answer is fetched later."""

    @property
    def queue(self) -> str:
        """Name of the lane's RQ queue."""
        return BULK_QUEUE if self is Lane.BULK else QUEUE


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    """Accepted, not yet taken by a worker."""
    STARTED = "started"
    """A worker has it."""
    FINISHED = "finished"
    """The picture is ready."""
    FAILED = "failed"
    """There will be no picture; an `ErrorCode` says why."""
    CANCELED = "canceled"
    """The client took it back."""


class ErrorCode(StrEnum):
    """Why a worker could not make a picture."""

    BROKEN_PICTURE = "broken_picture"
    """The file cannot be decoded: truncated or damaged."""
    UNKNOWN_STYLE = "unknown_style"
    """No style of that name is in the worker's zoo."""
    UNKNOWN_FACTOR = "unknown_factor"
    """No upscaler of that factor is in the worker's zoo."""
    TOO_LARGE = "too_large"
    """The device's memory does not hold the picture."""
    DEADLINE = "deadline"
    """The caller's deadline passed before the job was computed."""
    INPUT_LOST = "input_lost"
    """The uploaded bytes expired or were evicted before a worker came to the job."""
    INTERNAL = "internal"
    """A fault of ours; the worker's log has the details."""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        """Those of newer workers are faults too."""
        return cls.INTERNAL


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every job says, whatever its task."""

    id: str
    """32 hexadecimal digits; also RQ's job id."""
    reply_to: str
    """Channel on which the finished job is announced (`events_channel`)."""
    submitted_at: float
    """Seconds since the epoch."""
    deadline: float
    """Seconds since the epoch after which nobody waits for the answer."""
    format: PictureFormat
    quality: int
    """1 to 100, for formats that lose something."""
    result_ttl_s: int
    """How long the result is kept."""
    pixels: int = 0
    """Of the upload, as its header says; 0: unknown. Workers take and decode no more at a time than they can hold."""

    def to_kwargs(self) -> dict[str, Any]:
        """The job as JSON values, for RQ's keyword arguments."""
        return dict(vars(self))

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Self:
        """Reads a job. Raises `TypeError` or `ValueError` for what `to_kwargs` did not write."""
        return cls(**{**kwargs, "format": PictureFormat(kwargs["format"])})


@dataclass(frozen=True, kw_only=True)
class StyleJob(Job):
    """Paint a picture."""

    styles: dict[str, float]
    """Style names and their weights, which sum to 1."""
    strength: float = 1.0
    """0: the photo, 1: the painting, in between: a mix of both."""
    preserve_color: bool = False
    """Keep the photo's colours and take only the painting's brightness."""
    size: int | None = None
    """Longest side in px to reduce the photo to before painting; none keeps its size."""


@dataclass(frozen=True, kw_only=True)
class UpscaleJob(Job):
    """Enlarge a picture."""

    factor: int


def parse_blend(text: str) -> dict[str, float]:
    """Reads the styles of a picture: `candy`, or a blend such as `candy:0.7,wave:0.3`.

    Weights are normalised to sum 1; a style without one weighs 1; one that weighs 0 is left out.
    Raises `ValueError` with a sentence.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, weight = _parse_weight(part)
        weights[name] = weights.get(name, 0.0) + weight
    if len(weights) > MAX_BLENDED:
        raise ValueError(f"at most {MAX_BLENDED} styles can be blended")
    total = sum(weights.values())
    if not 0 < total < math.inf:
        raise ValueError("the weights must sum to a finite number above 0")
    return {name: weight / total for name, weight in weights.items() if weight > 0}


def _parse_weight(part: str) -> tuple[str, float]:
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


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a worker says of a job it has closed; the picture itself lies beside it."""

    status: JobStatus
    error: ErrorCode | None = None
    detail: str = ""
    """A sentence for the client, with an error."""
    width: int = 0
    height: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds in `queue`, `decode`, `infer`, `encode`."""
    model: str = ""
    """Digest of the weights that made the picture."""

    def to_json(self) -> str:
        """The result as JSON text."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads a result, also a newer worker's. Raises `ValueError`, `TypeError` or `KeyError` for what is none."""
        known = _known(cls, json.loads(text))
        error = known["error"]
        return cls(**{**known, "status": JobStatus(known["status"]), "error": ErrorCode(error) if error else None})


@dataclass(frozen=True, kw_only=True)
class StyleInfo:
    """A style that a worker serves."""

    name: str
    digest: str
    title: str = ""
    artist: str = ""
    year: str = ""
    terms: str = ""
    preview: bool = False
    """Whether `preview_key` holds a picture of it."""


@dataclass(frozen=True, kw_only=True)
class UpscalerInfo:
    """An upscaler that a worker serves."""

    name: str
    factor: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """What a live worker says of itself every `HEARTBEAT_S` seconds."""

    name: str
    device: str
    runtime: str
    styles: tuple[StyleInfo, ...]
    upscalers: tuple[UpscalerInfo, ...]

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads a report, also a newer worker's. Raises `ValueError`, `TypeError` or `KeyError` for what is none."""
        known = _known(cls, json.loads(text))
        styles = tuple(StyleInfo(**_known(StyleInfo, style)) for style in known.pop("styles"))
        upscalers = tuple(UpscalerInfo(**_known(UpscalerInfo, upscaler)) for upscaler in known.pop("upscalers"))
        return cls(**known, styles=styles, upscalers=upscalers)


def _known(kind: type, said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of it that this version knows. While a service is updated, its processes are of two versions.

    Of jobs nothing is passed over: a picture painted without regard to a wish would be the wrong one.
    """
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in said.items() if name in names}


RESULT_FIELD = "result"
PICTURE_FIELD = "picture"
"""Fields of the hash under `output_key`."""


def input_key(job_id: str) -> str:
    """String: the uploaded bytes. Expires."""
    return f"impasto:input:{job_id}"


def output_key(job_id: str) -> str:
    """Hash: `RESULT_FIELD` (a `JobResult` as JSON) and, if finished, `PICTURE_FIELD` (bytes). Expires."""
    return f"impasto:output:{job_id}"


def events_channel(service_id: str) -> str:
    """Channel: ids of closed jobs, for the service process that submitted them."""
    return f"impasto:events:{service_id}"


def started_channel() -> str:
    """Channel: ids of jobs that a worker has begun, separated by spaces, one message for each batch."""
    return "impasto:started"


def held_key() -> str:
    """Hash: bytes that each job's upload and picture take up in Redis, by its id."""
    return "impasto:held"


def held_bytes_key() -> str:
    """String: sum of the values under `held_key`."""
    return "impasto:held:bytes"


def weighed_key() -> str:
    """String: exists for a second after everything under `held_key` was measured anew."""
    return "impasto:held:weighed"


def admitted_key() -> str:
    """String: number of jobs ever taken into the queues."""
    return "impasto:admitted"


def rate_key(client: str) -> str:
    """String: when a client's allowance will be full again, in microseconds since the epoch. Expires then."""
    return f"impasto:rate:{client}"


def cache_key(tag: str) -> str:
    """Hash like that under `output_key`, of a picture that may be asked for again. Expires."""
    return f"impasto:cache:{tag}"


def cached_key() -> str:
    """Sorted set: `TAG:BYTES` of the pictures under `cache_key`, by the time at which they expire."""
    return "impasto:cached"


def cached_bytes_key() -> str:
    """String: sum of the bytes named under `cached_key`."""
    return "impasto:cached:bytes"


def workers_key() -> str:
    """Sorted set: names of workers by the time of their last report."""
    return "impasto:workers"


def stuck_key(lane: Lane) -> str:
    """Sorted set: ids in the lane's intermediate list, by when they were first seen there (s since the epoch)."""
    return f"impasto:stuck:{lane}"


def recovery_lock_key() -> str:
    """String: which worker of the pool looks for lost jobs. Expires within seconds, also when that worker dies."""
    return "impasto:recovery"


def looked_key() -> str:
    """String: which worker of the pool looked for lost jobs last. Expires when nobody has looked for seconds."""
    return "impasto:recovery:looked"


def alone_key() -> str:
    """String: which worker of the pool runs jobs that must run alone. Expires within seconds."""
    return "impasto:alone"


def worker_key(name: str) -> str:
    """String: a worker's `WorkerReport` as JSON. Expires after `WORKER_TTL_S`."""
    return f"impasto:worker:{name}"


def preview_key(style_digest: str) -> str:
    """String: a JPEG that shows the style. Expires some time after the last worker that serves it is gone."""
    return f"impasto:preview:{style_digest}"

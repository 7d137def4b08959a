"""The error tree. Every error is an RFC 9457 problem with a stable type and a sentence that says what to do."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Self

from worker.contract import HEARTBEAT_S, MIN_SIDE

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:impasto:problem:"
UPLOADS_RETRY_S = 5
"""For uploads and results on their way."""
MEMORY_RETRY_S = 10
"""Long enough for some results to expire or to be fetched."""


class Problem(Exception):  # noqa: N818 - the RFC's word
    """A request cannot be answered as asked. Subclasses name the kinds; `slug` never changes once released."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, detail: str, *, retry_after_s: int | None = None, extensions: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extensions = dict(extensions or {})

    def of_job(self, job_id: str) -> Self:
        """Itself, with the id of the job that met it, by which the worker's log can be searched."""
        self.extensions["job_id"] = job_id
        return self

    @property
    def type(self) -> str:
        """URI of the kind of problem."""
        return TYPE_PREFIX + self.slug

    def document(self) -> dict[str, Any]:
        """The problem as the members of RFC 9457 and its extensions."""
        own = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return {**self.extensions, **own}

    def headers(self) -> dict[str, str]:
        """Headers that go with the answer."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


class InternalError(Problem):
    """A fault of ours."""

    def __init__(self, detail: str = "Something failed on our side; the log has the details. Try again.") -> None:
        super().__init__(detail)


class NotFound(Problem):
    """No such address."""

    status, slug, title = 404, "not-found", "Not found"


class MethodNotAllowed(Problem):
    """The address does not take this method."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class Unauthorized(Problem):
    """No API key, or a wrong one."""

    status, slug, title = 401, "unauthorized", "API key missing or wrong"

    def __init__(self) -> None:
        super().__init__("Send a valid API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.")

    def headers(self) -> dict[str, str]:
        """The challenge that RFC 9110 asks of a 401."""
        return {"WWW-Authenticate": 'Bearer realm="impasto"'}


class BadParameter(Problem):
    """A parameter has a value that cannot be used."""

    status, slug, title = 422, "bad-parameter", "Parameter cannot be used"

    @classmethod
    def because(cls, reasons: Sequence[tuple[str, str]]) -> Self:
        """Of parameters, and what is wrong with each."""
        errors = [{"parameter": parameter, "detail": reason} for parameter, reason in reasons]
        detail = "; ".join(f"{parameter}: {reason}" for parameter, reason in reasons)
        return cls(f"{detail}.", extensions={"errors": errors})


class UnknownFactor(Problem):
    """No live worker enlarges by this factor."""

    status, slug, title = 422, "unknown-factor", "Factor not available"

    @classmethod
    def among(cls, factor: int, available: Sequence[int]) -> Self:
        """The problem of a `factor` that is not one of those `available`."""
        offer = ", ".join(map(str, available)) or "none"
        detail = f"No upscaler for factor={factor} is loaded; available: {offer}."
        return cls(detail, extensions={"available": list(available)})


class UnknownStyle(Problem):
    """No live worker paints in this style."""

    status, slug, title = 404, "unknown-style", "Unknown style"

    @classmethod
    def among(cls, name: str, available: Iterable[str]) -> Self:
        """The problem of a style `name` that is not one of those `available`; names the near ones."""
        near = get_close_matches(name[:64].lower(), available)
        hint = f"did you mean {' or '.join(near)}?" if near else "GET /styles lists the styles there are."
        return cls(f"There is no style {name[:64]!r}; {hint}", extensions={"near": near})


class UnknownJob(Problem):
    """No such job, or its result has expired."""

    status, slug, title = 404, "unknown-job", "Unknown job"

    def __init__(self) -> None:
        super().__init__("There is no such job, or its result has expired; send the picture again.")


class NoPreview(Problem):
    """The style has no preview picture."""

    status, slug, title = 404, "no-preview", "No preview"

    def __init__(self, style: str) -> None:
        super().__init__(f"The style {style!r} has no preview picture; paint one with POST /stylize?style={style}.")


class ResultNotReady(Problem):
    """The job is still waiting or running."""

    status, slug, title = 409, "result-not-ready", "Result not ready"

    def __init__(self) -> None:
        super().__init__("The job is not finished; ask again when GET /jobs/{id} says so.", retry_after_s=1)


class JobCanceled(Problem):
    """The job was canceled and has no result."""

    status, slug, title = 409, "job-canceled", "Job canceled"

    def __init__(self) -> None:
        super().__init__("The job was canceled, so it has no result; send the picture again.")


class JobStarted(Problem):
    """The job is being computed and cannot be canceled any more."""

    status, slug, title = 409, "job-started", "Job already started"

    def __init__(self) -> None:
        super().__init__("A worker has begun this job, so it cannot be canceled; its result expires by itself.")


class JobFailed(Problem):
    """A worker closed the job with a fault of ours."""

    status, slug, title = 500, "job-failed", "The picture could not be made"


class TooManyRequests(Problem):
    """The client has used up its allowance."""

    status, slug, title = 429, "too-many-requests", "Too many requests"

    def __init__(self, retry_after_s: int) -> None:
        detail = f"You have sent more pictures than are allowed in a row; try again in {retry_after_s} s."
        super().__init__(detail, retry_after_s=retry_after_s)


class UploadTimeout(Problem):
    """The upload did not arrive in time."""

    status, slug, title = 408, "upload-timeout", "Upload too slow"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The upload did not arrive within {limit_s:g} s; send a smaller file, or send it again.")

    def headers(self) -> dict[str, str]:
        """Nobody waits for the rest of the upload."""
        return {"Connection": "close"}


class EmptyBody(Problem):
    """There are no bytes."""

    status, slug, title = 400, "empty-body", "Empty upload"

    def __init__(self) -> None:
        super().__init__("The upload is empty; send the picture's bytes, e.g. curl --data-binary @photo.jpg.")


class MalformedMultipart(Problem):
    """The form cannot be read."""

    status, slug, title = 400, "malformed-multipart", "Malformed form"


class EncodedBody(Problem):
    """The body is compressed."""

    status, slug, title = 415, "encoded-body", "Compressed body"

    def __init__(self, encoding: str) -> None:
        super().__init__(f"The body is encoded ({encoding[:64]!r}); send the picture's own bytes.")

    def headers(self) -> dict[str, str]:
        """What RFC 9110 asks of this 415: the encodings that are taken, which is none."""
        return {"Accept-Encoding": "identity"}


class MissingFile(Problem):
    """The form has no field `file`."""

    status, slug, title = 422, "missing-file", "No file in the form"

    def __init__(self) -> None:
        super().__init__("The form has no file in its field `file`; send e.g. curl -F file=@photo.jpg.")


class BrokenPicture(Problem):
    """The file is of a known format, but damaged."""

    status, slug, title = 400, "broken-picture", "Broken picture"


class UnsupportedPicture(Problem):
    """The file is no picture, or of a kind that is not read."""

    status, slug, title = 415, "unsupported-picture", "Not a picture we read"


class AnimatedPicture(Problem):
    """The file has frames that follow each other."""

    status, slug, title = 415, "animated-picture", "Animated picture"

    @classmethod
    def of_format(cls, name: str) -> Self:
        """The problem of an animation in that file format."""
        return cls(f"Animated {name.upper()} is not supported; send a still picture.")


class TooFewPixels(Problem):
    """The picture is smaller than the networks take."""

    status, slug, title = 422, "too-few-pixels", "Picture too small"

    @classmethod
    def of_size(cls, width: int, height: int) -> Self:
        """The problem of a picture of that size in px."""
        detail = f"The picture has {width} x {height} px; each side must have at least {MIN_SIDE}."
        return cls(detail, extensions={"min_side": MIN_SIDE})


class TooManyBytes(Problem):
    """The upload is over the limit of bytes."""

    status, slug, title = 413, "too-many-bytes", "Upload too large"

    def __init__(self, limit: int) -> None:
        detail = f"The upload is larger than {limit / 1e6:g} MB, the limit here; send a smaller file."
        super().__init__(detail, extensions={"max_bytes": limit})


class TooManyPixels(Problem):
    """The picture, or what would come of it, is over the limit of pixels."""

    status, slug, title = 413, "too-many-pixels", "Picture too large"


class QueueFull(Problem):
    """Too many jobs wait, or they take up too many bytes."""

    status, slug, title = 503, "queue-full", "Busy"

    @classmethod
    def of_jobs(cls, waiting: int, retry_after_s: int) -> Self:
        """The problem of as many jobs as may wait."""
        detail = f"{waiting} jobs are waiting; try again in {retry_after_s} s."
        return cls(detail, retry_after_s=retry_after_s)

    @classmethod
    def of_bytes(cls, held: int, retry_after_s: int) -> Self:
        """The problem of uploads and unfetched results that leave no room for another upload."""
        detail = f"Pictures of {held / 1e6:.0f} MB wait here; try a smaller one, or again in {retry_after_s} s."
        return cls(detail, retry_after_s=retry_after_s)

    @classmethod
    def of_uploads(cls) -> Self:
        """The problem of more uploads at one time than a process has memory for."""
        return cls(f"Too much is being uploaded here; try again in {UPLOADS_RETRY_S} s.", retry_after_s=UPLOADS_RETRY_S)

    @classmethod
    def of_answers(cls) -> Self:
        """The problem of more results being fetched at one time than a process has memory for."""
        return cls(
            f"Too many results are being fetched here; try again in {UPLOADS_RETRY_S} s.", retry_after_s=UPLOADS_RETRY_S
        )

    @classmethod
    def of_memory(cls) -> Self:
        """The problem of a Redis that has reached its `maxmemory`."""
        return cls(f"The queue's memory is full; try again in {MEMORY_RETRY_S} s.", retry_after_s=MEMORY_RETRY_S)


class TooManyStreams(Problem):
    """As many clients follow jobs as one process serves."""

    status, slug, title = 503, "too-many-streams", "Too many streams"

    def __init__(self) -> None:
        super().__init__("Too many clients follow jobs here; ask GET /jobs/{id} instead.", retry_after_s=5)


class QueueUnavailable(Problem):
    """Redis does not answer."""

    status, slug, title = 503, "queue-unavailable", "Queue unavailable"

    def __init__(self) -> None:
        super().__init__("The queue does not answer; try again in a moment.", retry_after_s=2)


class NoWorker(Problem):
    """No worker has reported lately."""

    status, slug, title = 503, "no-worker", "No worker"

    def __init__(self) -> None:
        detail = "No worker is running, so no picture can be made; try again in a moment."
        super().__init__(detail, retry_after_s=int(HEARTBEAT_S))


class JobLost(Problem):
    """The queue lost the job or its upload."""

    status, slug, title = 503, "job-lost", "Job lost"

    def __init__(self) -> None:
        super().__init__("The queue lost this job; send the picture again.", retry_after_s=1)


class ServiceStopping(Problem):
    """The process that takes the picture, or waits for it, is about to end."""

    status, slug, title = 503, "service-stopping", "Service stopping"

    def __init__(self) -> None:
        super().__init__("The service is being stopped or restarted; send the picture again.", retry_after_s=5)


class DeadlinePassed(Problem):
    """The picture was not ready in time."""

    status, slug, title = 504, "deadline-passed", "Too late"

    def __init__(self) -> None:
        detail = "The picture was not ready in time; try a smaller one, or send `Prefer: respond-async`."
        super().__init__(detail)

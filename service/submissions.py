"""What goes into the queue, what comes out, and where a job is between."""

from dataclasses import dataclass
from typing import Self

from service.memory import Content
from worker.contract import Job, JobResult, JobStatus, Lane, PictureFormat


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job and what goes with it."""

    task: str
    job: Job
    content: Content
    """The uploaded file; empty once it is in the queue."""
    result_bytes: int
    """About how large the result will be."""
    fingerprint: str
    """Digest of the upload and the parameters."""
    filename: str
    """Name of the answer's file."""
    lane: Lane
    tag: str
    """`ETag` of the picture, if a worker makes it with the weights that the catalog names now."""


@dataclass(frozen=True)
class Outcome:
    """A closed job: the result and, if it is finished, the picture."""

    result: JobResult
    picture: bytes

    @classmethod
    def of(cls, text: bytes | None, picture: bytes | None) -> Self | None:
        """Reads `RESULT_FIELD` and `PICTURE_FIELD` of an output; none where there is nothing yet."""
        return cls(JobResult.from_json(text), picture or b"") if text else None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a job is."""

    id: str
    status: JobStatus
    ahead: int | None
    """Jobs before it in its lane of the queue, while it waits."""
    result: JobResult | None
    """Once it is closed."""


@dataclass(frozen=True, kw_only=True)
class JobState(Progress):
    """Where a job is, and how its result is to be given out."""

    task: str
    format: PictureFormat
    fingerprint: str
    filename: str
    submitted_at: float
    """Unix time in s."""
    expires_at: float | None
    """Unix time in s at which a closed job's result is forgotten."""

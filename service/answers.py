"""Closed and accepted jobs -> responses."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.types import Receive, Scope, Send

from service.failures import problem_of
from service.memory import Content
from service.preferences import APPLIED
from service.problems import JobCanceled, Problem
from service.submissions import JobState, Progress, Submission
from worker.contract import STYLIZE_TASK, UPSCALE_TASK, JobResult, JobStatus, PictureFormat

TASKS: dict[str, Literal["stylize", "upscale"]] = {STYLIZE_TASK: "stylize", UPSCALE_TASK: "upscale"}


class Links(BaseModel):
    """Where to go on from a job."""

    self: str = Field(examples=["/jobs/2f1e6f0c7a9b4f5f8d3c2b1a09f8e7d6"])
    result: str = Field(examples=["/jobs/2f1e6f0c7a9b4f5f8d3c2b1a09f8e7d6/result"])
    events: str = Field(examples=["/jobs/2f1e6f0c7a9b4f5f8d3c2b1a09f8e7d6/events"])


class ParameterError(BaseModel):
    """What is wrong with one parameter."""

    parameter: str = Field(examples=["size"])
    detail: str


class ProblemDocument(BaseModel):
    """An RFC 9457 problem. `type`, `title`, `status` and `detail` are always there."""

    type: str = Field(
        description="Stable name of the kind of problem; docs/api.md lists them.",
        examples=["urn:impasto:problem:unknown-style"],
        json_schema_extra={"format": "uri"},
    )
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do, in a sentence.")
    job_id: str | SkipJsonSchema[None] = Field(None, description="Of the job that met it, where there was one.")
    errors: list[ParameterError] | SkipJsonSchema[None] = Field(None, description="Of `bad-parameter`.")
    near: list[str] | SkipJsonSchema[None] = Field(
        None, description="Of `unknown-style`: names like the one asked for."
    )
    available: list[int] | SkipJsonSchema[None] = Field(None, description="Of `unknown-factor`.")
    max_bytes: int | SkipJsonSchema[None] = Field(None, description="Of `too-many-bytes`.")
    max_pixels: int | SkipJsonSchema[None] = Field(None, description="Of `too-many-pixels`.")
    min_side: int | SkipJsonSchema[None] = Field(None, description="Of `too-few-pixels`.")


class JobDocument(BaseModel):
    """Where a job is."""

    id: str = Field(examples=["2f1e6f0c7a9b4f5f8d3c2b1a09f8e7d6"])
    status: Literal["queued", "started", "finished", "failed", "canceled"]
    task: Literal["stylize", "upscale"] | SkipJsonSchema[None] = None
    created_at: datetime | SkipJsonSchema[None] = None
    expires_at: datetime | SkipJsonSchema[None] = Field(
        None, description="When the result of a closed job is forgotten. In `GET /jobs/{job_id}` alone."
    )
    media_type: str | SkipJsonSchema[None] = Field(
        None, description="Of the finished picture. In `GET /jobs/{job_id}` alone.", examples=["image/jpeg"]
    )
    ahead: int | SkipJsonSchema[None] = Field(None, description="Jobs before it in the queue, while it waits.")
    width: int | SkipJsonSchema[None] = Field(None, description="Of the finished picture, in px.")
    height: int | SkipJsonSchema[None] = None
    timings_ms: dict[str, float] = Field(default_factory=dict, description="Milliseconds in each stage, once closed.")
    problem: ProblemDocument | SkipJsonSchema[None] = Field(None, description="Why it failed.")
    links: Links


def job_document(request: Request, job_id: str, status: JobStatus, ahead: int | None = None) -> JobDocument:
    """The document of a job that is not closed."""
    links = Links(
        self=request.url_for("job_status", job_id=job_id).path,
        result=request.url_for("job_result", job_id=job_id).path,
        events=request.url_for("job_events", job_id=job_id).path,
    )
    return JobDocument(id=job_id, status=status.value, ahead=ahead, links=links)


def progress_document(request: Request, progress: Progress) -> JobDocument:
    """The document of any job."""
    document = job_document(request, progress.id, progress.status, progress.ahead)
    result = progress.result
    if result is None:
        return document
    failed = result.status is JobStatus.FAILED
    problem = ProblemDocument(**problem_of(progress.id, result).document()) if failed else None
    finished = result.status is JobStatus.FINISHED
    return document.model_copy(
        update={
            "width": result.width if finished else None,
            "height": result.height if finished else None,
            "timings_ms": result.timings_ms,
            "problem": problem,
        }
    )


def state_document(request: Request, state: JobState) -> JobDocument:
    """The document of a job of which everything is known."""
    finished = state.status is JobStatus.FINISHED
    return progress_document(request, state).model_copy(
        update={
            "task": TASKS[state.task],
            "created_at": _utc(state.submitted_at),
            "expires_at": None if state.expires_at is None else _utc(state.expires_at),
            "media_type": state.format.media_type if finished else None,
        }
    )


def accepted(request: Request, submission: Submission) -> Response:
    """202: the job is queued, and this is where to ask for it."""
    document = job_document(request, submission.job.id, JobStatus.QUEUED).model_copy(
        update={"task": TASKS[submission.task], "created_at": _utc(submission.job.submitted_at)}
    )
    headers = {"Location": document.links.self, "Preference-Applied": APPLIED, "Vary": "Accept, Prefer"}
    return JSONResponse(document.model_dump(mode="json", exclude_none=True), 202, headers)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def unsuccessful(job_id: str, result: JobResult) -> Problem:
    """The problem of a closed job that has no picture."""
    return JobCanceled().of_job(job_id) if result.status is JobStatus.CANCELED else problem_of(job_id, result)


def entity_tag(fingerprint: str, model: str) -> str:
    """Strong `ETag` of a picture, from upload, parameters and the digest of the weights."""
    digest = hashlib.sha256(f"{fingerprint}:{model}".encode()).hexdigest()
    return f'"{digest[:32]}"'


def picture_headers(result: JobResult, fingerprint: str, filename: str) -> dict[str, str]:
    """What every answer with a picture says of it."""
    return {
        "Content-Disposition": content_disposition(filename),
        "ETag": entity_tag(fingerprint, result.model),
        "Server-Timing": server_timing(result.timings_ms),
    }


def content_disposition(filename: str) -> str:
    """Value of the header, with the name in ASCII for old clients and as it is for all others (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode())
    if plain == filename:
        return f'inline; filename="{filename}"'
    return f"inline; filename=\"{plain.lstrip('-_') or 'picture'}\"; filename*=UTF-8''{quote(filename)}"


class HeldPicture(Response):
    """200 and a picture that counts as held until the client has nearly all of it."""

    def __init__(self, content: Content, picture_format: PictureFormat, headers: Mapping[str, str]) -> None:
        super().__init__(content.data, 200, dict(headers), picture_format.media_type)
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it, as ASGI asks."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            # The server takes this end only when the client has read on.
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.body = b""
            self._content.release()
        if self.background is not None:
            await self.background()


def server_timing(timings_ms: Mapping[str, float]) -> str:
    """Value of `Server-Timing`; milliseconds."""
    return ", ".join(f"{stage};dur={milliseconds:.1f}" for stage, milliseconds in timings_ms.items())


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether the client has the entity of this tag, by its `If-None-Match`."""
    offered = request.headers.get("if-none-match", "")
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in offered.split(","))

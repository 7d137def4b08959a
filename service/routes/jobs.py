"""`/jobs/{id}`: what came of a picture that was asked for with `Prefer: respond-async`."""

from fastapi import APIRouter, Depends, Request, Response

from service.answers import (
    HeldPicture,
    JobDocument,
    is_unchanged,
    picture_headers,
    state_document,
    unsuccessful,
)
from service.memory import Content
from service.openapi import IF_NONE_MATCH, PICTURE_ANSWER, UNCHANGED_ANSWER, problem_answers
from service.problems import (
    BrokenPicture,
    DeadlinePassed,
    JobCanceled,
    JobFailed,
    JobLost,
    JobStarted,
    QueueFull,
    QueueUnavailable,
    ResultNotReady,
    TooManyPixels,
    Unauthorized,
    UnknownFactor,
    UnknownJob,
    UnknownStyle,
)
from service.security import require_key
from service.services import Services, ServicesDep
from worker.contract import JobStatus

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[Depends(require_key)])

COMMON = (Unauthorized, UnknownJob, QueueUnavailable)
FAILURES = (BrokenPicture, UnknownStyle, UnknownFactor, TooManyPixels, JobLost, JobFailed, DeadlinePassed)
"""What a worker may have met."""
CACHE_CONTROL = "private, no-cache"
"""Others must not keep the picture, and the client must ask whether it is still there."""


@router.get(
    "",
    name="job_status",
    summary="Where a job is",
    responses=problem_answers(*COMMON),
    response_model_exclude_none=True,
)
async def read_job(request: Request, job_id: str, services: ServicesDep) -> JobDocument:
    """Tells whether a job waits, runs or is closed."""
    return state_document(request, await services.jobs.state(job_id))


@router.get(
    "/result",
    name="job_result",
    summary="The picture of a finished job",
    response_class=Response,
    responses={
        **PICTURE_ANSWER,
        **UNCHANGED_ANSWER,
        **problem_answers(*COMMON, ResultNotReady, JobCanceled, QueueFull, *FAILURES),
    },
    openapi_extra=IF_NONE_MATCH,
)
async def read_result(request: Request, job_id: str, services: ServicesDep) -> Response:
    """Gives the picture, as often as asked until it expires."""
    state = await services.jobs.state(job_id)
    if state.result is None:
        raise ResultNotReady
    if state.status is not JobStatus.FINISHED:
        raise unsuccessful(job_id, state.result)
    headers = picture_headers(state.result, state.fingerprint, state.filename) | {"Cache-Control": CACHE_CONTROL}
    if is_unchanged(request, headers["ETag"]):
        services.metrics.not_modified.inc()
        return Response(status_code=304, headers=headers)
    return HeldPicture(await _fetch(services, job_id), state.format, headers)


async def _fetch(services: Services, job_id: str) -> Content:
    """The picture. Raises `QueueFull` where too many are on their way to clients, and `UnknownJob`."""
    size = await services.jobs.picture_bytes(job_id)
    if not services.fetched.take(size):
        raise QueueFull.of_answers()
    try:
        data = await services.jobs.picture(job_id)
    finally:
        services.fetched.give_back(size)
    services.fetched.hold(len(data))
    return Content(data, services.fetched)


@router.delete("", status_code=204, summary="Cancel or forget a job", responses=problem_answers(*COMMON, JobStarted))
async def delete_job(job_id: str, services: ServicesDep) -> None:
    """Takes back a job that waits, or forgets the result of one that is closed."""
    await services.jobs.cancel(job_id)

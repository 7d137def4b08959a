"""Submits a job and answers with its picture, or with where to find it later."""

import asyncio
import time
from contextlib import suppress
from typing import Final

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from service.answers import HeldPicture, accepted, picture_headers, unsuccessful
from service.memory import Content
from service.preferences import Preference
from service.problems import DeadlinePassed, Problem, QueueFull, ServiceStopping
from service.services import Services
from service.submissions import Outcome, Submission
from service.tasks import end
from worker.contract import JobStatus

CACHED: Final = {"Cache-Status": "impasto; hit", "Server-Timing": "cache;desc=hit"}
"""Headers of an answer that cost no worker anything (RFC 9211)."""


async def deliver(
    request: Request, services: Services, submission: Submission, preference: Preference, started: float
) -> Response:
    """The answer to a picture request that began at `started`, by `time.perf_counter`.

    Raises `QueueFull`, `DeadlinePassed`, `ServiceStopping`, the problem that the worker met, or `ClientDisconnect`; the
    job is then withdrawn.
    """
    job = submission.job
    if preference.respond_async and not preference.wait_s:
        await services.jobs.submit(submission)
        return accepted(request, submission)
    if services.answers.is_full:
        # By clients that read slowly: there would be no room for the answer.
        raise QueueFull.of_answers()
    cached = await services.cache.get(submission.tag)
    if cached is not None:
        return finish(services, submission, cached, started, dict(CACHED))
    try:
        outcome = await submit_and_wait(request, services, submission, preference)
    except (DeadlinePassed, ServiceStopping):
        if preference.respond_async:
            return accepted(request, submission)
        await withdraw(services, job.id)
        raise
    except ClientDisconnect:
        await withdraw(services, job.id)
        raise
    services.metrics.observe_stages(outcome.result.timings_ms)
    response = finish(services, submission, outcome, started, {})
    response.background = services.cache.keeping(response.headers["etag"], submission.tag, outcome)
    return response


async def submit_and_wait(
    request: Request, services: Services, submission: Submission, preference: Preference
) -> Outcome:
    """The outcome of the job, as soon as it is there. Raises `QueueFull` and what `JobQueue.outcome` raises."""
    job = submission.job
    with services.jobs.watching(job.id) as waker:
        leaving = asyncio.create_task(_disconnected(request))
        leaving.add_done_callback(lambda _: waker.set())
        try:
            await services.jobs.submit(submission)
            patience_s = job.deadline - time.time()
            if preference.respond_async:
                patience_s = min(preference.wait_s, services.settings.request_timeout_s)
            return await services.jobs.outcome(job.id, waker, patience_s, leaving.done)
        finally:
            await end(leaving)


def finish(
    services: Services, submission: Submission, outcome: Outcome, started: float, extra: dict[str, str]
) -> Response:
    """The answer with the picture of a closed job, and `extra` headers. Raises the problem of one without."""
    result = outcome.result
    if result.status is not JobStatus.FINISHED:
        raise unsuccessful(submission.job.id, result)
    headers = picture_headers(result, submission.fingerprint, submission.filename) | extra
    total_ms = (time.perf_counter() - started) * 1000
    headers["Server-Timing"] += f", total;dur={total_ms:.1f}"
    headers["Cache-Control"] = "no-store"
    headers["Vary"] = "Accept, Prefer"
    services.answers.hold(len(outcome.picture))
    return HeldPicture(Content(outcome.picture, services.answers), submission.job.format, headers)


async def withdraw(services: Services, job_id: str) -> None:
    """Takes the job back if it still waits; otherwise its deadline and its TTL see to it."""
    with suppress(Problem):
        await services.jobs.cancel(job_id)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

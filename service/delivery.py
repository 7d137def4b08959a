"""Submits a job and answers with its picture, or with where to find it later."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from service.answers import accepted, picture, picture_headers, unsuccessful
from service.preferences import Preference
from service.problems import DeadlinePassed, Problem
from service.services import Services
from service.submissions import Outcome, Submission
from service.tasks import end
from worker.contract import JobStatus


async def deliver(
    request: Request, services: Services, submission: Submission, preference: Preference, started: float
) -> Response:
    """The answer to a picture request that began at `started`, by `time.perf_counter`.

    Raises `DeadlinePassed`, the problem that the worker met, or `ClientDisconnect`; the job is then withdrawn.
    """
    await services.jobs.submit(submission)
    job = submission.job
    patience_s = job.deadline - time.time()
    if preference.respond_async and not preference.wait_s:
        return accepted(request, job.id)
    if preference.respond_async:
        patience_s = min(preference.wait_s, services.settings.request_timeout_s)
    try:
        await while_connected(request, services.jobs.wait(job.id, patience_s))
    except DeadlinePassed:
        if preference.respond_async:
            return accepted(request, job.id)
        await withdraw(services, job.id)
        raise
    except ClientDisconnect:
        await withdraw(services, job.id)
        raise
    return finish(services, submission, await services.jobs.take(job.id), started)


def finish(services: Services, submission: Submission, outcome: Outcome, started: float) -> Response:
    """The answer with the picture of a closed job. Raises the problem of one without."""
    result = outcome.result
    services.metrics.observe_stages(result.timings_ms)
    if result.status is not JobStatus.FINISHED:
        raise unsuccessful(result)
    headers = picture_headers(result, submission.fingerprint, submission.filename)
    total_ms = (time.perf_counter() - started) * 1000
    headers["Server-Timing"] += f", total;dur={total_ms:.1f}"
    headers["Cache-Control"] = "no-store"
    headers["Vary"] = "Accept, Prefer"
    return picture(outcome.picture, submission.job.format, headers)


async def withdraw(services: Services, job_id: str) -> None:
    """Takes the job back if it still waits; otherwise its deadline and its TTL see to it."""
    with suppress(Problem):
        await services.jobs.cancel(job_id)


async def while_connected(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until it ends or the client goes. Raises what it raises, or `ClientDisconnect`."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        working.result()
    finally:
        await end(working)
        await end(leaving)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

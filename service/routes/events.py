"""`/jobs/{id}/events`: what becomes of a job, as it happens."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.answers import progress_document
from service.followers import Followers
from service.openapi import problem_answers
from service.problems import QueueUnavailable, TooManyStreams, Unauthorized, UnknownJob
from service.security import require_key
from service.services import ServicesDep
from service.submissions import Progress
from worker.contract import JobStatus

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[Depends(require_key)])

HEARTBEAT_S = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection and a lost one is noticed."""
FINAL = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED})
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
EXAMPLE = 'event: started\nid: started\ndata: {"id": "2f1e…", "status": "started", …}\n\n'


class EventStream(StreamingResponse):
    """Server-sent events. Once the client is gone or served, the generator behind them is closed at once.

    It holds `place` among the followers until then.
    """

    def __init__(self, events: AsyncGenerator[str, None], place: ExitStack) -> None:
        super().__init__(events, headers=HEADERS, media_type="text/event-stream")
        self._events = events
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events, as ASGI asks."""
        with self._place:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)


@router.get(
    "/events",
    name="job_events",
    summary="What becomes of a job, as it happens",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events named by the job's status (`queued`, `started`, `finished`, `failed`, "
            "`canceled`), each with the document of `GET /jobs/{job_id}`. The stream ends with one of the last three.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EXAMPLE}},
        },
        204: {"description": "To a `Last-Event-ID` that was the last event: do not connect again."},
        **problem_answers(Unauthorized, UnknownJob, QueueUnavailable, TooManyStreams),
    },
)
async def read_events(
    request: Request, job_id: str, services: ServicesDep, last_event_id: Annotated[str, Header()] = ""
) -> Response:
    """Gives the job's status now, then each change of it and of its place in the queue."""
    if last_event_id in FINAL:
        return Response(status_code=204)
    with ExitStack() as place:
        place.enter_context(services.followers.place())
        (current,) = await services.jobs.progress([job_id])
        if current is None:
            raise UnknownJob
        return EventStream(_events(request, services.followers, current), place.pop_all())


async def _events(request: Request, followers: Followers, current: Progress) -> AsyncGenerator[str, None]:
    with followers.following(current) as follower:
        while True:
            progress = await follower.next(HEARTBEAT_S)
            if follower.is_dismissed:
                return
            yield ": still here\n\n" if progress is None else _event(request, progress)
            if progress is not None and progress.result is not None:
                return


def _event(request: Request, progress: Progress) -> str:
    data = progress_document(request, progress).model_dump_json(exclude_none=True)
    return f"event: {progress.status}\nid: {progress.status}\ndata: {data}\n\n"

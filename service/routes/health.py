"""`/livez`, `/readyz` and `/metrics`: for orchestrators and Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from service.openapi import problem_answers
from service.problems import NotFound, NoWorker, QueueUnavailable
from service.queue_snapshot import QueueSnapshot
from service.services import ServicesDep

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """The process answers."""

    status: str = "alive"


class Readiness(BaseModel):
    """Pictures can be made."""

    status: str = "ready"
    workers: int


@router.get("/livez", summary="Whether the process is alive")
async def livez() -> Liveness:
    """Answers as long as the process runs, whatever else is down."""
    return Liveness()


@router.get("/readyz", summary="Whether pictures can be made", responses=problem_answers(NoWorker, QueueUnavailable))
async def readyz(services: ServicesDep) -> Readiness:
    """Answers 200 once the queue answers and a worker is live."""
    await services.jobs.ping()
    workers = await services.fleet.workers()
    if not workers:
        raise NoWorker
    return Readiness(workers=len(workers))


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=problem_answers(NotFound))
async def read_metrics(request: Request, services: ServicesDep) -> Response:
    """Gives the metrics, with or without Redis. Not through a proxy: they are for those inside the network."""
    if "x-forwarded-for" in request.headers:
        raise NotFound("Metrics are read inside the network, from each process.")
    snapshot, workers = QueueSnapshot.unknown(), None
    try:
        snapshot = await services.jobs.snapshot()
        workers = len(await services.fleet.workers())
    except QueueUnavailable:
        pass
    services.metrics.observe_queue(snapshot, workers)
    return Response(services.metrics.render(), media_type=CONTENT_TYPE_LATEST)

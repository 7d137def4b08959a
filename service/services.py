"""What the routes work with, made once for each app and handed to them as a dependency."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.fleet import Fleet
from service.jobs import JobQueue
from service.metrics import Metrics
from service.settings import Settings


@dataclass(frozen=True)
class Services:
    """The parts of one service process."""

    settings: Settings
    jobs: JobQueue
    fleet: Fleet
    metrics: Metrics


def services_of(request: Request) -> Services:
    """The services of the app that got this request."""
    return cast(Services, request.app.state.services)


ServicesDep = Annotated[Services, Depends(services_of)]

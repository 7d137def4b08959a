"""What the routes work with, made once for each app and handed to them as a dependency."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.bodies import BodyReader
from service.cache import ResultCache
from service.fleet import Fleet
from service.followers import Followers
from service.jobs import JobQueue
from service.memory import Memory
from service.metrics import Metrics
from service.rate_limit import RateLimiter
from service.settings import Settings


@dataclass(frozen=True)
class Services:
    """The parts of one service process."""

    settings: Settings
    bodies: BodyReader
    answers: Memory
    """For pictures on their way to who waited for them."""
    fetched: Memory
    """For results of jobs that are being fetched, as often and as slowly as a client likes: apart, so that they keep
    nobody from a new picture."""
    jobs: JobQueue
    followers: Followers
    fleet: Fleet
    cache: ResultCache
    rate_limiter: RateLimiter
    metrics: Metrics


def services_of(request: Request) -> Services:
    """The services of the app that got this request."""
    return cast(Services, request.app.state.services)


async def _services_of(request: Request) -> Services:
    # FastAPI runs a plain function in a thread, which takes longer than everything that is done here.
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_services_of)]

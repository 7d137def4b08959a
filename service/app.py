"""The application: `create_app` puts the parts together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.types import Lifespan

from service import cors, handlers
from service.bodies import BodyReader
from service.broker import Broker
from service.cache import ResultCache
from service.common_headers import CommonHeadersMiddleware
from service.fleet import Fleet
from service.followers import Followers
from service.head_requests import HeadMiddleware
from service.jobs import JobQueue
from service.memory import Memory
from service.metrics import Metrics, MetricsMiddleware
from service.rate_limit import RateLimiter
from service.room import Bounds
from service.routes import catalog, docs, events, health, jobs, pictures, studio
from service.services import Services
from service.settings import Settings, SettingsError

UPLOADS_BYTES = 256_000_000
"""Most that a process holds of uploads which are not in the queue yet."""
ANSWERS_BYTES = 256_000_000
"""Most that it holds of pictures on their way to who waited for them."""
FETCHED_BYTES = 128_000_000
"""Most that it holds of results of jobs which are being fetched."""

DESCRIPTION = """Paints and enlarges pictures, in real time.

Send the picture's bytes, get the picture back:

    curl --fail-with-body --data-binary @photo.jpg 'localhost:8000/stylize?style=candy' -o painted.jpg
    curl --fail-with-body -F file=@photo.jpg 'localhost:8000/upscale?factor=4' -o large.jpg

With the header `Prefer: respond-async` the answer comes at once, and the picture from `/jobs/{job_id}/result`.
Errors are `application/problem+json` (RFC 9457)."""


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application. `settings.redis_url` must be set; Redis need not be there yet."""
    if settings.redis_url is None:
        raise SettingsError("IMPASTO_REDIS_URL must be set, or start the service with `python -m service`.")
    metrics = Metrics()
    app = FastAPI(
        title="Impasto",
        version=_version(),
        description=DESCRIPTION,
        lifespan=_lifespan(settings, settings.redis_url, metrics),
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        # To http://, as behind TLS the scheme looks here: a photo and its key would be sent once more, in the clear.
        redirect_slashes=False,
        # What generated clients call their functions.
        generate_unique_id_function=lambda route: route.name,
    )
    handlers.install(app)
    app.add_middleware(HeadMiddleware)
    cors.install(app, settings.cors_origins)
    app.add_middleware(CommonHeadersMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    for module in (pictures, jobs, events, catalog, health, docs, studio):
        app.include_router(module.router)
    app.mount("/docs/files", docs.files, name="docs-files")
    app.mount("/web", studio.files, name="web")
    return app


def _lifespan(settings: Settings, redis_url: str, metrics: Metrics) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broker = Broker.connect(redis_url)
        services = _services(settings, broker, metrics)
        app.state.services = services
        services.jobs.start()
        try:
            yield
        finally:
            await services.followers.stop()
            await services.jobs.stop()
            await broker.aclose()

    return lifespan


def _services(settings: Settings, broker: Broker, metrics: Metrics) -> Services:
    jobs = JobQueue(broker, Bounds(settings.max_queue, settings.max_queue_bytes, settings.max_upload_bytes))
    uploads = max(min(settings.max_queue_bytes, UPLOADS_BYTES), settings.max_upload_bytes)
    return Services(
        settings=settings,
        bodies=BodyReader(settings.max_upload_bytes, settings.upload_timeout_s, Memory(uploads)),
        answers=Memory(ANSWERS_BYTES),
        fetched=Memory(FETCHED_BYTES),
        jobs=jobs,
        followers=Followers(broker.events, jobs),
        fleet=Fleet(broker.commands),
        cache=ResultCache(broker.pictures, settings.cache_ttl_s, settings.cache_bytes, metrics),
        rate_limiter=RateLimiter(broker.commands, settings.rate_limit, settings.rate_burst),
        metrics=metrics,
    )


def _version() -> str:
    try:
        return version("impasto")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"

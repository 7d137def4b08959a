"""The application: `create_app` puts the parts together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.types import Lifespan

from service import handlers
from service.broker import Broker
from service.fleet import Fleet
from service.jobs import JobQueue
from service.metrics import Metrics, MetricsMiddleware
from service.request_id import RequestIdMiddleware
from service.routes import catalog, docs, health, jobs, pictures, studio
from service.services import Services
from service.settings import Settings, SettingsError

DESCRIPTION = """Paints and enlarges pictures, in real time.

Send the picture's bytes, get the picture back:

    curl --data-binary @photo.jpg 'localhost:8000/stylize?style=candy' -o painted.jpg
    curl -F file=@photo.jpg 'localhost:8000/upscale?factor=4' -o large.jpg

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
    )
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    handlers.install(app)
    for module in (pictures, jobs, catalog, health, docs, studio):
        app.include_router(module.router)
    app.mount("/docs/files", docs.files, name="docs-files")
    app.mount("/web", studio.files, name="web")
    return app


def _lifespan(settings: Settings, redis_url: str, metrics: Metrics) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broker = Broker.connect(redis_url)
        queue = JobQueue(broker, settings.max_queue)
        app.state.services = Services(settings, queue, Fleet(broker.commands), metrics)
        queue.start()
        try:
            yield
        finally:
            await queue.stop()
            await broker.aclose()

    return lifespan


def _version() -> str:
    try:
        return version("impasto")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"

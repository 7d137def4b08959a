"""`python -m service`: the API, and where no Redis is given, Valkey and a worker as well."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI
from uvicorn.loops.auto import auto_loop_factory

from service.app import create_app
from service.embedded import EmbeddedError, EmbeddedValkey, EmbeddedWorker
from service.fleet import Catalog
from service.problems import NoWorker, QueueUnavailable
from service.server import Server
from service.services import Services
from service.settings import Settings, SettingsError

log = logging.getLogger("service")


class StartError(Exception):
    """The service cannot start; the sentence says what to do."""


def main() -> int:
    """Serves until Ctrl-C or SIGTERM. Returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        # uvicorn's choice of a loop (uvloop, where there is one) counts only where uvicorn itself starts the loop.
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(run(Settings.load()))
    except (SettingsError, StartError, EmbeddedError) as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def run(settings: Settings) -> None:
    """Runs everything until asked to stop, then stops it in order: API, worker, Valkey."""
    with _listen(settings.host, settings.port) as listener:
        async with _with_redis(settings) as complete:
            app = create_app(complete)
            announcement = asyncio.create_task(_announce(app, _address(listener)))
            with _signals_ignored_after():
                await Server(app, complete).serve(sockets=[listener])
            announcement.cancel()


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """The listening socket, before anything else is started: a taken port should be said at once."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartError(
            f"{host}:{port} cannot be listened on: {error.strerror}. Set IMPASTO_HOST or IMPASTO_PORT."
        ) from error
    with listener:
        yield listener


@asynccontextmanager
async def _with_redis(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose `redis_url` is set, with Valkey and a worker behind it if it was not."""
    if settings.redis_url is not None:
        yield settings
        return
    # Twice what the queue may fill: RQ's records, and what a result takes beyond what was expected of it.
    max_bytes = 2 * settings.max_queue_bytes + settings.cache_bytes
    async with EmbeddedValkey(max_bytes) as valkey, EmbeddedWorker(valkey.url):
        yield settings.model_copy(update={"redis_url": valkey.url})


@contextmanager
def _signals_ignored_after() -> Iterator[None]:
    """uvicorn stops on a signal and then raises it once more, which would end the program before worker and Valkey."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _announce(app: FastAPI, address: str) -> None:
    """Prints how to use the service as soon as a picture can be painted."""
    catalog = await _first_catalog(app)
    style = "candy" if "candy" in catalog.styles else next(iter(catalog.styles), None)
    call = f"stylize?style={style}" if style else f"upscale?factor={next(iter(catalog.upscalers))}"
    sys.stdout.write(
        f"\nImpasto paints on {address}\n\n"
        f"    curl --fail-with-body --data-binary @photo.jpg '{address}/{call}' -o painted.jpg\n\n"
        f"API: {address}/docs   Stop: Ctrl-C\n\n"
    )
    sys.stdout.flush()


async def _first_catalog(app: FastAPI) -> Catalog:
    while True:
        # Workers announce themselves in Redis alone; nothing there can be waited for without a client's request.
        await asyncio.sleep(0.1)
        services: Services | None = getattr(app.state, "services", None)
        if services is None:
            continue
        try:
            return await services.fleet.catalog()
        except (NoWorker, QueueUnavailable):
            continue


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())

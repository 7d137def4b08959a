"""`impasto doctor`: looks at all that the product needs, in the order in which it needs it."""

from collections.abc import Callable, Iterable, Iterator

from worker.findings import Finding, bad
from worker.machine_checkup import check_disk, check_memory, check_versions
from worker.network_checkup import check_port
from worker.paint_checkup import check_painting
from worker.redis_checkup import check_redis
from worker.settings import WorkerSettings
from worker.settings_checkup import check_limits, check_names, read_service_settings


def examine(settings: WorkerSettings) -> list[Finding]:
    """Every finding; a checkup that itself fails is one."""
    return list(_examine(settings))


def _examine(settings: WorkerSettings) -> Iterator[Finding]:
    yield from _guarded("packages", check_versions)
    yield from _guarded("settings", lambda: _check_service(settings))
    yield from _guarded("Redis", lambda: check_redis(settings))
    yield from _guarded("disk", lambda: check_disk(settings.zoo_dir))
    yield from _guarded("memory", check_memory)
    yield from _guarded("painting", lambda: check_painting(settings))


def _check_service(settings: WorkerSettings) -> Iterator[Finding]:
    service = read_service_settings()
    yield from check_names(service)
    yield check_limits(service, settings)
    yield check_port(service)


def _guarded(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # drivers and servers fail in ways of their own, and just these are asked about
        yield bad(subject, f"It failed in a way that was not foreseen: {error!r}.", "Report this with the line above.")

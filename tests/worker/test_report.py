"""What workers say of themselves, on a real Redis."""

from redis import Redis

from worker.contract import WORKER_TTL_S, WorkerReport, worker_key, workers_key
from worker.report import Reporter


def report_of(name: str) -> WorkerReport:
    return WorkerReport(name=name, device="CPU", runtime="torchscript", styles=(), upscalers=())


def test_a_redis_that_is_full_does_not_take_workers_for_dead(connection: Redis) -> None:
    connection.config_set("maxmemory", 1)
    Reporter(connection, report_of("w"))._send()
    assert connection.zrange(workers_key(), 0, -1) == [b"w"]
    assert WorkerReport.from_json(connection.get(worker_key("w")) or "") == report_of("w")
    assert 0 < connection.ttl(worker_key("w")) <= WORKER_TTL_S


def test_workers_that_are_silent_leave_the_list(connection: Redis) -> None:
    connection.zadd(workers_key(), {"dead": connection.time()[0] - WORKER_TTL_S - 1})
    Reporter(connection, report_of("w"))._send()
    assert connection.zrange(workers_key(), 0, -1) == [b"w"]

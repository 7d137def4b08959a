"""`python -m worker` with several processes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.pictures import draw_photo, encode
from tests.redis_server import RedisServer, free_port
from tests.worker.running import Client, Worker
from worker.catalog import Catalog
from worker.contract import JobStatus
from worker.errors import PassingZooError, StartError, ZooError
from worker.pool import CANNOT_START, plan_members
from worker.processes import HEALTHY_S, Pauses, describe_status
from worker.settings import WorkerSettings
from worker.single import check_zoo

PHOTO = encode(draw_photo(60, 44))


@contextmanager
def running_pool(redis: RedisServer, zoo: Path, **settings: str) -> Iterator[Worker]:
    pool = Worker(redis.url, zoo, **{"devices": "cpu", "processes_per_device": "2", **settings})
    try:
        yield pool
    finally:
        if pool.process.poll() is None:
            pool.process.terminate()
            pool.process.communicate(timeout=60)


def ready_workers(pool: Worker, count: int) -> list[int]:
    """Process ids of workers, as they say that they serve."""
    return [int(pool.wait_until_logged("serves").split()[2]) for _ in range(count)]


def test_a_pool_answers_restarts_what_dies_and_ends_with_its_jobs_done(redis: RedisServer, small_zoo: Path) -> None:
    port = free_port()
    with running_pool(redis, small_zoo, metrics_port=str(port)) as pool, redis.connect() as connection:
        client = Client(connection)
        workers = ready_workers(pool, 2)
        for index in (0, 1):
            assert "impasto_worker_models" in httpx.get(f"http://127.0.0.1:{port + index}/metrics").text
        os.kill(workers[0], signal.SIGKILL)
        assert "SIGKILL" in pool.wait_until_logged("starting it again")
        jobs = [client.stylize(PHOTO) for _ in range(8)]
        assert {client.wait(job)[0].status for job in jobs} == {JobStatus.FINISHED}
        (replacement,) = ready_workers(pool, 1)
        assert replacement not in workers

        jobs = [client.stylize(encode(draw_photo(1200, 900), "JPEG")) for _ in range(4)]
        client.wait_until_started(jobs[:1])
        assert pool.stop() == 0
        assert client.queue.started_job_registry.count == 0
        for job in set(jobs) - set(client.queue.get_job_ids()):
            assert client.wait(job)[0].status is JobStatus.FINISHED
        for process in (workers[1], replacement):
            assert not Path(f"/proc/{process}").exists()


def test_workers_end_when_their_pool_is_killed(redis: RedisServer, small_zoo: Path) -> None:
    with running_pool(redis, small_zoo) as pool:
        ready_workers(pool, 2)
        pool.process.kill()
        # The pipe closes when the last of them has ended.
        pool.process.communicate(timeout=60)


def test_a_pool_waits_for_ports_that_its_forerunners_workers_still_have(redis: RedisServer, small_zoo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with (
            socket.create_server(("127.0.0.1", port + 1)),
            running_pool(redis, small_zoo, metrics_port=str(port)) as pool,
        ):
            said = pool.wait_until_logged("metrics port")
            assert "Address already in use" in said
            assert f"status {os.EX_TEMPFAIL}" in pool.wait_until_logged("starting it again")
            first.close()
            assert ready_workers(pool, 1)
            assert "impasto_worker_models" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [({"zoo_dir": "/nowhere"}, "IMPASTO_ZOO_DIR"), ({"devices": "cuda:0,cuda:1"}, "sees no GPU")],
)
def test_a_pool_that_cannot_start_says_why_and_ends(
    redis: RedisServer, setting: dict[str, str], sentence: str, small_zoo: Path
) -> None:
    with running_pool(redis, small_zoo, **setting) as pool:
        _, log = pool.process.communicate(timeout=60)
    assert pool.process.returncode == CANNOT_START
    assert sentence in log
    assert "the pool stops" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_a_pool_goes_on_where_a_passing_fault_leaves_a_worker_nothing_to_serve() -> None:
    settings, sentence = WorkerSettings.load(), "x2.pt is refused: No space left on device."
    with pytest.raises(StartError):
        check_zoo(settings, Catalog(refused=(ZooError(sentence),)))
    with pytest.raises(SystemExit) as ended:
        check_zoo(settings, Catalog(refused=(PassingZooError(sentence),)))
    assert ended.value.code not in (0, CANNOT_START)


def test_each_process_has_its_device_port_and_share_of_the_cores() -> None:
    settings = WorkerSettings.load("cuda:0,cuda:1", 2).model_copy(update={"metrics_port": 9100})
    members = plan_members(settings)
    assert [member.device for member in members] == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert [member.metrics_port for member in members] == [9100, 9101, 9102, 9103]
    assert {member.threads for member in members} == {0}
    cores = len(os.sched_getaffinity(0))
    assert [member.threads for member in plan_members(WorkerSettings.load("cpu", 2))] == [max(cores // 2, 1)] * 2
    assert [member.threads for member in plan_members(WorkerSettings.load("cpu", 1))] == [0]
    with pytest.raises(StartError, match="IMPASTO_METRICS_PORT"):
        plan_members(settings.model_copy(update={"metrics_port": 65534}))


def test_a_containers_share_of_time_is_shared_as_cores_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.pool.visible_cores", lambda: 64)
    monkeypatch.setattr("worker.pool.usable_cores", lambda: 4)
    assert [member.threads for member in plan_members(WorkerSettings.load("cpu", 2))] == [2, 2]
    assert [member.threads for member in plan_members(WorkerSettings.load("cpu", 1))] == [4]
    assert [member.threads for member in plan_members(WorkerSettings.load("cuda:0", 1))] == [0]


@pytest.mark.parametrize("devices", ["cpu,gpu", "cuda:x", "cuda:0,cuda:0", "auto,cpu"])
def test_devices_that_are_none_are_refused(devices: str) -> None:
    with pytest.raises(StartError, match=r"IMPASTO_DEVICES cannot be used: "):
        WorkerSettings.load(devices)


def test_the_name_of_old_still_chooses_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_DEVICE", "cuda:1")
    assert WorkerSettings.load().devices == ("cuda:1",)
    monkeypatch.setenv("IMPASTO_DEVICES", "cuda:2")
    assert WorkerSettings.load().devices == ("cuda:2",)
    assert WorkerSettings.load("cpu").devices == ("cpu",)


def test_pauses_grow_until_a_process_runs_well() -> None:
    pauses = Pauses(1, 5)
    assert [pauses.after(0.1) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert pauses.after(HEALTHY_S) == 1
    assert pauses.after(0.1) == 2


def test_endings_are_told_in_words() -> None:
    assert describe_status(3) == "status 3"
    assert describe_status(-9) == "SIGKILL"
    assert describe_status(-99) == "signal 99"


def test_a_pools_supervisor_loads_no_torch() -> None:
    script = "import sys, worker.__main__; print(sorted({'torch', 'openvino', 'rq'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

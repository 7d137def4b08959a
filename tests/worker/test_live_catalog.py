"""The zoo while a worker runs."""

import math
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from redis import Redis

from models.style_net import StyleTrunk
from tests.pictures import draw_photo, encode
from tests.redis_server import RedisServer, free_port
from tests.worker.running import Client, Worker, running_worker
from tests.zoo import add_style, build_zoo
from training.export import export_style, export_trunk, trunk_card
from worker.archive import read_style
from worker.catalog import Catalog, ZooLoader
from worker.contract import (
    ErrorCode,
    JobStatus,
    PictureFormat,
    StyleJob,
    WorkerReport,
    preview_key,
    worker_key,
    workers_key,
)
from worker.errors import JobError
from worker.live_catalog import LiveCatalog
from worker.metrics import WorkerMetrics
from worker.runtimes.torchscript import TorchScriptRuntime

PHOTO = encode(draw_photo(60, 44))


class Zoo:
    """A folder that is served, and others from which files come."""

    def __init__(self, folder: Path) -> None:
        # The same trunk, and four different styles: the values of each depend on how many were made before.
        self.first = build_zoo(folder / "first", ("green", "red"))
        self.second = build_zoo(folder / "second", ("pink", "blue", "red", "green"))
        self.served = Path(shutil.copytree(self.first, folder / "served"))
        self.remove("green")

    def put(self, source: Path, name: str) -> None:
        for ending in ("jpg", "safetensors"):
            shutil.copy(source / f"{name}.{ending}", self.served)

    def spoil(self, name: str) -> None:
        path = self.served / f"{name}.safetensors"
        content = path.read_bytes()
        path.write_bytes(content[:-4] + b"oops")

    def remove(self, name: str) -> None:
        for path in self.served.glob(f"{name}.*"):
            path.unlink()


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path)


class Live:
    """A live catalog without its thread: it looks when it is told to, or when a job misses something."""

    def __init__(self, zoo: Zoo) -> None:
        self.metrics = WorkerMetrics()
        self.published: list[Catalog] = []
        loader = ZooLoader(TorchScriptRuntime("cpu"))
        self.catalog = LiveCatalog(loader, zoo.served, self.metrics, self.published.append)

    def measured(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"impasto_worker_{name}", labels)


def job(**styles: float) -> StyleJob:
    return StyleJob(
        id="0", reply_to="", submitted_at=0, deadline=0, format=PictureFormat.PNG, quality=90, result_ttl_s=1,
        styles=styles,
    )  # fmt: skip


def test_a_job_for_a_style_that_just_came_finds_it(zoo: Zoo) -> None:
    live = Live(zoo)
    with pytest.raises(JobError, match="green"):
        live.catalog.blend(job(green=1.0))
    before = live.catalog.current
    zoo.put(zoo.first, "green")
    trunk, _, _ = live.catalog.blend(job(green=0.5, red=0.5))
    assert trunk is before.styles["red"].trunk
    assert live.catalog.current.styles["red"] is before.styles["red"]
    assert live.catalog.current.upscalers[2] is before.upscalers[2]
    assert live.published == [before, live.catalog.current]
    assert live.measured("zoo_swaps_total") == 1
    assert live.measured("models", task="stylize") == 2


def test_a_spoilt_file_is_refused_and_the_old_one_goes_on(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    live = Live(zoo)
    before = live.catalog.current.styles["red"]
    zoo.spoil("red")
    (zoo.served / "trunk-w4.pt").write_bytes(b"no archive")
    (zoo.served / "x2.pt").write_bytes(b"")
    live.catalog.look()
    assert not caplog.records, "it may be half written"
    live.catalog.look()
    assert {record.getMessage().split()[0] for record in caplog.records} == {"red.safetensors", "trunk-w4.pt", "x2.pt"}
    live.catalog.look()
    assert len(caplog.records) == 3
    assert live.catalog.current.styles == {"red": before}
    assert set(live.catalog.current.upscalers) == {2}
    assert live.measured("zoo_refused") == 3
    for name in ("red.safetensors", "trunk-w4.pt", "x2.pt"):
        shutil.copy(zoo.second / name, zoo.served)
    live.catalog.look()
    after = live.catalog.current.styles["red"]
    assert after.card.digest != before.card.digest
    assert after.trunk is before.trunk
    assert live.measured("zoo_refused") == 0


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_style_that_paints_no_picture_is_refused(zoo: Zoo, value: float) -> None:
    live = Live(zoo)
    before = live.catalog.current.styles["red"]
    card, norm_P = read_style(zoo.served / "red.safetensors")
    export_style(torch.full((len(norm_P),), value), card, zoo.served / "red.safetensors")
    live.catalog.look()
    assert live.catalog.current.styles == {"red": before}
    assert "red.safetensors is refused" in str(live.catalog.current.refused[0])


def test_a_preview_may_come_and_go(zoo: Zoo) -> None:
    live = Live(zoo)
    assert live.catalog.current.style_infos()[0].preview
    (zoo.served / "red.jpg").unlink()
    live.catalog.look()
    assert not live.catalog.current.style_infos()[0].preview
    (zoo.served / "red.jpg").write_bytes(b"another")
    live.catalog.look()
    assert live.catalog.current.styles["red"].preview == b"another"


def test_a_file_that_becomes_another_thing_is_taken_at_its_word(zoo: Zoo) -> None:
    live = Live(zoo)
    build_zoo(zoo.served / "other", (), (), width=8)
    (zoo.served / "other" / "trunk-w8.pt").replace(zoo.served / "x2.pt")
    live.catalog.look()
    assert live.catalog.current.upscalers == {}
    assert live.catalog.current.trunks == ("trunk-w4", "trunk-w8")


def test_what_is_being_written_is_left_alone(zoo: Zoo) -> None:
    live = Live(zoo)
    (zoo.served / ".green-x.safetensors").write_bytes((zoo.first / "green.safetensors").read_bytes())
    (zoo.served / ".pt").mkdir()
    live.catalog.look()
    assert live.catalog.current.refused == ()
    assert set(live.catalog.current.styles) == {"red"}


def test_a_trunk_may_come_after_its_styles(zoo: Zoo, tmp_path: Path) -> None:
    live = Live(zoo)
    own = StyleTrunk(width=4, residual_blocks=1)
    card = trunk_card(own, "blue-only", {})
    (zoo.served / "own").mkdir()
    add_style(zoo.served / "own", card, own, "blue")
    live.catalog.look()
    assert set(live.catalog.current.styles) == {"red"}
    export_trunk(own, card, zoo.served / "own" / "blue-only.pt")
    live.catalog.look()
    assert set(live.catalog.current.styles) == {"blue", "red"}
    assert live.catalog.current.refused == ()


def test_a_removed_style_is_withdrawn(zoo: Zoo) -> None:
    live = Live(zoo)
    zoo.remove("red")
    with pytest.raises(JobError, match="green"):
        live.catalog.blend(job(green=1.0))
    assert live.catalog.current.styles == {}
    assert set(live.catalog.current.upscalers) == {2}


def test_a_zoo_that_vanishes_is_not_taken_for_an_order(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    live = Live(zoo)
    before = live.catalog.current
    for path in zoo.served.iterdir():
        path.unlink()
    for _ in range(2):
        live.catalog.look()
    zoo.served.rmdir()
    for _ in range(2):
        live.catalog.look()
    assert live.catalog.current is before
    assert len(caplog.records) == 2


class Load:
    """Asks for red pictures, one after another, from a thread."""

    def __init__(self, connection: Redis) -> None:
        self._client = Client(connection)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.statuses: list[JobStatus] = []
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            jobs = [self._client.stylize(PHOTO) for _ in range(4)]
            self.statuses += [self._client.wait(job)[0].status for job in jobs]


def wait_for_report(connection: Redis, is_awaited: Callable[[WorkerReport], bool]) -> WorkerReport:
    """The report of the only worker, as soon as it is as awaited. Reports are announced nowhere."""
    while True:
        for name in cast("list[bytes]", connection.zrange(workers_key(), 0, -1)):
            text = cast("bytes | None", connection.get(worker_key(name.decode())))
            if text is not None and is_awaited(report := WorkerReport.from_json(text)):
                return report
        os.sched_yield()


def digest_of(report: WorkerReport, name: str) -> str:
    return next((style.digest for style in report.styles if style.name == name), "")


def test_a_running_worker_follows_its_zoo_and_no_job_fails(redis: RedisServer, zoo: Zoo) -> None:
    digests = [read_style(source / "green.safetensors")[0].digest for source in (zoo.first, zoo.second)]
    with (
        redis.connect() as connection,
        redis.connect() as loading,
        running_worker(redis.url, zoo.served) as worker,
    ):
        client = Client(connection)

        load = Load(loading)

        def model_of_green() -> str:
            result, _ = client.wait(client.stylize(PHOTO, styles={"green": 1.0}))
            assert result.status is JobStatus.FINISHED
            return result.model

        zoo.put(zoo.first, "green")
        assert "new: green" in worker.wait_until_logged("The zoo has changed")
        wait_for_report(connection, lambda report: digest_of(report, "green") == digests[0])
        assert connection.exists(preview_key(digests[0]))
        assert model_of_green() == digests[0]

        zoo.spoil("green")
        worker.wait_until_logged("green.safetensors is refused")
        assert model_of_green() == digests[0]

        zoo.put(zoo.second, "green")
        assert "changed: green" in worker.wait_until_logged("The zoo has changed")
        wait_for_report(connection, lambda report: digest_of(report, "green") == digests[1])
        assert not connection.exists(preview_key(digests[0]))
        assert model_of_green() == digests[1]

        zoo.remove("green")
        assert "gone: green" in worker.wait_until_logged("The zoo has changed")
        wait_for_report(connection, lambda report: not digest_of(report, "green"))
        assert not connection.exists(preview_key(digests[1]))
        assert client.wait(client.stylize(PHOTO, styles={"green": 1.0}))[0].error is ErrorCode.UNKNOWN_STYLE

        zoo.put(zoo.first, "green")  # a job may come before the worker has looked
        assert model_of_green() == digests[0]

        load.stop()
        assert worker.stop() == 0
    assert set(load.statuses) == {JobStatus.FINISHED}


def test_a_worker_that_waits_for_redis_ends_when_asked(zoo: Zoo) -> None:
    worker = Worker(f"redis://127.0.0.1:{free_port()}", zoo.served)
    worker.wait_until_logged("Redis cannot be used")
    assert worker.stop() == 0


def test_a_worker_that_is_asked_for_a_trunk_it_lacks_says_so(zoo: Zoo) -> None:
    worker = Worker("redis://127.0.0.1:1", zoo.served, trunk="trunk-w64")
    _, log = worker.process.communicate(timeout=60)
    assert worker.process.returncode == 2
    assert "IMPASTO_TRUNK is 'trunk-w64', but the zoo's trunks are: trunk-w4." in log.splitlines()[-1]

"""The address that Prometheus and probes ask."""

import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch
from prometheus_client import CollectorRegistry, Gauge

from tests.redis_server import RedisServer, free_port
from tests.worker.running import running_worker
from worker import vitals
from worker.catalog import Catalog
from worker.consumer import BatchWorker
from worker.device_memory import memory_of
from worker.engine import Engine
from worker.metrics import WorkerMetrics
from worker.pipeline import PicturePipeline
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.vitals import MISSED_S, Pulse, serve_vitals


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_probe_hears_of_a_pulse_that_has_stopped() -> None:
    clock, registry = Clock(), CollectorRegistry()
    Gauge("answer", "to it all", registry=registry).set(42)
    pulse = Pulse(clock)
    address = f"http://127.0.0.1:{serve_vitals(registry, pulse, '127.0.0.1', 0)}"

    clock.now_s = 10 * MISSED_S
    assert httpx.get(f"{address}/livez").status_code == 200, "it has not begun to work"
    pulse.beat()
    clock.now_s += MISSED_S / 2
    assert httpx.get(f"{address}/livez").status_code == 200
    clock.now_s += MISSED_S
    assert httpx.get(f"{address}/livez").status_code == 503
    assert "answer 42.0" in httpx.get(f"{address}/metrics").text
    pulse.beat()
    assert httpx.get(f"{address}/livez").status_code == 200


def test_who_connects_and_says_nothing_is_let_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patience_s = vitals._Handler.timeout
    monkeypatch.setattr(vitals._Handler, "timeout", patience_s / 100)
    port = serve_vitals(CollectorRegistry(), Pulse(), "127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as silent:
        assert silent.recv(1) == b""
    assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
    assert "Traceback" not in capsys.readouterr().err


def test_a_worker_lives_while_redis_is_away_and_tells_what_memory_it_takes(redis: RedisServer, small_zoo: Path) -> None:
    port = free_port()
    with running_worker(redis.url, small_zoo, metrics_port=str(port)):
        redis.stop()
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    sizes = dict(re.findall(r"^(impasto_worker_device_memory\w+) (\S+)", metrics, re.MULTILINE))
    used, limit = sizes["impasto_worker_device_memory_bytes"], sizes["impasto_worker_device_memory_limit_bytes"]
    assert 1e7 < float(used) < float(limit)


def test_a_worker_beats(redis: RedisServer) -> None:
    beaten = threading.Event()

    class Heard(Pulse):
        def beat(self) -> None:
            beaten.set()

    with redis.connect() as connection, ThreadPoolExecutor(1) as codec:
        engine, metrics = Engine(None), WorkerMetrics()
        pipeline = PicturePipeline(Catalog(), engine, codec, metrics, max_batch=1)
        worker = BatchWorker(connection, pipeline, "w", metrics, Heard())
        thread = threading.Thread(target=worker.run)
        thread.start()
        assert beaten.wait(30)
        worker.request_stop(0, None)
        thread.join()


def test_memory_of_the_cpu_is_that_of_the_process() -> None:
    memory = memory_of(None)
    assert 1e7 < memory.used() < memory.limit()


def test_memory_of_a_gpu_is_asked_for_by_the_name_that_pytorch_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def mem_get_info(device: str) -> tuple[int, int]:
        asked.append(torch.device(device))
        return 60, 80

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    memory = memory_of(TorchScriptRuntime("cuda:1").gpu)
    assert (memory.used(), memory.limit()) == (20, 80)
    assert set(asked) == {torch.device("cuda:1")}

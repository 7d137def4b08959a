"""A worker on a GPU, or on what it takes for one: what it does there alone, from its start to its end."""

import io
from pathlib import Path

import httpx
import numpy as np
import torch
from PIL import Image

from tests.pictures import draw_photo, encode
from tests.redis_server import RedisServer, free_port
from tests.worker.command import Command
from tests.worker.running import Client, running_worker
from worker.arrays import Pixels
from worker.catalog import ZooLoader
from worker.contract import JobStatus
from worker.engine import Engine, EnlargeTask, PaintTask
from worker.runtimes.cuda_graphs import CALLS_BEFORE
from worker.runtimes.torchscript import TorchScriptRuntime

BEFORE = () if torch.cuda.is_available() else ("tests.pretended_gpu",)
PHOTO = draw_photo(72, 56)


def difference(content: bytes | None, expected_HWC: Pixels) -> float:
    assert content is not None
    with Image.open(io.BytesIO(content)) as image:
        return float(np.abs(np.asarray(image.convert("RGB")).astype(int) - expected_HWC.astype(int)).mean())


def test_a_worker_on_a_gpu_paints_enlarges_and_tells_its_memory(
    redis: RedisServer, client: Client, small_zoo: Path
) -> None:
    port = free_port()
    catalog = ZooLoader(TorchScriptRuntime("cpu")).load(small_zoo)
    red, pixels_HWC = catalog.styles["red"], np.asarray(PHOTO)
    painted = Engine(1_000_000).run([PaintTask(pixels_HWC, red.trunk, red.norm_P)])[0]
    enlarged = Engine(1_000_000).run([EnlargeTask(pixels_HWC, catalog.upscalers[2])])[0]
    assert isinstance(painted, np.ndarray)
    assert isinstance(enlarged, np.ndarray)
    settings = {
        "devices": "cuda:0",
        "cuda_graphs": "true",
        "gpu_jpeg": "true",
        "metrics_port": str(port),
        "max_batch": "2",
    }
    with running_worker(redis.url, small_zoo, (*BEFORE, "worker"), **settings) as worker:
        # Often enough that the shape is recorded.
        for _ in range(CALLS_BEFORE + 2):
            result, content = client.wait(client.stylize(encode(PHOTO, "PNG")))
            assert result.status is JobStatus.FINISHED
            assert difference(content, painted) < 1
        # Batches that go to a device which is at another one.
        for sent in [client.stylize(encode(PHOTO, "PNG")) for _ in range(12)]:
            result, content = client.wait(sent)
            assert result.status is JobStatus.FINISHED
            assert difference(content, painted) < 1
        result, content = client.wait(client.upscale(encode(PHOTO, "PNG")))
        assert result.status is JobStatus.FINISHED
        assert difference(content, enlarged) < 1
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics")
        assert metrics.status_code == 200
        assert "impasto_worker_device_memory_limit_bytes" in metrics.text
        assert worker.stop() == 0


def test_the_doctor_names_the_gpu_that_is_asked_for(tmp_path: Path, small_zoo: Path) -> None:
    gpu = f"cuda:{torch.cuda.device_count() - 1}" if torch.cuda.is_available() else "cuda:1"
    ran = Command(tmp_path, small_zoo, (*BEFORE, "worker.cli")).run("doctor", settings={"DEVICES": gpu, "PORT": "0"})
    assert ran.status == 0, ran.text
    assert f"{gpu} float16, computed by torchscript; " in ran.text
    assert "GB free" in ran.text

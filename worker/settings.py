"""Settings of a worker, from `IMPASTO_*` environment variables and `.env`."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SHIPPED_ZOO = Path(__file__).parents[1] / "models" / "zoo"


class WorkerSettings(BaseSettings):
    """Everything a worker can be told."""

    model_config = SettingsConfigDict(env_prefix="IMPASTO_", env_file=".env", extra="ignore", frozen=True)

    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey that holds the queue")
    zoo_dir: Path = Field(SHIPPED_ZOO, description="folder of the checkpoints to serve")
    device: str = Field("auto", description="`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`")
    runtime: Literal["auto", "openvino", "torchscript"] = Field(
        "auto", description="`auto` is OpenVINO on a CPU, TorchScript on a GPU or where OpenVINO is missing"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="`auto` is the half precision that the device computes fastest, else float32"
    )
    threads: int = Field(0, ge=0, description="CPU threads of the network; 0 for all cores")
    max_batch: int = Field(8, ge=1, description="most jobs that a worker takes at once")
    batch_megapixels: float = Field(4.0, gt=0, le=math.inf, description="pixels that go to the device at once")
    metrics_host: str = Field("127.0.0.1", description="address of the worker's Prometheus metrics")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of the worker's Prometheus metrics; 0 for none")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")

"""Settings of a worker, from `IMPASTO_*` environment variables and `.env`."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.errors import StartError

PREFIX = "IMPASTO_"
SHIPPED_ZOO = Path(__file__).parents[1] / "models" / "zoo"

_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")
NOT_TEXT = "The file .env in this folder cannot be read: it must be text in UTF-8."


class WorkerSettings(BaseSettings):
    """Everything a worker can be told."""

    model_config = SettingsConfigDict(env_prefix="IMPASTO_", env_file=".env", extra="ignore", frozen=True)

    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey that holds the queue")
    zoo_dir: Path = Field(SHIPPED_ZOO, description="folder of the checkpoints to serve")
    trunk: str = Field("trunk-w16", description="name of the trunk that counts where styles of one name have several")
    devices: Annotated[tuple[str, ...], NoDecode] = Field(
        ("auto",),
        # The second is the name of old, when a worker had one device.
        validation_alias=AliasChoices(f"{PREFIX}DEVICES", f"{PREFIX}DEVICE"),
        description="`auto` (every GPU there is, else the CPU), or a list such as `cuda:0,cuda:1` or `cpu`",
    )
    processes_per_device: int = Field(1, ge=1, le=64, description="worker processes on each device")
    runtime: Literal["auto", "openvino", "torchscript"] = Field(
        "auto", description="`auto` is OpenVINO on a CPU, TorchScript on a GPU or where OpenVINO is missing"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="`auto` is the half precision that the device computes fastest, else float32"
    )
    cuda_graphs: bool = Field(
        False, description="whether a GPU records batches of sizes that come again and again, and replays them"
    )
    gpu_jpeg: bool = Field(
        False, description="whether a GPU decodes the JPEGs to be painted that it is found to decode sooner than Pillow"
    )
    threads: int = Field(0, ge=0, description="CPU threads of one process's network; 0 divides all cores")
    max_batch: int = Field(32, ge=1, description="most pictures that go to the device at once")
    batch_megapixels: float | None = Field(
        None, gt=0, le=1000, description="pixels that go to the device at once; without it each network is measured"
    )
    max_batch_delay_ms: float = Field(
        0, ge=0, le=10_000, description="how long a free device waits for a batch to fill; 0 for not at all"
    )
    device_timeout_s: float = Field(
        120,
        gt=0,
        le=86400,
        description="seconds for a batch or a tile; past them the device counts as hung",
    )
    metrics_host: str = Field("127.0.0.1", description="address of the worker's Prometheus metrics")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port of the first process's Prometheus metrics, the others follow; 0 for none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")

    @classmethod
    def load(cls, devices: str | None = None, processes_per_device: int | None = None) -> Self:
        """Reads the environment; what is given here counts before it. Raises `StartError`."""
        given = {f"{PREFIX}DEVICES": devices, "processes_per_device": processes_per_device}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise StartError(_sentence(error)) from error
        except UnicodeDecodeError as error:
            raise StartError(NOT_TEXT) from error

    @property
    def device(self) -> str:
        """The one device of a process that is no pool; `auto` where nobody has chosen."""
        return self.devices[0]

    @field_validator("devices", mode="before")
    @classmethod
    def _split_devices(cls, devices: object) -> object:
        if not isinstance(devices, str):
            return devices
        return tuple(device.strip() for device in devices.split(",") if device.strip()) or ("auto",)

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        if devices == ("auto",):
            return devices
        for device in devices:
            if not _DEVICE.fullmatch(device):
                raise ValueError(f"{device!r} is none of auto, cpu, cuda and cuda:N")
        if len(set(devices)) < len(devices):
            raise ValueError("a device is named twice; IMPASTO_PROCESSES_PER_DEVICE is for several processes on one")
        return devices


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return NOT_TEXT
    name = str(first["loc"][0]).upper().removeprefix(PREFIX)
    reason = first["msg"].removeprefix("Value error, ")
    return f"{PREFIX}{name} cannot be used: {reason[0].lower()}{reason[1:]}."

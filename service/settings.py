"""What an operator can set, from the environment or a `.env` file."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.connection import parse_url

PREFIX = "IMPASTO_"
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""As browsers write it, or any."""


class SettingsError(Exception):
    """A setting has a value that cannot be used; the message is one sentence that names it."""


class Settings(BaseSettings):
    """The service's settings. Each field is the environment variable `IMPASTO_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", min_length=1, description="Address the service listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the service listens on; 0 takes a free one.")
    redis_url: str | None = Field(
        None,
        repr=False,  # may hold a password
        description="Redis or Valkey that holds the queue; without it `python -m service` starts its own.",
    )
    zoo_dir: Path | None = Field(
        None, description="Folder of checkpoints for the embedded worker; without it the shipped ones."
    )
    max_upload_mb: float = Field(50, gt=0, description="Largest upload, in megabytes.")
    # Cameras "of 50 megapixels" make files of up to 50.4.
    max_megapixels: float = Field(52, gt=0, description="Largest picture taken, in megapixels.")
    max_output_megapixels: float = Field(150, gt=0, description="Largest picture given back, in megapixels.")
    max_queue: int = Field(256, ge=1, description="Jobs that may wait in each lane; past them the answer is 503.")
    max_queue_mb: float = Field(
        1024, gt=0, description="Megabytes of uploads and unfetched results in Redis; past them the answer is 503."
    )
    upload_timeout_s: float = Field(30, gt=0, description="Seconds in which an upload must have arrived.")
    request_timeout_s: float = Field(60, gt=0, description="Seconds a request waits for its picture.")
    result_ttl_s: int = Field(600, ge=1, description="Seconds an asynchronous job may wait and its result is kept.")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="Comma-separated API keys; without them the service is open."
    )

    rate_limit: float = Field(
        0, ge=0, le=1e6, description="Pictures a second that one API key, else one address, may ask for; 0: any number."
    )
    rate_burst: int = Field(20, ge=1, le=100_000, description="Pictures that it may ask for at once before that.")
    forwarded_allow_ips: str = Field(
        "127.0.0.1",
        description="Comma-separated proxies whose `X-Forwarded-For` tells the client's address; * for all.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated origins whose pages may call the API; * for all."
    )
    cache_ttl_s: int = Field(0, ge=0, description="Seconds a picture is kept for requests that repeat; 0: not at all.")
    cache_mb: float = Field(256, gt=0, description="Megabytes of Redis that such pictures may fill.")

    @classmethod
    def load(cls) -> Self:
        """Reads the environment. Raises `SettingsError`."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from error
        except UnicodeDecodeError as error:
            raise SettingsError("The file .env in this folder cannot be read: it must be text in UTF-8.") from error

    @property
    def max_upload_bytes(self) -> int:
        """Largest upload in bytes."""
        return int(self.max_upload_mb * 1_000_000)

    @property
    def max_queue_bytes(self) -> int:
        """Most bytes of uploads and unfetched results in Redis."""
        return int(self.max_queue_mb * 1_000_000)

    @property
    def cache_bytes(self) -> int:
        """Most bytes of pictures kept for requests that repeat."""
        return int(self.cache_mb * 1_000_000)

    @property
    def max_pixels(self) -> int:
        """Largest picture taken, in pixels."""
        return int(self.max_megapixels * 1_000_000)

    @property
    def max_output_pixels(self) -> int:
        """Largest picture given back, in pixels."""
        return int(self.max_output_megapixels * 1_000_000)

    @field_validator("max_queue_mb")
    @classmethod
    def _check_max_queue_mb(cls, megabytes: float, info: ValidationInfo) -> float:
        upload = info.data.get("max_upload_mb", 0)
        if megabytes < upload:
            raise ValueError(f"it must be at least IMPASTO_MAX_UPLOAD_MB, which is {upload:g}")
        return megabytes

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if not url:
            return None
        if not url.startswith(REDIS_SCHEMES):
            raise ValueError(f"it must start with {', '.join(REDIS_SCHEMES)}")
        try:
            parse_url(url)  # type: ignore[no-untyped-call]
        except ValueError:
            # Not what parse_url says: it would quote a password.
            raise ValueError("it is no address of a Redis; write a password's special characters as %2F") from None
        return url

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, values: object) -> object:
        if not isinstance(values, str):
            return values
        return tuple(value.strip() for value in values.split(",") if value.strip())

    @field_validator("cors_origins")
    @classmethod
    def _check_cors_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin[:64]!r} must be scheme://host or scheme://host:port, in lower case, or *")
        return origins


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = PREFIX + str(first["loc"][0]).upper()
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name} cannot be used: {reason[0].lower()}{reason[1:]}."

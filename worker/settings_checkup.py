"""The doctor's look at the settings: what is in force, and names that nothing reads."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from dotenv import dotenv_values
from pydantic import AliasChoices

from worker.findings import Finding, bad, doubtful, good
from worker.settings import WorkerSettings

PREFIX = "IMPASTO_"
TIMEOUT_S = 60


@dataclass(frozen=True)
class ServiceSettings:
    """What the service says of its own settings; this package may not import it."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    """A sentence, if it cannot start."""


def read_service_settings() -> ServiceSettings:
    """Asks the service, in a process of its own, from the same environment."""
    command = [sys.executable, "-m", "service.effective"]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)  # noqa: S603
        if done.returncode == 0:
            return ServiceSettings(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        return ServiceSettings(error=f"It cannot be asked: {error}.")
    said = done.stderr.strip().splitlines()
    return ServiceSettings(error=said[-1] if said else f"It ended with status {done.returncode}.")


def check_names(service: ServiceSettings) -> Iterator[Finding]:
    """Settings that somebody made and nobody reads: mostly typing errors."""
    if service.error is not None:
        yield bad("settings", service.error, "Set it to a value that docs/configuration.md allows.")
        return
    known = {f"{PREFIX}{name.upper()}" for name in (*service.fields, *WorkerSettings.model_fields)} | _aliases()
    made = {name.upper() for name in (*os.environ, *dotenv_values(".env")) if name.upper().startswith(PREFIX)}
    yield good("settings", f"set here: {', '.join(sorted(made & known)) or 'none, all are at their defaults'}")
    for name in sorted(made - known):
        near = get_close_matches(name, known, 1)
        yield doubtful("settings", f"{name} is set, but nothing reads it.", f"Did you mean {near[0]}?" if near else
                       "Remove it, or look its name up in docs/configuration.md.")  # fmt: skip


def _aliases() -> set[str]:
    """Names of old that are still read."""
    aliases = (setting.validation_alias for setting in WorkerSettings.model_fields.values())
    return {str(name) for alias in aliases if isinstance(alias, AliasChoices) for name in alias.choices}


def check_limits(service: ServiceSettings, settings: WorkerSettings) -> Finding:
    """Everything in force that is no secret, the service's and the worker's."""
    hidden = {"redis_url", "api_keys", "zoo_dir"}
    worker = settings.model_dump(mode="json")
    joined = {name: value for name, value in {**worker, **service.fields}.items() if name not in hidden}
    return good("limits", ", ".join(f"{name} {_short(value)}" for name, value in sorted(joined.items())))


def _short(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)

"""The compose file as data."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def services(file: str = "docker-compose.yml") -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read_yaml(ROOT / file)["services"]
    return found


def tool(name: str) -> str:
    """A program that a package of the development extra brings along."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or name


def fixed_environment(service: str) -> dict[str, str]:
    """What the compose file itself sets for a service, without what it takes from `.env`."""
    environment = services()[service]["environment"]
    return {name: str(value) for name, value in environment.items() if value is not None and "${" not in str(value)}

"""Files that are not in the repository: the loss network, photos, benchmarks."""

import os
from pathlib import Path

import pytest

ASSETS_DIR = Path(os.environ.get("ASSETS_DIR", Path(__file__).parents[2] / "shared" / "assets"))


def asset(name: str) -> Path:
    """The path of an asset; skips the test where there is none."""
    path = ASSETS_DIR / name
    if not path.exists():
        pytest.skip(f"there is no {name} in ASSETS_DIR ({ASSETS_DIR})")
    return path

from pathlib import Path

import pytest

from tests.zoo import build_zoo


@pytest.fixture(scope="session")
def small_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of untrained networks: styles red and blue, factor 2. Not to be written to."""
    return build_zoo(tmp_path_factory.mktemp("zoo"))

"""What can be set and what is measured is written down."""

import re
from pathlib import Path

import pytest

from service.metrics import Metrics
from service.settings import Settings
from worker.metrics import WorkerMetrics
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("settings", [Settings, WorkerSettings])
def test_every_setting_is_documented(settings: type[Settings] | type[WorkerSettings]) -> None:
    missing = [f"IMPASTO_{name.upper()}" for name in settings.model_fields if f"`IMPASTO_{name.upper()}`" not in TEXT]
    assert not missing


@pytest.mark.parametrize("metrics", [Metrics(), WorkerMetrics()], ids=["service", "worker"])
def test_every_metric_is_documented(metrics: Metrics | WorkerMetrics) -> None:
    names = {family.name for family in metrics.registry.collect() if family.name.startswith("impasto_")}
    assert names
    assert not [name for name in names if f"`{name}" not in TEXT]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"

"""What can be set and what is measured is written down."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from service.metrics import Metrics
from service.settings import Settings
from worker.cli import app
from worker.metrics import WorkerMetrics
from worker.settings import SHIPPED_ZOO, WorkerSettings

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


def rows(section: str) -> dict[str, str]:
    """The settings in that section of the page, and the defaults it gives."""
    body = re.split(r"^## ", CONFIGURATION.read_text(), flags=re.MULTILINE)
    text = next(part for part in body if part.startswith(f"{section}\n"))
    return dict(re.findall(r"^\| `(IMPASTO_\w+)` \| (?:`(.*?)`)? ?\|", text, flags=re.MULTILINE))


def written(default: object) -> str:
    """A default as the page writes it."""
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return str(default).lower()
    if default == SHIPPED_ZOO:
        return str(SHIPPED_ZOO.relative_to(ROOT))
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize(("section", "settings"), [("Service", Settings), ("Worker", WorkerSettings)])
def test_every_setting_has_its_row_with_its_default(
    section: str, settings: type[Settings] | type[WorkerSettings]
) -> None:
    in_code = {f"IMPASTO_{name.upper()}": written(field.default) for name, field in settings.model_fields.items()}
    assert rows(section) == in_code


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command of `impasto` and the names of its options."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        yield name, [option for parameter in command.params for option in parameter.opts if option.startswith("-")]


@pytest.mark.parametrize(("command", "options"), [pytest.param(*pair, id=pair[0]) for pair in commands()])
def test_every_command_and_option_is_documented(command: str, options: list[str]) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert f"`impasto {command}" in page
    assert not [option for option in options if f"`{option}`" not in page]


@pytest.mark.parametrize("metrics", [Metrics(), WorkerMetrics()], ids=["service", "worker"])
def test_every_metric_is_documented(metrics: Metrics | WorkerMetrics) -> None:
    names = {family.name for family in metrics.registry.collect() if family.name.startswith("impasto_")}
    assert names
    assert not [name for name in names if f"`{name}" not in TEXT]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"

"""Puts the tables of the last runs into the documentation: `python -m benchmarks.document`.

In `docs/performance.md` the tables of `results/engine.json` stand between `<!-- engine -->` and `<!-- /engine -->`.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, Goal, Table, goals_table

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def main() -> None:
    """Fills in what there is; a benchmark without a result keeps what stands there."""
    parser = argparse.ArgumentParser("python -m benchmarks.document", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown file with the marks")
    chosen = parser.parse_args()
    text = chosen.page.read_text()
    for path in sorted(chosen.results.glob("*.json")):
        text = _fill(text, path.stem, json.loads(path.read_text()))
    chosen.page.write_text(text)


def _fill(text: str, name: str, result: dict[str, Any]) -> str:
    marked = re.compile(rf"(<!-- {re.escape(name)} -->).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    content = "\n".join([_describe(result["machine"]), *(table.markdown() for table in _tables(result))])
    return marked.sub(lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text)


def _tables(result: dict[str, Any]) -> list[Table]:
    tables = [
        Table(table["title"], tuple(table["columns"]), list(map(tuple, table["rows"]))) for table in result["tables"]
    ]
    goals = [Goal(goal["name"], goal["value"], goal["at_least"], goal["at_most"]) for goal in result["goals"]]
    return [*tables, goals_table(goals)] if goals else tables


def _describe(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    device = f", {machine['gpu']}" if machine["gpu"] else ""
    settings = ", ".join(f"`{name}={value}`" for name, value in machine["settings"].items())
    return (
        f"Measured on {machine['cores']} cores of {machine['processor']}{device}, {machine['memory_gb']:.0f} GB, "
        f"load {machine['load_before']:.1f} before the start; Python {machine['python']}, {packages}"
        f"{'; ' + settings if settings else ''}."
    )


if __name__ == "__main__":
    main()

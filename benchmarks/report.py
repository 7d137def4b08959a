"""What a benchmark leaves behind: tables on the terminal, and the same as JSON."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"

Cell = str | int | float | None


@dataclass
class Table:
    """Rows under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """One more row; none is an empty cell."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{self.title}: a row of {len(cells)} cells under {len(self.columns)} columns")
        self.rows.append(cells)

    def markdown(self) -> str:
        """The table as Markdown, its columns aligned."""
        lines = [list(self.columns), *([show(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        text = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
        text.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
        return "\n".join([f"\n**{self.title}**\n", *text])


@dataclass(frozen=True)
class Goal:
    """Something that a number should reach."""

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the number is where it should be. NaN never is."""
        low = self.at_least is None or self.value >= self.at_least
        high = self.at_most is None or self.value <= self.at_most
        return low and high and self.value == self.value

    @property
    def bound(self) -> str:
        """The goal as a person would write it."""
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


@dataclass
class Report:
    """The result of one benchmark."""

    benchmark: str
    options: Namespace
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    machine: dict[str, object] = field(default_factory=describe_machine)

    def table(self, title: str, *columns: str) -> Table:
        """A new table, to be filled."""
        self.tables.append(Table(title, columns))
        return self.tables[-1]

    def finish(self) -> bool:
        """Prints everything and writes the JSON. Returns whether all goals are met."""
        for table in [*self.tables, goals_table(self.goals)]:
            if table.rows:
                print(table.markdown())
        path: Path = self.options.output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._document(), indent=1) + "\n")
        print(f"\nWritten to {path}.")
        return all(goal.is_met for goal in self.goals)

    def _document(self) -> dict[str, object]:
        return {
            "benchmark": self.benchmark,
            "options": {name: str(value) for name, value in vars(self.options).items() if name != "output"},
            "machine": self.machine,
            "tables": [asdict(table) for table in self.tables],
            "goals": [{**asdict(goal), "met": goal.is_met} for goal in self.goals],
        }


def goals_table(goals: Sequence[Goal]) -> Table:
    """The goals as rows."""
    table = Table("Goals", ("goal", "measured", "wanted", "met"))
    for goal in goals:
        table.add(goal.name, goal.value, goal.bound, "yes" if goal.is_met else "no")
    return table


def show(cell: Cell) -> str:
    """A cell as text: numbers with three figures."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)


def options(benchmark: str, description: str) -> ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = ArgumentParser(f"python -m benchmarks.{benchmark}", description=description)
    parser.add_argument("--quick", action="store_true", help="a try in under a minute: fewer cases, less time for each")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{benchmark}.json", help="where the JSON goes")
    return parser


def numbers(text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers, for options."""
    return tuple(int(part) for part in text.split(","))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of them are not above (nearest rank); NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank) - 1, 0)]

"""The table of styles that `training.evaluate` writes, as Markdown."""

from collections.abc import Sequence
from statistics import fmean

from training.optimize import iterations_to_reach
from training.report import table
from training.rivals import STARTS, Curve, mean_curve
from training.style_quality import Pair, StyleMeasures, StyleResult

ITERATIONS = (10, 20, 30, 50, 100, 300)
MEAN = "**mean**"


def styles_report(measures: StyleMeasures, heading: str) -> str:
    """What each trunk reaches in each style, and which iteration of direct optimisation it equals."""
    sections = [f"# Styles\n\n{heading}"]
    for size in sorted({result.size for result in measures.results}):
        sections.append(f"## {size} x {size} px\n\n{_objective_table(measures, size)}")
        starts = {start: _at(measures, start, size) for start in STARTS}
        if any(starts.values()):
            text, rivals = _rivals_text(measures, starts, size), _rivals_table(measures, starts)
            sections.append(f"### Beside direct optimisation, {size} x {size} px\n\n{text}\n\n{rivals}")
    return "\n\n".join(sections) + "\n"


def _at(measures: StyleMeasures, start: str, size: int) -> dict[Pair, Curve]:
    return {pair: curve for pair, curve in measures.curves[start].items() if pair[2] == size}


def _trunks(measures: StyleMeasures) -> list[str]:
    return list(dict.fromkeys(result.trunk for result in measures.results))


def _of(results: Sequence[StyleResult], trunk: str, style: str) -> list[StyleResult]:
    return [result for result in results if result.trunk == trunk and style in (result.style, MEAN)]


def _objective_table(measures: StyleMeasures, size: int) -> str:
    results = [result for result in measures.results if result.size == size]
    trunks = _trunks(measures)
    rows = []
    for style in (*sorted({result.style for result in results}), MEAN):
        rows.append([style, *(cell for trunk in trunks for cell in _objective_cells(_of(results, trunk, style)))])
    parts = ("content", "style", "objective")
    return table(["style", *(f"{trunk}: {part}" for trunk in trunks for part in parts)], rows)


def _objective_cells(results: Sequence[StyleResult]) -> list[str]:
    if not results:
        return ["-"] * 3
    content, style = fmean(result.content for result in results), fmean(result.style_loss for result in results)
    return [f"{content:.2f}", f"{style:.2f}", f"{content + style:.2f}"]


def _rivals_text(measures: StyleMeasures, starts: dict[str, dict[Pair, Curve]], size: int) -> str:
    counts = ", ".join(
        f"from {start} on {len({photo for _, photo, _ in curves})} photo(s), {len(curves)} pairs of style and photo"
        for start, curves in starts.items()
        if curves
    )
    iteration = measures.iteration_seconds[size]
    speeds = [
        f"{trunk} takes {1000 * seconds:.0f} ms a picture, **{300 * iteration / seconds:,.0f} times as fast** as 300"
        for trunk, seconds in ((trunk, measures.paint_seconds[trunk, size]) for trunk in _trunks(measures))
    ]
    return (
        f"L-BFGS on the pixels: {counts}. Means are over these pairs, for the trunks too. "
        f"An iteration takes {iteration:.2f} s; {'; '.join(speeds)}."
    )


def _rivals_table(measures: StyleMeasures, starts: dict[str, dict[Pair, Curve]]) -> str:
    curves = [curve for of_start in starts.values() for curve in of_start.values()]
    reached = [iteration for iteration in ITERATIONS if iteration < max(map(len, curves))]
    rows = []
    for start, of_start in starts.items():
        for style in (*sorted({pair[0] for pair in of_start}), MEAN) if of_start else ():
            own = {pair: curve for pair, curve in of_start.items() if style in (pair[0], MEAN)}
            rows.append([style, start, *_rival_cells(measures, own, reached)])
    trunks = [f"{trunk} ({what})" for trunk in _trunks(measures) for what in ("objective", "equals iteration")]
    return table(["style", "from", *(f"after {iteration}" for iteration in reached), *trunks], rows)


def _rival_cells(measures: StyleMeasures, curves: dict[Pair, Curve], reached: Sequence[int]) -> list[str]:
    curve = mean_curve(list(curves.values()))
    cells = [f"{curve[iteration]:.2f}" if iteration < len(curve) else "-" for iteration in reached]
    for trunk in _trunks(measures):
        own = [result.total for result in measures.results if result.trunk == trunk and result.pair in curves]
        # A trunk that lacks some of these styles cannot be set beside the mean of all.
        cells += _equal_cells(curve, fmean(own)) if len(own) == len(curves) else ["-", "-"]
    return cells


def _equal_cells(curve: Curve, total: float) -> list[str]:
    equal = iterations_to_reach(curve, total)
    return [f"{total:.2f}", f"over {len(curve) - 1}" if equal is None else f"{equal:.1f}"]

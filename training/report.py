"""The tables that `training.evaluate` writes, as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

from training.optimize import iterations_to_reach
from training.style_quality import STARTS, Rival, StyleResult, mean_curve, mean_total
from training.upscale_quality import UpscaleResult

ITERATIONS = (10, 20, 30, 50, 100, 300)


@dataclass(frozen=True)
class Published:
    """Numbers of others for x4, by benchmark."""

    method: str
    lpips: Mapping[str, float] = field(default_factory=dict)
    psnr: Mapping[str, float] = field(default_factory=dict)


PUBLISHED = (
    Published("bicubic (published)", lpips={"Set5": 0.3407, "Set14": 0.4393, "BSD100": 0.5249}),
    Published("Johnson et al. 2016 (published)", psnr={"Set5": 27.09, "Set14": 24.99, "BSD100": 24.95}),
    Published("SRGAN (published)", lpips={"Set5": 0.0882, "Set14": 0.1663, "BSD100": 0.1980}),
    Published("ESRGAN (published)", lpips={"Set5": 0.0748, "Set14": 0.1329, "BSD100": 0.1614}),
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def styles_report(results: Sequence[StyleResult], heading: str) -> str:
    """What each style reaches, and which iteration of direct optimisation it equals."""
    sections = [f"# Styles\n\n{heading}"]
    for size in sorted({result.size for result in results}):
        at_size = [result for result in results if result.size == size]
        sections.append(f"## {size} x {size} px\n\n{_objective_table(at_size)}")
        compared = [result for result in at_size if len(result.rivals) == len(STARTS)]
        if compared:
            sections.append(f"### Beside direct optimisation\n\n{_rivals_text(compared)}\n\n{_rivals_table(compared)}")
    return "\n\n".join(sections) + "\n"


def _objective_table(results: Sequence[StyleResult]) -> str:
    names = sorted({result.style for result in results})
    rows = [_objective_row(name, [result for result in results if result.style == name]) for name in names]
    rows.append(_objective_row("**mean**", results))
    return table(["style", "content", "style", "objective"], rows)


def _objective_row(name: str, results: Sequence[StyleResult]) -> list[str]:
    content = mean(result.content for result in results)
    style = mean(result.style_loss for result in results)
    return [name, f"{content:.2f}", f"{style:.2f}", f"{mean_total(results):.2f}"]


def _rivals_text(results: Sequence[StyleResult]) -> str:
    seconds = mean(result.seconds for result in results)
    rival_seconds = mean(rival.seconds for result in results for rival in result.rivals.values())
    return (
        f"Over {len(results)} pairs of style and photo. The network takes {1000 * seconds:.0f} ms a picture, "
        f"an iteration {rival_seconds:.2f} s: **{300 * rival_seconds / seconds:,.0f} times as fast** as 300 iterations."
    )


def _rivals_table(results: Sequence[StyleResult]) -> str:
    longest = min(len(rival.curve) for result in results for rival in result.rivals.values()) - 1
    reached = [iteration for iteration in ITERATIONS if iteration <= longest]
    names = sorted({result.style for result in results})
    rows = []
    for start in STARTS:
        for name in (*names, "**mean**"):
            own = [result for result in results if name in (result.style, "**mean**")]
            rows.append([name, start, *_rival_cells(own, [result.rivals[start] for result in own], reached)])
    head = ["style", "from", *(f"after {iteration}" for iteration in reached), "network", "equals iteration"]
    return table(head, rows)


def _rival_cells(results: Sequence[StyleResult], rivals: Sequence[Rival], reached: Sequence[int]) -> list[str]:
    curve = mean_curve(rivals)
    total = mean_total(results)
    equal = iterations_to_reach(curve, total)
    values = [f"{curve[iteration]:.2f}" for iteration in reached]
    return [*values, f"{total:.2f}", f"over {len(curve) - 1}" if equal is None else str(equal)]


def upscale_report(results: Sequence[UpscaleResult], heading: str) -> str:
    """A table per factor; the published anchors stand in that of x4."""
    sections = [f"# Upscalers\n\n{heading}"]
    for factor in sorted({result.factor for result in results}):
        own = [result for result in results if result.factor == factor]
        sections.append(f"## x{factor}\n\n{_upscale_table(own, with_published=factor == 4)}")
    return "\n\n".join(sections) + "\n"


def _upscale_table(results: Sequence[UpscaleResult], *, with_published: bool) -> str:
    benchmarks = list(dict.fromkeys(result.benchmark for result in results))
    cells = {(result.method, result.benchmark): result.quality for result in results}
    rows = []
    for method in dict.fromkeys(result.method for result in results):
        row = [method]
        for benchmark in benchmarks:
            quality = cells[method, benchmark]
            row.append(f"{quality.psnr:.2f} / {quality.ssim:.4f} / {quality.lpips:.4f}")
        rows.append([*row, f"{max(cells[method, benchmark].colour_error for benchmark in benchmarks):.2f}"])
    if with_published:
        rows += [_published_row(benchmarks, anchor) for anchor in PUBLISHED]
    return table(["PSNR / SSIM / LPIPS", *benchmarks, "mean colour off by, of 255"], rows)


def _published_row(benchmarks: Sequence[str], anchor: Published) -> list[str]:
    cells = []
    for name in benchmarks:
        psnr = f"{anchor.psnr[name]:.2f}" if name in anchor.psnr else "-"
        lpips = f"{anchor.lpips[name]:.4f}" if name in anchor.lpips else "-"
        cells.append(f"{psnr} / - / {lpips}")
    return [anchor.method, *cells, "-"]

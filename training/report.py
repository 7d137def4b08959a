"""The tables that `training.evaluate` writes, as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.upscale_quality import UpscaleResult, farthest


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
        colour = farthest([cells[method, benchmark].colour for benchmark in benchmarks])
        grid = " / ".join(f"{cells[method, benchmark].grid:+.1f}" for benchmark in benchmarks)
        repetition = " / ".join(f"{cells[method, benchmark].repetition:.3f}" for benchmark in benchmarks)
        of_jpeg = " / ".join(f"{cells[method, benchmark].lpips_of_jpeg:.4f}" for benchmark in benchmarks)
        rows.append([*row, of_jpeg, " / ".join(f"{difference:+.2f}" for difference in colour), grid, repetition])
    if with_published:
        rows += [_published_row(benchmarks, anchor) for anchor in PUBLISHED]
    means = ["LPIPS of JPEG", "mean R / G / B off by, of 255", "grid, dB", "repetition"]
    return table(["PSNR / SSIM / LPIPS", *benchmarks, *means], rows)


def _published_row(benchmarks: Sequence[str], anchor: Published) -> list[str]:
    cells = []
    for name in benchmarks:
        psnr = f"{anchor.psnr[name]:.2f}" if name in anchor.psnr else "-"
        lpips = f"{anchor.lpips[name]:.4f}" if name in anchor.lpips else "-"
        cells.append(f"{psnr} / - / {lpips}")
    return [anchor.method, *cells, "-", "-", "-", "-"]

"""Pictures that go through the device in tiles: `python -m benchmarks.large`.

How near a painting in tiles is to the same in one piece; and the most memory that a process of its own held which did
nothing else.
"""

import multiprocessing
import os
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pictures import draw_pixels
from benchmarks.processes import forget_peak, peak_mb
from benchmarks.report import Report, options
from worker.arrays import Pixels
from worker.engine import Engine, EngineTask, EnlargeTask, PaintTask
from worker.errors import JobError
from worker.limits import UNMEASURED_PX
from worker.settings import WorkerSettings
from worker.tiles import plan_even_tiles
from worker.workbench import open_workbench

TILE_PX = 1_000_000
WHOLE_PX = 10**9
"""More pixels than any photo here has."""


def main() -> None:
    """Runs the benchmark."""
    parser = options("large", "How near a painting in tiles is to one in one piece, and the memory that both take.")
    parser.add_argument("--photo", type=Path, help="a photo to be enlarged and painted instead of a drawing")
    parser.add_argument("--style", default="candy", help="style of the shipped zoo")
    parser.add_argument("--compare", type=float, default=6, help="megapixels of the painting that is compared")
    parser.add_argument("--stylize", type=float, default=24, help="megapixels painted for the memory that it takes")
    parser.add_argument("--upscale", type=float, default=4, help="megapixels enlarged 4 times for the same")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.compare, chosen.stylize, chosen.upscale = 2, 5, 0.5
    report = Report("large", chosen)
    # Before this process grows: a new one counts as its own what its parent held.
    _measure_memory(report, chosen)
    _compare(report, chosen)
    report.finish()


def _measure_memory(report: Report, chosen: Namespace) -> None:
    table = report.table(
        "One picture in a process of its own",
        *("task", "megapixels", "s", "memory before, MB", "most memory, MB"),
    )
    sizes = {"stylize": chosen.stylize, "upscale x4": chosen.upscale}
    for task, megapixels in sizes.items():
        with multiprocessing.get_context("spawn").Pool(1) as process:
            table.add(task, megapixels, *process.apply(_run_alone, (task, megapixels, chosen.style)))


def _run_alone(task: str, megapixels: float, style: str) -> tuple[float, float, float]:
    """Seconds, and MB before and at the most."""
    bench = open_workbench(WorkerSettings())
    pixels_HWC = draw_pixels(*_size_for(megapixels))
    trunk, norm_P = bench.catalog.styles[style].trunk, bench.catalog.styles[style].norm_P
    paint, enlarge = PaintTask(pixels_HWC, trunk, norm_P), EnlargeTask(pixels_HWC, bench.catalog.upscalers[4])
    forget_peak(os.getpid())
    before_mb, started = peak_mb(os.getpid()), time.perf_counter()
    _compute(bench.engine, paint if task == "stylize" else enlarge)
    return time.perf_counter() - started, before_mb, peak_mb(os.getpid())


def _compare(report: Report, chosen: Namespace) -> None:
    bench = open_workbench(WorkerSettings())
    photo_HWC = _photo(chosen.photo, *_size_for(chosen.compare))
    height, width, _ = photo_HWC.shape
    style = bench.catalog.styles[chosen.style]
    task = PaintTask(photo_HWC, style.trunk, style.norm_P)
    whole_HWC, whole_s = _time(lambda: _compute(Engine(UNMEASURED_PX, WHOLE_PX), task))
    table = report.table(
        f"{chosen.style}, {width}x{height}, {bench.runtime.device}: difference to the painting in one piece, of 255",
        *("painted", "mean", "99.9 % are at most", "greatest", "s"),
    )
    table.add("in one piece", 0, 0, 0, whole_s)
    ways = {
        "in tiles": lambda: _compute(Engine(UNMEASURED_PX, TILE_PX), task),
        "each tile as if it were the photo": lambda: _paint_apart(task),
    }
    for name, way in ways.items():
        painted_HWC, taken_s = _time(way)
        difference_HWC = np.abs(painted_HWC.astype(np.int16) - whole_HWC)
        table.add(
            name,
            float(difference_HWC.mean()),
            float(np.quantile(difference_HWC, 0.999)),
            int(difference_HWC.max()),
            taken_s,
        )


def _paint_apart(task: PaintTask) -> Pixels:
    """What comes out if each tile has statistics of its own."""
    height, width, _ = task.pixels_HWC.shape
    painted_HWC, engine = np.empty_like(task.pixels_HWC), Engine(UNMEASURED_PX, WHOLE_PX)
    for tile in plan_even_tiles(height, width, round(sqrt(TILE_PX)), 0):
        part_HWC = _compute(engine, replace(task, pixels_HWC=task.pixels_HWC[tile.read]))
        painted_HWC[tile.kept] = part_HWC[tile.inner]
    return painted_HWC


def _compute(engine: Engine, task: EngineTask) -> Pixels:
    (result,) = engine.run([task])
    if isinstance(result, JobError):
        raise result
    return result


def _time(call: Callable[[], Pixels]) -> tuple[Pixels, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def _size_for(megapixels: float) -> tuple[int, int]:
    """Width and height of a photo of 3 to 2."""
    unit = round(sqrt(megapixels * 1e6 / 6))
    return 3 * unit, 2 * unit


def _photo(path: Path | None, width: int, height: int) -> Pixels:
    if path is None:
        return draw_pixels(width, height)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()

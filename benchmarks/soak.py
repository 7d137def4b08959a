"""Hours of load at 80 % of what the product can do: `python -m benchmarks.soak --minutes 60`.

Tells errors, latencies, and the memory of every process after the warm-up and at the end.
"""

import threading
from statistics import mean

from benchmarks.load import Target
from benchmarks.processes import resident_mb
from benchmarks.product import Loaded, Product
from benchmarks.programs import stage
from benchmarks.report import Goal, Report, options
from worker.settings import SHIPPED_ZOO

STYLES = ("candy", "mosaic", "udnie", "wave")
TARGETS = tuple(
    Target(f"/stylize?style={style}", width, height)
    for width, height in ((256, 256), (320, 240), (384, 256))
    for style in STYLES
)
SHARE = 0.8
PARTS = 5
"""Into which the time is cut; memory is compared between the first and the last."""
WARM_UP_S = 300.0
"""Twice what records of closed jobs live: after once they expire as fast as new ones come, and Redis's tables, which
grow by doubling, need some time more."""
GROWTH = 1.05


class MemoryWatch:
    """Reads the memory of every part of a product from a thread."""

    def __init__(self, product: Product, every_s: float) -> None:
        self._product = product
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-watch", daemon=True)
        self._seen_mb: dict[str, list[float]] = {name: [] for name in product.parts}

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def mean_mb(self) -> dict[str, float]:
        """Means of what was seen since the last call."""
        seen, self._seen_mb = self._seen_mb, {name: [] for name in self._seen_mb}
        return {name: mean(values) for name, values in seen.items()}

    def _run(self) -> None:
        while True:
            for name, part in self._product.parts.items():
                self._seen_mb[name].append(resident_mb(part.pid))
            if self._stop.wait(self._every_s):
                return


def main() -> None:
    """Runs the benchmark."""
    parser = options("soak", "A long load: errors, latencies and memory.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    chosen = parser.parse_args()
    warm_up_s = WARM_UP_S
    if chosen.quick:
        chosen.minutes, warm_up_s = 0.4, 5.0
    seconds = chosen.minutes * 60 / PARTS
    report = Report("soak", chosen)
    with stage() as place:
        product = Product(place, SHIPPED_ZOO)
        most_per_s = product.load(TARGETS, 64, min(15.0, 2 * seconds)).outcome.per_s
        product.load(TARGETS, 1024, warm_up_s, per_s=most_per_s * SHARE)
        loads, memory_mb = _soak(product, most_per_s * SHARE, seconds)
    _tell(report, loads, memory_mb)
    report.finish()


def _soak(product: Product, per_s: float, seconds: float) -> tuple[list[Loaded], list[dict[str, float]]]:
    """Loads, and what each part held meanwhile in MB, one of each for every part of the time."""
    loads: list[Loaded] = []
    memory_mb: list[dict[str, float]] = []
    with MemoryWatch(product, max(seconds / 20, 0.5)) as watch:
        for _ in range(PARTS):
            loads.append(product.load(TARGETS, 1024, seconds, per_s=per_s))
            memory_mb.append(watch.mean_mb())
    return loads, memory_mb


def _tell(report: Report, loads: list[Loaded], memory_mb: list[dict[str, float]]) -> None:
    parts = list(memory_mb[0])
    table = report.table(
        f"Open loop at {SHARE:.0%} of the most; memory in MB",
        *("part of the time", "arrivals answered/s", "p50 ms", "p99 ms", "failed", *parts),
    )
    for number, (load, held) in enumerate(zip(loads, memory_mb, strict=True), start=1):
        outcome = load.outcome
        failed = sum(outcome.failed.values())
        table.add(number, outcome.per_s, outcome.p50_ms, outcome.p99_ms, failed, *(held[part] for part in parts))
    report.goals.append(Goal("failed", sum(sum(load.outcome.failed.values()) for load in loads), at_most=0))
    for part in parts:
        growth = memory_mb[-1][part] / memory_mb[0][part]
        report.goals.append(
            Goal(f"memory of {part} at the end, as multiple of that after the warm-up", growth, None, GROWTH)
        )


if __name__ == "__main__":
    main()

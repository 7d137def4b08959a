"""The product under load, through HTTP: `python -m benchmarks.service`.

In each round the engine alone, the product and its rivals have their turns on the same machine; ratios are medians over
the rounds. The load generator runs on that machine too, and what it costs is told.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
import torch

from benchmarks.load import Outcome, Target
from benchmarks.pictures import draw_pixels
from benchmarks.product import Loaded, Product
from benchmarks.programs import stage
from benchmarks.report import Goal, Report, Table, numbers, options
from benchmarks.rival_servers import RivalServer, best_server
from worker.archive import read_archive, read_style
from worker.arrays import Norms
from worker.devices import choose_runtime
from worker.runtimes import Network
from worker.settings import SHIPPED_ZOO

STYLES = ("candy", "mosaic", "udnie", "wave")
ENGINE_BATCHES = (1, 4, 8, 16)
GPU_BATCHES = (*ENGINE_BATCHES, 32, 64)
WARM_UPS = 3
"""TorchScript compiles in the first two calls of a shape."""
SIZES = ((256, 256), (320, 240), (480, 320), (512, 384))
"""Of the mixed load."""
JUDGED_CLIENTS = 64


class EngineAlone:
    """The worker's own network, painting batches of 256x256 in four styles for so many callers at once."""

    def __init__(self, network: Network, styles: Sequence[Norms], callers: int) -> None:
        self.callers = callers
        self._network = network
        self._styles = styles
        batches = GPU_BATCHES if torch.cuda.is_available() else ENGINE_BATCHES
        self._batch = max(batches, key=lambda batch: self._rate(batch, 1.0))

    @property
    def name(self) -> str:
        """How it is called, and with which batch it is fastest."""
        how = "batch after batch" if self.callers == 1 else f"{self.callers} batches at once"
        return f"engine alone, {how}, batches of {self._batch}"

    def pictures_per_s(self, seconds: float) -> float:
        """Its throughput now."""
        return self._rate(self._batch, seconds)

    def _rate(self, batch: int, seconds: float) -> float:
        pixels_BHWC = np.stack([draw_pixels(256, 256, seed) for seed in range(batch)])
        norm_BP = np.stack([self._styles[index % len(self._styles)] for index in range(batch)])
        for _ in range(WARM_UPS):
            self._network.paint(pixels_BHWC, norm_BP)
        started = time.perf_counter()

        def paint_on() -> int:
            batches = 0
            while time.perf_counter() - started < seconds:
                self._network.paint(pixels_BHWC, norm_BP)
                batches += 1
            return batches

        with ThreadPoolExecutor(self.callers) as threads:
            loops = [threads.submit(paint_on) for _ in range(self.callers)]
            batches = sum(loop.result() for loop in loops)
        return batch * batches / (time.perf_counter() - started)


def engines_alone() -> list[EngineAlone]:
    """The engine called batch after batch, and as a worker calls it, which leaves it no pause at a batch's end."""
    runtime = choose_runtime("auto", "cuda" if torch.cuda.is_available() else "cpu", "auto", 0)
    network = runtime.load(read_archive(SHIPPED_ZOO / "trunk-w16.pt"))
    styles = [read_style(SHIPPED_ZOO / f"{name}.safetensors")[1] for name in STYLES]
    return [EngineAlone(network, styles, callers) for callers in sorted({1, runtime.batches_at_once})]


def main() -> None:
    """Runs the benchmark."""
    chosen = _parser().parse_args()
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.clients, chosen.tries = 1, 2.0, (8,), 1
    report = Report("service", chosen)
    with stage() as place:
        product = Product(place, SHIPPED_ZOO)
        engines = engines_alone()
        rivals = {
            f"LitServe, {runtime}": best_server(place, runtime, SHIPPED_ZOO, STYLES, JUDGED_CLIENTS, chosen.tries)
            for runtime in chosen.rivals
        }
        fastest = _compare(report, product, engines, rivals, chosen)
        _load_closed(report, product, chosen)
        _load_open(report, product, chosen, fastest)
    report.finish()


def _parser() -> ArgumentParser:
    parser = options("service", "Requests a second and latencies of the product, beside the engine and LitServe.")
    parser.add_argument("--rounds", type=int, default=3, help="turns of engine, product and rivals (3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="time that counts of each load (8)")
    parser.add_argument("--clients", type=numbers, default=(8, 64, 256), help="closed loops (8,64,256)")
    parser.add_argument(
        "--shares", type=numbers, default=(50, 80, 95), help="open loops, percent of the most (50,80,95)"
    )
    parser.add_argument("--rivals", type=_names, default=("torchscript", "openvino"), help="runtimes for LitServe")
    parser.add_argument("--tries", type=int, default=4, help="configurations tried for each rival (4)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _compare(
    report: Report,
    product: Product,
    engines: Sequence[EngineAlone],
    rivals: Mapping[str, RivalServer],
    chosen: Namespace,
) -> float:
    """The judged load, in turn with the others. Returns the product's pictures a second."""
    rates: dict[EngineAlone, list[float]] = {engine: [] for engine in engines}
    loads: list[Loaded] = []
    outcomes: dict[str, list[Outcome]] = {name: [] for name in rivals}
    for _ in range(chosen.rounds):
        for engine, found in rates.items():
            found.append(engine.pictures_per_s(min(chosen.seconds, 4.0)))
        loads.append(product.load(_targets(STYLES), JUDGED_CLIENTS, chosen.seconds))
        for name, server in rivals.items():
            outcomes[name].append(server.load(STYLES, JUDGED_CLIENTS, chosen.seconds))
    _tabulate(report, rates, loads, outcomes, rivals)
    _tell_costs(report, f"CPU time of a 256x256 picture at {JUDGED_CLIENTS} clients", loads)
    ours = [load.outcome for load in loads]
    for engine, found in rates.items():
        share = median(outcome.per_s / alone for outcome, alone in zip(ours, found, strict=True))
        report.goals.append(Goal(f"share that arrives of the {engine.name}", share, at_least=0.85))
    spread = median(outcome.p99_ms / outcome.p50_ms for outcome in ours)
    report.goals.append(Goal("p99 as multiple of p50", spread, at_most=3.0))
    _compare_rivals(report, ours, outcomes)
    if torch.cuda.is_available():
        report.goals.append(Goal("requests/s on a GPU", median(our.per_s for our in ours), at_least=600))
    return median(outcome.per_s for outcome in ours)


def _compare_rivals(report: Report, ours: Sequence[Outcome], outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """The goal is about the same TorchScript file; with our own runtime LitServe is the harder rival."""
    table = report.table("Impasto's requests/s as multiple of the rival's", "rival", "median of the rounds")
    for name, theirs in outcomes.items():
        ratio = median(our.per_s / their.per_s for our, their in zip(ours, theirs, strict=True))
        table.add(name, ratio)
        if name.endswith("torchscript"):
            report.goals.append(Goal(f"requests/s beside {name}", ratio, at_least=1.3))


def _tabulate(
    report: Report,
    rates: Mapping[EngineAlone, Sequence[float]],
    loads: Sequence[Loaded],
    outcomes: Mapping[str, Sequence[Outcome]],
    rivals: Mapping[str, RivalServer],
) -> None:
    table = report.table(
        f"256x256, four styles, {JUDGED_CLIENTS} clients; medians of the rounds",
        *("what", "pictures/s", "p50 ms", "p95 ms", "p99 ms", "mean batch", "device busy", "failed"),
    )
    for engine, found in rates.items():
        table.add(engine.name, median(found), *[None] * 6)
    _add_outcomes(table, "Impasto", [load.outcome for load in loads], loads)
    for name, theirs in outcomes.items():
        _add_outcomes(table, f"{name} ({rivals[name].configuration})", theirs)


def _add_outcomes(table: Table, name: str, outcomes: Sequence[Outcome], loads: Sequence[Loaded] = ()) -> None:
    table.add(
        name,
        median(outcome.per_s for outcome in outcomes),
        median(outcome.p50_ms for outcome in outcomes),
        median(outcome.p95_ms for outcome in outcomes),
        median(outcome.p99_ms for outcome in outcomes),
        median(load.mean_batch for load in loads) if loads else None,
        median(load.busy for load in loads) if loads else None,
        sum(sum(outcome.failed.values()) for outcome in outcomes),
    )


def _tell_costs(report: Report, title: str, loads: Sequence[Loaded]) -> None:
    table = report.table(title, "part", "ms of a core")
    for part in loads[0].cpu_ms:
        table.add(part, median(load.cpu_ms[part] for load in loads))


def _load_closed(report: Report, product: Product, chosen: Namespace) -> None:
    kinds = {
        "256x256, one style": _targets(STYLES[:1]),
        "256x256, four styles": _targets(STYLES),
        "four sizes, four styles": _targets(STYLES, SIZES),
    }
    table = report.table("Closed loop", "load", "clients", *_COLUMNS)
    for kind, targets in kinds.items():
        for clients in chosen.clients:
            _add_load(table, kind, clients, product.load(targets, clients, chosen.seconds))


def _load_open(report: Report, product: Product, chosen: Namespace, most_per_s: float) -> None:
    table = report.table("Open loop, 256x256, four styles", "of the most", "arrivals/s", *_COLUMNS)
    for percent in chosen.shares[:1] if chosen.quick else chosen.shares:
        per_s = most_per_s * percent / 100
        load = product.load(_targets(STYLES), 1024, chosen.seconds, per_s=per_s)
        _add_load(table, f"{percent} %", per_s, load)


_COLUMNS = ("pictures/s", "p50 ms", "p95 ms", "p99 ms", "mean batch", "device busy", "failed")


def _add_load(table: Table, kind: str, amount: float, load: Loaded) -> None:
    outcome = load.outcome
    failed = sum(outcome.failed.values())
    latencies = (outcome.p50_ms, outcome.p95_ms, outcome.p99_ms)
    table.add(kind, amount, outcome.per_s, *latencies, load.mean_batch, load.busy, failed)


def _targets(styles: Sequence[str], sizes: Sequence[tuple[int, int]] = ((256, 256),)) -> list[Target]:
    """Every size in every style."""
    return [Target(f"/stylize?style={style}", width, height) for width, height in sizes for style in styles]


if __name__ == "__main__":
    main()

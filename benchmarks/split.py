"""How a CPU is best shared out among worker processes and their threads: `python -m benchmarks.split`.

Each process decodes and encodes beside its network. Few processes with many threads answer one client soonest; many
with few paint a little more, and hold more memory.
"""

import os
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.load import Target
from benchmarks.processes import resident_mb
from benchmarks.product import Loaded, Product
from benchmarks.programs import stage
from benchmarks.report import Report, options
from worker.settings import SHIPPED_ZOO

STYLES = ("candy", "mosaic", "udnie", "wave")
TARGETS = tuple(Target(f"/stylize?style={style}", 256, 256) for style in STYLES)
CLIENTS = (1, 64)

Split = tuple[int, int]
"""Processes, and threads of the network in each."""
Found = dict[Split, dict[int, list[Loaded]]]
"""By split and number of clients, a load of each round."""


def main() -> None:
    """Runs the benchmark."""
    cores = os.cpu_count() or 1
    parser = options("split", "Pictures a second and latencies by worker processes and their threads.")
    parser.add_argument("--seconds", type=float, default=10.0, help="time that counts of each load (10)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured, in turn (3)")
    parser.add_argument(
        "--splits", type=_split, nargs="+", default=_splits(cores), help="such as 1x2 2x1: processes x threads"
    )
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.seconds, chosen.rounds = 2.0, 1
    report = Report("split", chosen)
    found: Found = {split: {clients: [] for clients in CLIENTS} for split in chosen.splits}
    memory_mb: dict[Split, float] = {}
    for _ in range(chosen.rounds):
        for split, loads in found.items():
            with _product(*split) as product:
                for clients in CLIENTS:
                    loads[clients].append(product.load(TARGETS, clients, chosen.seconds))
                memory_mb[split] = resident_mb(product.worker.pid)
    _tell(report, found, memory_mb)
    report.finish()


@contextmanager
def _product(processes: int, threads: int) -> Iterator[Product]:
    with stage() as place:
        yield Product(place, SHIPPED_ZOO, processes, threads=threads)


def _tell(report: Report, found: Found, memory_mb: dict[Split, float]) -> None:
    table = report.table(
        "256x256, four styles, through HTTP; medians of the rounds",
        *("processes", "threads of each", "p50 ms, 1 client", "pictures/s, 64 clients", "p99 ms", "failed"),
        *("CPU ms of a picture, workers", "memory of all workers, MB"),
    )
    for (processes, threads), loads in found.items():
        alone, crowd = ([load.outcome for load in loads[clients]] for clients in CLIENTS)
        table.add(
            processes,
            threads,
            median(outcome.p50_ms for outcome in alone),
            median(outcome.per_s for outcome in crowd),
            median(outcome.p99_ms for outcome in crowd),
            sum(sum(outcome.failed.values()) for outcome in (*alone, *crowd)),
            median(load.cpu_ms["worker"] for load in loads[CLIENTS[-1]]),
            memory_mb[processes, threads],
        )


def _splits(cores: int) -> list[Split]:
    """All cores in one process, half of them in each of two, and so on; and one core left to the rest."""
    splits, processes = [], 1
    while processes <= cores:
        splits.append((processes, cores // processes))
        processes *= 2
    return [*splits, (1, cores - 1)] if cores > 1 else splits


def _split(text: str) -> Split:
    processes, _, threads = text.partition("x")
    if not (processes.isdigit() and threads.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not PROCESSESxTHREADS, such as 2x1.")
    return int(processes), int(threads)


if __name__ == "__main__":
    main()

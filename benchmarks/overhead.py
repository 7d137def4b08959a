"""What a picture costs beyond the network: `python -m benchmarks.overhead`.

The trunk gives back what it gets, so what is left is HTTP, queue, codec and bookkeeping.
"""

from statistics import median

from benchmarks.load import Target
from benchmarks.product import Loaded, Product
from benchmarks.programs import stage
from benchmarks.report import Goal, Report, numbers, options
from benchmarks.zoos import STYLES, write_identity_zoo

WORKER_STAGES = ("queue", "decode", "infer", "encode")
TARGETS = tuple(Target(f"/stylize?style={style}") for style in STYLES)


def main() -> None:
    """Runs the benchmark."""
    parser = options("overhead", "What HTTP, queue, codec and bookkeeping cost, with a network that does nothing.")
    parser.add_argument("--clients", type=numbers, default=(1, 8, 64), help="closed loops (1,8,64)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time that counts of each (10)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured, in turn (3)")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.clients, chosen.seconds, chosen.rounds = (1, 8), 3.0, 1
    report = Report("overhead", chosen)
    loads: dict[int, list[Loaded]] = {clients: [] for clients in chosen.clients}
    with stage() as place:
        product = Product(place, write_identity_zoo(place.folder / "identity"))
        for _ in range(chosen.rounds):
            for clients, found in loads.items():
                found.append(product.load(TARGETS, clients, chosen.seconds))
    _tell_latencies(report, loads)
    _tell_costs(report, loads)
    if 1 in loads:
        beyond_ms = median(load.outcome.beyond_work_ms for load in loads[1])
        report.goals.append(Goal("ms beyond decode, infer and encode at one client, p50", beyond_ms, at_most=10))
    report.finish()


def _tell_latencies(report: Report, loads: dict[int, list[Loaded]]) -> None:
    table = report.table(
        "Where the milliseconds of a 256x256 picture go, medians",
        *("clients", "pictures/s", "p50", "p99", *WORKER_STAGES, "rest of the service", "HTTP and client"),
        *("beyond decode, infer, encode", "failed"),
    )
    for clients, found in loads.items():
        outcomes = [load.outcome for load in found]
        stages = {name: median(o.stages_ms.get(name, 0.0) for o in outcomes) for name in (*WORKER_STAGES, "total")}
        p50_ms = median(outcome.p50_ms for outcome in outcomes)
        table.add(
            clients,
            median(outcome.per_s for outcome in outcomes),
            p50_ms,
            median(outcome.p99_ms for outcome in outcomes),
            *(stages[name] for name in WORKER_STAGES),
            stages["total"] - sum(stages[name] for name in WORKER_STAGES),
            p50_ms - stages["total"],
            median(outcome.beyond_work_ms for outcome in outcomes),
            sum(sum(outcome.failed.values()) for outcome in outcomes),
        )


def _tell_costs(report: Report, loads: dict[int, list[Loaded]]) -> None:
    parts = list(next(iter(loads.values()))[0].cpu_ms)
    table = report.table("CPU time of one picture, ms of a core", "clients", *parts, "all")
    for clients, found in loads.items():
        spent = [median(load.cpu_ms[part] for load in found) for part in parts]
        table.add(clients, *spent, sum(spent))


if __name__ == "__main__":
    main()

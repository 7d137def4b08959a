"""The whole product on a stage, with what its parts cost while a load runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Observed, Outcome, Plan, Target, run_load
from benchmarks.metrics import Metrics, device_use
from benchmarks.processes import cpu_s
from benchmarks.programs import Program, Stage, free_port, wait_for_workers

GENEROUS = {
    "max_queue": 20_000,
    "max_queue_mb": 4096,
    "max_upload_mb": 200,
    "max_megapixels": 64,
    "max_output_megapixels": 300,
    "request_timeout_s": 600,
    "cache_ttl_s": 0,
}
"""Settings of the service under which every load is answered by computing."""


@dataclass(frozen=True)
class Moment:
    """What the parts have used so far."""

    cpu_s: dict[str, float]
    worker: Metrics


@dataclass(frozen=True)
class Loaded:
    """A load's outcome, and what it cost."""

    outcome: Outcome
    mean_batch: float
    busy: float
    """Share of the time in which the worker's device computed."""
    cpu_ms: dict[str, float]
    """CPU time of each part for one picture."""


class Product:
    """Redis, a worker with all its processes, and the service."""

    def __init__(self, stage: Stage, zoo: Path, processes: int = 1, **worker_settings: object) -> None:
        """`processes`: of the worker. What is said of the device is said of the first one's."""
        self._metrics_port = free_port(processes)
        self.redis, self.redis_url = stage.redis()
        places = {"metrics_port": self._metrics_port, "zoo_dir": zoo, "processes_per_device": processes}
        self.worker = stage.worker(self.redis_url, **places, **worker_settings)
        wait_for_workers(self.redis_url, [self.worker], processes)
        self.service, self.port = stage.service(self.redis_url, **GENEROUS)

    @property
    def parts(self) -> dict[str, Program]:
        """Its programs, by what they are."""
        return {"service": self.service, "worker": self.worker, "Redis": self.redis}

    def observe(self) -> Moment:
        """What the parts have used by now."""
        return Moment({name: cpu_s(part.pid) for name, part in self.parts.items()}, Metrics.of(self._metrics_port))

    def load(
        self,
        targets: Sequence[Target],
        clients: int,
        seconds: float,
        warm_up_s: float = 2.0,
        per_s: float | None = None,
    ) -> Loaded:
        """Runs a load; open where `per_s` says how many pictures arrive a second."""
        plan = Plan(
            port=self.port, targets=tuple(targets), clients=clients, seconds=seconds, warm_up_s=warm_up_s, per_s=per_s
        )
        return _judge(run_load(plan, self.observe))


def _judge(observed: Observed[Moment]) -> Loaded:
    outcome, before, after = observed.outcome, observed.before, observed.after
    use = device_use(before.worker, after.worker)
    spent_s = {name: after.cpu_s[name] - before.cpu_s[name] for name in after.cpu_s}
    spent_s["load generator"] = outcome.client_cpu_s
    pictures = max(outcome.answered, 1)
    return Loaded(
        outcome=outcome,
        mean_batch=use.mean_batch,
        busy=use.busy_s / outcome.seconds,
        cpu_ms={name: 1000 * spent / pictures for name, spent in spent_s.items()},
    )

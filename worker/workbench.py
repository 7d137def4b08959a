"""Device, zoo and engine as the settings say, for work without a queue."""

from collections.abc import Callable
from dataclasses import dataclass

from models.card import Task
from worker.catalog import SERVED_TASKS, Catalog, ZooLoader
from worker.devices import choose_runtime
from worker.engine import Engine, Reason, tell_nobody
from worker.errors import StartError
from worker.runtimes import Runtime
from worker.settings import WorkerSettings


@dataclass(frozen=True)
class Workbench:
    """All that painting needs."""

    runtime: Runtime
    catalog: Catalog
    engine: Engine


def open_workbench(settings: WorkerSettings, *tasks: Task) -> Workbench:
    """Loads the zoo onto the device, or what of it these tasks need. Raises `StartError` or `ZooError`."""
    runtime = open_runtime(settings)
    return Workbench(runtime, load_zoo(settings, runtime, *tasks), open_engine(settings))


def open_runtime(settings: WorkerSettings) -> Runtime:
    """The device, ready. Raises `StartError`."""
    return choose_runtime(
        settings.runtime,
        settings.device,
        settings.precision,
        settings.threads,
        cuda_graphs=settings.cuda_graphs,
    )


def load_zoo(settings: WorkerSettings, runtime: Runtime, *tasks: Task) -> Catalog:
    """What the zoo holds, or what of it these tasks need, on the device.

    Raises `ZooError`, or `StartError` for a trunk that is not in it.
    """
    catalog = ZooLoader(runtime, settings.trunk, tasks or SERVED_TASKS).load(settings.zoo_dir)
    check_trunk(settings, catalog)
    return catalog


def check_trunk(settings: WorkerSettings, catalog: Catalog) -> None:
    """Raises `StartError` where a trunk was chosen that the zoo does not hold."""
    if "trunk" in settings.model_fields_set and settings.trunk not in catalog.trunks:
        there = ", ".join(catalog.trunks) or "none"
        raise StartError(f"IMPASTO_TRUNK is {settings.trunk!r}, but the zoo's trunks are: {there}.")


def open_engine(
    settings: WorkerSettings,
    report: Callable[[Reason], None] = tell_nobody,
    count_busy: Callable[[float], object] = lambda _: None,
) -> Engine:
    """What runs batches. `report` is told of each retry, `count_busy` of the seconds that the device was busy."""
    given = settings.batch_megapixels
    return Engine(None if given is None else round(given * 1e6), report=report, count_busy=count_busy)

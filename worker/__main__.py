"""`python -m worker`: one worker in this process, or a pool of worker processes."""

import argparse
import logging
import sys
from collections.abc import Sequence

from worker.errors import WorkerError
from worker.pool import CANNOT_START, plan_members, run_pool
from worker.settings import WorkerSettings

log = logging.getLogger("worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Works until SIGTERM or Ctrl-C. Returns the exit status; 2 is for settings that cannot be used."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    logging.getLogger("rq").setLevel(logging.WARNING)
    try:
        settings = WorkerSettings.load(parsed.devices, parsed.processes_per_device)
        logging.getLogger().setLevel(settings.log_level.upper())
        return _run(settings)
    except WorkerError as error:
        log.error("%s", error)
        return CANNOT_START


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m worker", description="Takes jobs from Redis and answers with pictures.")
    parser.add_argument("--devices", help="cuda:0,cuda:1 or cpu; by default every GPU, else the CPU (IMPASTO_DEVICES)")
    parser.add_argument(
        "--processes-per-device", type=int, help="1 unless told otherwise (IMPASTO_PROCESSES_PER_DEVICE)"
    )
    return parser


def _run(settings: WorkerSettings) -> int:
    members = plan_members(settings)
    if len(members) > 1:
        return run_pool(members, settings)
    # Imported here alone: it loads PyTorch, which a pool's supervisor has no use for.
    from worker.single import run

    run(settings.model_copy(update={"devices": (members[0].device,)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

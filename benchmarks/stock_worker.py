"""`python -m benchmarks.stock_worker REDIS_URL`: RQ's own SimpleWorker, for comparison."""

import sys

from redis import Redis
from rq import Queue, SimpleWorker

NAME = "stock"
"""Of its queue."""


def nothing() -> None:
    """The task that costs nothing."""


def main() -> None:
    """Works until SIGTERM."""
    connection = Redis.from_url(sys.argv[1])
    worker = SimpleWorker([Queue(NAME, connection=connection)], connection=connection, log_job_description=False)
    worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()

"""What the queue and its bookkeeping carry: `python -m benchmarks.pool`.

First one worker with a network that does nothing, beside RQ's SimpleWorker with an empty task. Then workers whose
device is a pause: jobs a second of 1, 2, 4, 8 of them on one Redis. The jobs wait already when the clock starts.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

from redis import Redis
from rq import Queue

from benchmarks import stock_worker
from benchmarks.jobs import Jobs, Wish, round_trips
from benchmarks.pictures import draw_jpeg
from benchmarks.processes import cpu_s
from benchmarks.programs import Program, Stage, stage, wait_for_workers
from benchmarks.report import Goal, Report, Table, numbers, options
from benchmarks.zoos import STYLES, write_identity_zoo

SIDE = 16
"""Px of the pictures: the smallest there are, so that the codec costs next to nothing."""
WANTED_PER_S = 2000
STOCK_PER_S = 600
"""What RQ's SimpleWorker does on the machine for which so many jobs a second are wanted of ours."""
LOOK_S = 0.005
GIVE_UP_S = 120.0


@dataclass(frozen=True)
class Drained:
    """How a queue was emptied."""

    jobs: int
    seconds: float
    cpu_s: float
    """Of the workers together."""
    redis_cpu_s: float

    @property
    def per_s(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds


class Drain:
    """Lets workers empty a queue against the clock."""

    def __init__(self, redis: Program, workers: Sequence[Program], closed: Callable[[], int]) -> None:
        """`closed`: how many jobs were ever closed."""
        self._redis = redis
        self._workers = workers
        self._closed = closed

    def run(self, fill: Callable[[int], object], jobs: int) -> Drained:
        """Fills the queue while the workers lie still, then lets them go on until every job is closed."""
        for worker in self._workers:
            worker.pause()
        before = self._closed()
        fill(jobs)
        spent, redis_spent = self._spent(), cpu_s(self._redis.pid)
        started = time.perf_counter()
        for worker in self._workers:
            worker.resume()
        self._wait_for(before + jobs)
        seconds = time.perf_counter() - started
        return Drained(jobs, seconds, self._spent() - spent, cpu_s(self._redis.pid) - redis_spent)

    def _spent(self) -> float:
        return sum(cpu_s(worker.pid) for worker in self._workers)

    def _wait_for(self, jobs: int) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while (closed := self._closed()) < jobs:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{jobs - closed} jobs are still open after {GIVE_UP_S:g} s")
            time.sleep(LOOK_S)


class StockQueue:
    """The queue of RQ's own worker."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url)
        self._queue = Queue(stock_worker.NAME, connection=self._redis)

    def fill(self, jobs: int) -> None:
        """Puts in empty tasks."""
        for part in round_trips(range(jobs)):
            with self._redis.pipeline() as pipe:
                pipe.multi()  # RQ would do it for each job
                for _ in part:
                    self._queue.enqueue_call("benchmarks.stock_worker.nothing", pipeline=pipe)
                pipe.execute()

    def closed(self) -> int:
        """Tasks that were done."""
        return int(self._redis.zcard(self._queue.finished_job_registry.key))


def main() -> None:
    """Runs the benchmark."""
    parser = options("pool", "Jobs a second of one worker and of many on one Redis.")
    parser.add_argument("--workers", type=numbers, default=(1, 2, 4, 8), help="sizes of the pool (1,2,4,8)")
    parser.add_argument("--latency-ms", type=float, default=50.0, help="of the simulated device, for a batch (50)")
    parser.add_argument("--jobs", type=int, default=4000, help="jobs for the one worker and for RQ's (4000)")
    parser.add_argument("--seconds", type=float, default=4.0, help="about how long a pool is kept busy (4)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.workers, chosen.jobs, chosen.seconds, chosen.rounds = (1, 2), 500, 1.0, 1
    report = Report("pool", chosen)
    with stage() as place:
        report.goals += _compare_with_stock(report, place, chosen.jobs, chosen.rounds)
    with stage() as place:
        _grow(report, place, chosen.workers, chosen.latency_ms, chosen.seconds, chosen.rounds)
    report.finish()


def _compare_with_stock(report: Report, place: Stage, jobs: int, rounds: int) -> list[Goal]:
    redis, url = place.redis()
    ours = place.worker(url, zoo_dir=write_identity_zoo(place.folder / "identity"))
    wait_for_workers(url, [ours])
    stock = place.python("stock", "benchmarks.stock_worker", url)
    queue, stock_queue = Jobs(url), StockQueue(url)
    contenders = {
        "one worker, identity network": (Drain(redis, [ours], queue.closed), _filler(queue)),
        "RQ's SimpleWorker, empty task": (Drain(redis, [stock], stock_queue.closed), stock_queue.fill),
    }
    found: dict[str, list[Drained]] = {name: [] for name in contenders}
    for drain, fill in contenders.values():
        drain.run(fill, jobs // 10)  # a first turn that does not count
    for _ in range(rounds):
        for name, (drain, fill) in contenders.items():
            found[name].append(drain.run(fill, jobs))
    table = report.table("Bookkeeping of one process", "what", *_COLUMNS)
    for name, drained in found.items():
        _add(table, name, drained)
    ours_per_s, stock_per_s = (median(d.per_s for d in drained) for drained in found.values())
    return [
        Goal("jobs/s of one worker, identity network", ours_per_s, WANTED_PER_S),
        Goal("times RQ's SimpleWorker", ours_per_s / stock_per_s, round(WANTED_PER_S / STOCK_PER_S, 2)),
    ]


def _grow(report: Report, place: Stage, sizes: Sequence[int], latency_ms: float, seconds: float, rounds: int) -> None:
    redis, url = place.redis()
    zoo, queue = write_identity_zoo(place.folder / "identity"), Jobs(url)
    table = report.table(f"Simulated devices, {latency_ms:g} ms a batch, on one Redis", "workers", *_COLUMNS, "x one")
    workers: list[Program] = []
    rate_of_one = 0.0
    for size in sizes:
        while len(workers) < size:
            workers.append(_simulated(place, url, zoo, latency_ms))
        wait_for_workers(url, workers)
        drain = Drain(redis, workers, queue.closed)
        rate_of_one = rate_of_one or drain.run(_filler(queue), 200).per_s / size
        jobs = max(round(rate_of_one * size * seconds), 100)
        drained = [drain.run(_filler(queue), jobs) for _ in range(rounds)]
        rate_of_one = median(d.per_s for d in drained) if size == 1 else rate_of_one
        _add(table, size, drained, median(d.per_s for d in drained) / rate_of_one)


def _simulated(place: Stage, url: str, zoo: object, latency_ms: float) -> Program:
    settings = {"redis_url": url, "zoo_dir": zoo, "log_level": "warning", "threads": 1}
    return place.python("simulated", "benchmarks.simulated_worker", str(latency_ms), **settings)


def _filler(queue: Jobs) -> Callable[[int], object]:
    wishes = cycle([Wish(draw_jpeg(SIDE, SIDE), style) for style in STYLES])
    return lambda jobs: queue.enqueue(list(islice(wishes, jobs)))


_COLUMNS = ("jobs/s", "ms of a core for a job, workers", "ms of a core for a job, Redis", "Redis busy")


def _add(table: Table, name: str | int, drained: Sequence[Drained], *more: float) -> None:
    table.add(
        name,
        median(d.per_s for d in drained),
        median(1000 * d.cpu_s / d.jobs for d in drained),
        median(1000 * d.redis_cpu_s / d.jobs for d in drained),
        median(d.redis_cpu_s / d.seconds for d in drained),
        *more,
    )


if __name__ == "__main__":
    main()

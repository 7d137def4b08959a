"""How far workers on one Redis go: `python -m benchmarks.fleet`.

From 1 to 64 workers whose device is a pause, so slow that this machine can hold all of them: pictures a second beside
what as many devices could do, what Redis spends on a picture, and on workers that have nothing to do. Then what a
picture costs Redis by its size. Redis runs with the configuration of `deploy/redis`, its append-only file included.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import mean

from redis import Redis
from redis.exceptions import RedisError

from benchmarks.jobs import Jobs, Wish
from benchmarks.pictures import draw_jpeg
from benchmarks.pool import Drain, Drained
from benchmarks.processes import cpu_s
from benchmarks.programs import ROOT, Program, Stage, free_port, stage
from benchmarks.report import Goal, Report, Table, numbers, options
from benchmarks.zoos import STYLES, write_identity_zoo
from worker.contract import PICTURE_FIELD, output_key, workers_key
from worker.redis_program import find_redis_program

SIDE = 16
"""Px of the pictures of the first table: the smallest there are, so that the codec costs next to nothing."""
IN_ONE_PROCESS = 16
PICTURES = {256: 400, 512: 200, 1024: 100, 2048: 40}
"""How many of each side in px for the second table."""
PAINTERS = 2
"""Workers of the second table."""
LINEAR = 0.9
"""Share of what the devices could do that should arrive, however many they are."""


@dataclass(frozen=True)
class Pace:
    """What a pretended device does."""

    latency_ms: float
    """For a batch."""
    batch: int
    """Most pictures of one."""

    @property
    def per_s(self) -> float:
        """Pictures a second, at most."""
        return self.batch / self.latency_ms * 1000


class Fleets:
    """Workers by the process, on one Redis."""

    def __init__(self, place: Stage, pace: Pace) -> None:
        self._place = place
        self._pace = pace
        self._zoo = write_identity_zoo(place.folder / "identity")
        self.redis, self.url = _redis(place)
        self.programs: list[Program] = []
        self._count = 0

    def grow(self, count: int) -> None:
        """Returns when there are so many workers."""
        while self._count < count:
            more = min(count - self._count, IN_ONE_PROCESS)
            settings = {
                "redis_url": self.url,
                "zoo_dir": self._zoo,
                "log_level": "warning",
                "max_batch": self._pace.batch,
            }
            megapixels = self._pace.batch * SIDE * SIDE / 1e6
            arguments = ("benchmarks.simulated_fleet", str(more), str(self._pace.latency_ms))
            self.programs.append(self._place.python("fleet", *arguments, batch_megapixels=megapixels, **settings))
            self._count += more
        with Redis.from_url(self.url) as redis:
            self.programs[-1].wait_until(lambda: int(redis.zcard(workers_key())) >= count)

    def idle(self, seconds: float) -> float:
        """Share of a core that Redis uses for workers without work."""
        spent = cpu_s(self.redis.pid)
        time.sleep(seconds)
        return (cpu_s(self.redis.pid) - spent) / seconds


def main() -> None:
    """Runs the benchmark."""
    parser = options("fleet", "Workers on one Redis, from 1 to 64, and what a picture costs Redis.")
    parser.add_argument("--workers", type=numbers, default=(1, 2, 4, 8, 16, 32, 64), help="sizes (1,2,4,8,16,32,64)")
    parser.add_argument("--latency-ms", type=float, default=500.0, help="of a device, for a batch (500)")
    parser.add_argument("--batch", type=int, default=4, help="most pictures of a batch (4)")
    parser.add_argument("--seconds", type=float, default=10.0, help="about how long each fleet is kept busy (10)")
    chosen = parser.parse_args()
    pictures = PICTURES
    if chosen.quick:
        chosen.workers, chosen.seconds, pictures = (1, 4, 16), 3.0, {256: 40, 1024: 10}
    report = Report("fleet", chosen)
    pace = Pace(chosen.latency_ms, chosen.batch)
    with stage() as place:
        report.goals.append(_grow(report, Fleets(place, pace), pace, chosen.workers, chosen.seconds))
    with stage() as place:
        _weigh(report, Fleets(place, Pace(0.0, 8)), pictures)
    report.finish()


def _grow(report: Report, fleets: Fleets, pace: Pace, sizes: Sequence[int], seconds: float) -> Goal:
    queue = Jobs(fleets.url)
    wishes = cycle([Wish(draw_jpeg(SIDE, SIDE), style) for style in STYLES])
    title = f"Workers that paint {pace.batch} pictures in {pace.latency_ms:g} ms, on one Redis"
    columns = ("workers", "pictures/s", "of what the devices could do", "ms of Redis's core for a picture")
    table = report.table(title, *columns, "Redis busy", "Redis busy while they rest")
    reached = 1.0
    for size in sizes:
        fleets.grow(size)
        resting = fleets.idle(seconds / 3)
        jobs = max(round(pace.per_s * size * seconds), 1)
        drained = _drain(fleets, queue, lambda count: queue.enqueue(list(islice(wishes, count))), jobs)
        share = drained.per_s / (pace.per_s * size)
        reached = min(reached, share)
        table.add(size, drained.per_s, share, _redis_ms(drained), drained.redis_cpu_s / drained.seconds, resting)
    return Goal("least share of what the devices could do", reached, at_least=LINEAR)


def _weigh(report: Report, fleets: Fleets, pictures: dict[int, int]) -> None:
    fleets.grow(PAINTERS)
    queue = Jobs(fleets.url)
    columns = (
        "px",
        "kB up",
        "kB down",
        "ms of Redis's core for a picture",
        "pictures/s of a whole core",
        "Gbit/s then",
    )
    table = report.table("What a picture costs Redis", *columns)
    for side, count in pictures.items():
        _weigh_one(table, fleets, queue, side, count)


def _weigh_one(table: Table, fleets: Fleets, queue: Jobs, side: int, count: int) -> None:
    contents = [draw_jpeg(side, side, seed) for seed in range(4)]
    wishes = cycle([Wish(content, style) for content, style in zip(contents, STYLES, strict=True)])
    ids: list[str] = []
    drained = _drain(fleets, queue, lambda count: ids.extend(queue.enqueue(list(islice(wishes, count)))), count)
    up = mean(map(len, contents))
    down = mean(int(queue.redis.hstrlen(output_key(each), PICTURE_FIELD)) for each in ids)
    most_per_s = 1000 / _redis_ms(drained)
    # Each crosses the network twice: into Redis and out of it.
    gigabits = 2 * (up + down) * 8 * most_per_s / 1e9
    table.add(f"{side} x {side}", up / 1000, down / 1000, _redis_ms(drained), most_per_s, gigabits)


def _drain(fleets: Fleets, queue: Jobs, fill: Callable[[int], object], jobs: int) -> Drained:
    """What Redis does while the queue is filled is counted as well: a picture has to come in."""
    before = cpu_s(fleets.redis.pid)
    drained = Drain(fleets.redis, fleets.programs, queue.closed).run(fill, jobs)
    return Drained(drained.jobs, drained.seconds, drained.cpu_s, cpu_s(fleets.redis.pid) - before)


def _redis_ms(drained: Drained) -> float:
    return 1000 * drained.redis_cpu_s / drained.jobs


def _redis(place: Stage) -> tuple[Program, str]:
    """Redis as it is deployed, and its URL."""
    port, data, config = free_port(), place.folder / "redis", place.folder / "redis.conf"
    data.mkdir()
    deployed = (ROOT / "deploy" / "redis" / "redis.conf").read_text().replace("dir /data", f"dir {data}")
    config.write_text(f"{deployed}\nport {port}\nbind 127.0.0.1\n")
    program = place.start("redis", [find_redis_program(), str(config)])
    url = f"redis://127.0.0.1:{port}/0"
    program.wait_until(lambda: _answers(url))
    return program, url


def _answers(url: str) -> bool:
    with Redis.from_url(url) as redis:
        try:
            return bool(redis.ping())
        except RedisError:
            return False


if __name__ == "__main__":
    main()

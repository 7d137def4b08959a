"""How time grows: `python -m benchmarks.scaling`.

With the size of a picture, 0.06 to 50 megapixels, stylized and enlarged, with the most memory that the worker held;
and with the length of the queue, 1 to 10,000 waiting jobs, for who adds another and for who takes them.
"""

import asyncio
import time
from argparse import Namespace
from collections.abc import Sequence
from statistics import median

from benchmarks.http_client import Answer, Connection
from benchmarks.jobs import Jobs, Wish
from benchmarks.load import parse_server_timing
from benchmarks.pictures import draw_jpeg, side_for
from benchmarks.processes import forget_peak, peak_mb
from benchmarks.product import Product
from benchmarks.programs import stage
from benchmarks.report import Goal, Report, Table, options
from benchmarks.zoos import STYLES, write_identity_zoo
from worker.contract import Lane
from worker.settings import SHIPPED_ZOO

WORK = ("decode", "infer", "encode")
SEVERAL = 4.0
"""Megapixels up to which the median of several is taken."""
ADDED = 40
"""Jobs that are added to a waiting queue, one after the other."""
TAKEN = 400
"""Jobs after which the clock of those who take stops."""
SLOWEST_S = 120.0


def main() -> None:
    """Runs the benchmark."""
    parser = options("scaling", "How time and memory grow with the size of a picture and the length of the queue.")
    parser.add_argument("--stylize", type=_sizes, default=(0.06, 0.25, 1, 4, 12, 24, 50), help="megapixels")
    parser.add_argument("--upscale", type=_sizes, default=(0.06, 0.25, 1, 4), help="megapixels, enlarged 4 times")
    parser.add_argument("--waiting", type=_sizes, default=(1, 10, 100, 1000, 10000), help="lengths of the queue")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.stylize, chosen.upscale, chosen.waiting = (0.06, 0.25, 1), (0.06, 0.25), (1, 100, 1000)
    report = Report("scaling", chosen)
    _grow_pictures(report, chosen)
    _grow_queue(report, chosen)
    report.finish()


def _sizes(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _grow_pictures(report: Report, chosen: Namespace) -> None:
    paths = {"stylize": "/stylize?style=candy", "upscale x4": "/upscale?factor=4"}
    sizes = {"stylize": chosen.stylize, "upscale x4": chosen.upscale}
    columns = ("megapixels", "ms", "ms per megapixel", *WORK, "most memory of the worker, MB")
    with stage() as place:
        product = Product(place, SHIPPED_ZOO)
        for task, path in paths.items():
            table = report.table(f"One picture at a time: {task}", *columns)
            for megapixels in sizes[task]:
                _send(product, path, megapixels, table)
    report.goals += [
        Goal(f"MB of the worker, {task}", max(float(row[-1] or 0) for row in table.rows), at_most=3000)
        for task, table in zip(paths, report.tables, strict=True)
        if not chosen.quick
    ]


def _send(product: Product, path: str, megapixels: float, table: Table) -> None:
    side = side_for(megapixels)
    content = draw_jpeg(side, side)
    forget_peak(product.worker.pid)
    answers = asyncio.run(_post(product.port, path, content, 5 if megapixels <= SEVERAL else 1))
    taken_ms = median(ms for ms, _ in answers)
    stages = [parse_server_timing(answer.server_timing) for _, answer in answers]
    table.add(
        side * side / 1e6,
        taken_ms,
        taken_ms / (side * side / 1e6),
        *(median(found[name] for found in stages) for name in WORK),
        peak_mb(product.worker.pid),
    )


async def _post(port: int, path: str, content: bytes, times: int) -> list[tuple[float, Answer]]:
    """Answers and the milliseconds that they took; the first does not count where there are several."""
    found = []
    async with Connection(port) as connection:
        for _ in range(times + (times > 1)):
            started = time.perf_counter()
            answer = await connection.post(path, content)
            if answer.status not in (200, 202):
                raise RuntimeError(f"{path} was answered with {answer.status}")
            found.append(((time.perf_counter() - started) * 1000, answer))
    return found[-times:]


def _grow_queue(report: Report, chosen: Namespace) -> None:
    table = report.table(
        "A waiting queue; the network does nothing, pictures of 16x16",
        *("waiting", "ms to add one through HTTP", "ms of a job for one worker that takes them"),
    )
    with stage() as place:
        product = Product(place, write_identity_zoo(place.folder / "identity"))
        jobs = Jobs(product.redis_url)
        _drain(jobs, 200)
        for waiting in chosen.waiting:
            table.add(int(waiting), *_measure(product, jobs, int(waiting)))


def _measure(product: Product, jobs: Jobs, waiting: int) -> tuple[float, float]:
    """Milliseconds to add a job behind `waiting` others, and for each that the worker then takes."""
    product.worker.pause()
    before = jobs.closed()
    jobs.enqueue(_wishes(waiting), Lane.BULK)
    added = asyncio.run(_add(product.port))
    product.worker.resume()
    started = time.perf_counter()
    some = min(waiting + ADDED, TAKEN)
    _wait_for(jobs, before + some)
    taken_ms = (time.perf_counter() - started) * 1000 / some
    _wait_for(jobs, before + waiting + ADDED)
    return median(added), taken_ms


async def _add(port: int) -> list[float]:
    content, found = draw_jpeg(16, 16), []
    async with Connection(port) as connection:
        for _ in range(ADDED):
            started = time.perf_counter()
            answer = await connection.post("/stylize?style=one", content, "Prefer: respond-async\r\n")
            if answer.status != 202:
                raise RuntimeError(f"a job was answered with {answer.status}")
            found.append((time.perf_counter() - started) * 1000)
    return found


def _wishes(count: int) -> Sequence[Wish]:
    content = draw_jpeg(16, 16)
    return [Wish(content, STYLES[index % len(STYLES)]) for index in range(count)]


def _drain(jobs: Jobs, count: int) -> None:
    """Warms up."""
    before = jobs.closed()
    jobs.enqueue(_wishes(count), Lane.BULK)
    _wait_for(jobs, before + count)


def _wait_for(jobs: Jobs, closed: int) -> None:
    deadline = time.monotonic() + SLOWEST_S
    while jobs.closed() < closed:
        if time.monotonic() > deadline:
            raise RuntimeError("the worker takes too long")
        time.sleep(0.002)


if __name__ == "__main__":
    main()

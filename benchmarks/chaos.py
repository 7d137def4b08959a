"""Workers are killed at random while jobs are in flight: `python -m benchmarks.chaos`.

Ends with status 1 unless every job gets its right picture, once, and nothing is left in RQ's registries.
"""

import io
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from redis.client import PubSub

from benchmarks.jobs import Jobs, Wish
from benchmarks.pictures import draw_jpeg
from benchmarks.programs import Program, Stage, stage, wait_for_workers
from benchmarks.report import Goal, Report, options
from worker.archive import read_archive, read_style
from worker.arrays import Pixels
from worker.codec import decode
from worker.contract import PICTURE_FIELD, RESULT_FIELD, JobResult, JobStatus, output_key
from worker.devices import choose_runtime
from worker.settings import SHIPPED_ZOO

STYLES = ("candy", "mosaic", "udnie", "wave")
PHOTOS = 8
TIDY_S = 20.0
"""Seconds after the last answer in which the registries must be empty."""
NEAR = 4.0
"""Mean difference in levels of 255 from the picture that is right; JPEG alone makes about one."""


@dataclass(frozen=True)
class Commission:
    """What a job was asked for, and what should come of it."""

    wish: Wish
    painting_HWC: Pixels


@dataclass
class Story:
    """What happened."""

    announced: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    kills_in_flight: int = 0
    """Those while jobs were open."""
    seconds: float = 0.0
    """Until the last answer."""


class Chaos:
    """A pool whose workers are killed and replaced."""

    def __init__(self, place: Stage, redis_url: str, workers: int, seed: int) -> None:
        self._place = place
        self._redis_url = redis_url
        self._random = random.Random(seed)
        self._workers = [self._start() for _ in range(workers)]
        wait_for_workers(redis_url, self._workers)

    def run(self, ids: Sequence[str], events: PubSub, seconds: float, every_s: float, patience_s: float) -> Story:
        """Kills one every so often for so long; returns when every job was announced, or patience ends after that."""
        story, started = Story(), time.monotonic()
        kill_at = started + every_s
        while (now := time.monotonic()) < started + seconds + patience_s:
            is_over = now >= started + seconds
            if is_over and len(story.announced) == len(ids):
                break
            if not is_over and now >= kill_at:
                self._kill_one(story, len(story.announced) < len(ids))
                kill_at += every_s
            message = events.get_message(timeout=0.05)
            if message is not None:
                story.announced[message["data"].decode()] += 1
                story.seconds = time.monotonic() - started
        return story

    def _kill_one(self, story: Story, in_flight: bool) -> None:
        index = self._random.randrange(len(self._workers))
        self._workers[index].kill()
        self._workers[index] = self._start()
        story.kills += 1
        story.kills_in_flight += in_flight

    def _start(self) -> Program:
        return self._place.worker(self._redis_url, zoo_dir=SHIPPED_ZOO, threads=1)


def main() -> int:
    """Runs the benchmark. Returns the exit status."""
    parser = options("chaos", "Kills workers while jobs are in flight; every job must be answered once and right.")
    parser.add_argument("--jobs", type=int, default=500, help="in flight at the start (500)")
    parser.add_argument("--side", type=int, default=512, help="px of the pictures, so that the jobs last (512)")
    parser.add_argument("--workers", type=int, default=4, help="processes in the pool (4)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long workers are killed (60)")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two kills (2)")
    parser.add_argument(
        "--patience", type=float, default=600, help="seconds after the last kill in which all must be answered (600)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which workers are killed (0)")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.jobs, chosen.workers, chosen.seconds, chosen.every = 120, 2, 12.0, 4.0
    report = Report("chaos", chosen)
    commissions = _commissions(chosen.side)
    with stage() as place:
        _, redis_url = place.redis()
        chaos, jobs = Chaos(place, redis_url, chosen.workers, chosen.seed), Jobs(redis_url)
        events = jobs.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        events.subscribe(jobs.channel)
        asked = [commissions[index % len(commissions)] for index in range(chosen.jobs)]
        ids = jobs.enqueue([commission.wish for commission in asked])
        story = chaos.run(ids, events, chosen.seconds, chosen.every, chosen.patience)
        faults = _faults(jobs, dict(zip(ids, asked, strict=True)), commissions, story)
        _tell(report, story, faults, _leftovers(jobs))
    return 0 if report.finish() else 1


def _commissions(side: int) -> list[Commission]:
    """Every photo in every style, with the painting that a worker should make of it."""
    network = choose_runtime("auto", "auto", "auto", 0).load(read_archive(SHIPPED_ZOO / "trunk-w16.pt"))
    styles = {name: read_style(SHIPPED_ZOO / f"{name}.safetensors")[1] for name in STYLES}
    found = []
    for seed in range(PHOTOS):
        content = draw_jpeg(side, side, seed)
        pixels_BHWC = np.stack([decode(content).pixels_HWC] * len(STYLES))
        paintings_BHWC = network.paint(pixels_BHWC, np.stack(list(styles.values())))
        found += [Commission(Wish(content, name), p) for name, p in zip(styles, paintings_BHWC, strict=True)]
    return found


def _faults(jobs: Jobs, asked: dict[str, Commission], commissions: Sequence[Commission], story: Story) -> Counter[str]:
    """How many jobs went wrong, by what was wrong with them."""
    faults: Counter[str] = Counter()
    for job_id, commission in asked.items():
        fault = _fault(jobs, job_id, commission, commissions) if story.announced[job_id] else "never answered"
        faults[fault] += bool(fault)
        faults["answered more than once"] += story.announced[job_id] > 1
    return +faults


def _fault(jobs: Jobs, job_id: str, commission: Commission, commissions: Sequence[Commission]) -> str:
    fields: dict[bytes, bytes] = jobs.redis.hgetall(output_key(job_id))  # type: ignore[assignment]
    if RESULT_FIELD.encode() not in fields:
        return "announced without an answer"
    result = JobResult.from_json(fields[RESULT_FIELD.encode()])
    if result.status is not JobStatus.FINISHED:
        return f"{result.status}: {result.detail}"
    with Image.open(io.BytesIO(fields[PICTURE_FIELD.encode()])) as image:
        return "" if _is_right(np.asarray(image), commission, commissions) else "the wrong picture"


def _is_right(pixels_HWC: Pixels, commission: Commission, commissions: Sequence[Commission]) -> bool:
    """Whether it is near the painting that was asked for, and nearer to it than to any other."""
    distances = [_distance(pixels_HWC, other.painting_HWC) for other in commissions]
    own = _distance(pixels_HWC, commission.painting_HWC)
    return own <= NEAR and own <= min(distances)


def _distance(first_HWC: Pixels, second_HWC: Pixels) -> float:
    """Mean difference in levels of 255, on every fourth pixel."""
    if first_HWC.shape != second_HWC.shape:
        return float("inf")
    return float(np.abs(first_HWC[::4, ::4].astype(np.int16) - second_HWC[::4, ::4]).mean())


def _leftovers(jobs: Jobs) -> dict[str, int]:
    """What lies in queues and registries after a while; the workers go on living."""
    deadline = time.monotonic() + TIDY_S
    while any((left := jobs.leftovers()).values()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return {name: count for name, count in left.items() if count}


def _tell(report: Report, story: Story, faults: Counter[str], leftovers: dict[str, int]) -> None:
    table = report.table("What happened", "what", "how many")
    table.add("jobs answered", len(story.announced))
    table.add("workers killed", story.kills)
    table.add("of these while jobs were open", story.kills_in_flight)
    table.add("seconds until the last answer", story.seconds)
    for name, count in [*faults.items(), *leftovers.items()]:
        table.add(name, count)
    report.goals.append(Goal("jobs that went wrong", faults.total(), at_most=0))
    report.goals.append(Goal("ids left in queues and registries", sum(leftovers.values()), at_most=0))


if __name__ == "__main__":
    sys.exit(main())

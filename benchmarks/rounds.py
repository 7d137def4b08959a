"""Times several contenders in turn, so that what the machine does meanwhile meets all of them alike."""

import time
from collections.abc import Callable, Mapping
from statistics import median

Contenders = Mapping[str, Callable[[], object]]


def time_in_turn(contenders: Contenders, rounds: int, warm_ups: int = 1) -> dict[str, float]:
    """Median seconds of a call of each, over `rounds` rounds in which each is called once."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for index in range(warm_ups + rounds):
        for name, call in contenders.items():
            taken = time_call(call)
            if index >= warm_ups:
                seconds[name].append(taken)
    return {name: median(values) for name, values in seconds.items()}


def time_call(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

"""How fast jobs are being closed, for an honest `Retry-After`."""

import math
from collections import deque

SAMPLES = 64
UNKNOWN_S = 5
"""Answer while too few jobs have been seen."""
LONGEST_S = 120


class Pace:
    """The rate at which this service's jobs were closed of late."""

    def __init__(self) -> None:
        self._closed_at: deque[float] = deque(maxlen=SAMPLES)

    def observe(self, now: float) -> None:
        """Notes that a job was closed at `now`, in seconds of a monotonic clock."""
        self._closed_at.append(now)

    def retry_after_s(self, waiting: int) -> int:
        """Seconds in which half of the `waiting` jobs are done at the present rate, so that a retry finds room."""
        if len(self._closed_at) < 2:
            return UNKNOWN_S
        span = self._closed_at[-1] - self._closed_at[0]
        seconds = span / (len(self._closed_at) - 1) * waiting / 2
        return min(max(math.ceil(seconds), 1), LONGEST_S)

"""How fast jobs leave the queue, for an honest `Retry-After`."""

import math
from collections import deque

APART_S = 0.25
"""Seconds between two samples that are kept."""
WINDOW_S = 30.0
SHORTEST_S = 1.0
"""Span in seconds from which on samples say something."""
UNKNOWN_S = 5
"""Answer while too little has been seen."""
LONGEST_S = 120


class Pace:
    """The rate of the whole pool, read off a count that all service processes share."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def observe(self, now: float, left: int) -> None:
        """Notes that `left` jobs had ever left the queue at `now`, in seconds of a monotonic clock."""
        if self._samples and left < self._samples[0][1]:
            self._samples.clear()  # Redis came back empty, or a dead worker's jobs came back
        while self._samples and self._samples[0][0] < now - WINDOW_S:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1][0] >= APART_S:
            self._samples.append((now, left))

    def retry_after_s(self, waiting: int) -> int:
        """Seconds in which half of the `waiting` jobs are gone at the present rate, so that a retry finds room."""
        span = self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0
        if span < SHORTEST_S:
            return UNKNOWN_S
        # Where nothing has left at all, something may be about to.
        left = max(self._samples[-1][1] - self._samples[0][1], 1)
        return min(max(math.ceil(waiting / 2 * span / left), 1), LONGEST_S)

"""Why and when a run stops before its end."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass
class StopRequest:
    """Set by Ctrl-C, SIGTERM or the time limit; the loop ends after the step in hand."""

    time_limit_s: float
    """Seconds from now after which to stop."""
    reason: str = ""
    _started: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Whether to stop now; `reason` then says why."""
        if not self.reason and time.monotonic() - self._started > self.time_limit_s:
            self.reason = "time limit"
        return bool(self.reason)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Takes SIGINT and SIGTERM as requests while the block runs; a second one ends the program at once."""

        def request(number: int, frame: FrameType | None) -> None:
            if self.reason:
                raise KeyboardInterrupt
            self.reason = signal.Signals(number).name

        before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

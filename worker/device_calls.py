"""Who is at the device: batches together, or one alone; and for how long it has been busy."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Visit:
    """A batch's time at the device."""

    called_at: float
    """When it last called the device, in seconds of `time.monotonic`."""
    met_others: bool
    """Whether another was there at some moment of it: memory that ran out may have been taken by that one."""


class DeviceCalls:
    """The visits of a device, each from a thread of its own."""

    def __init__(self, count_busy: Callable[[float], object]) -> None:
        """`count_busy` is told of the seconds in which at least one was there, at each call and each end."""
        self._count_busy = count_busy
        self._changed = threading.Condition()
        self._visits: dict[int, Visit] = {}
        """By thread."""
        self._want_alone = 0
        self._counted_at = 0.0

    @contextmanager
    def together(self) -> Iterator[Visit]:
        """A visit beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._want_alone)
            visit = self._enter()
        try:
            yield visit
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A visit that begins when all others have ended, and that none joins."""
        with self._changed:
            self._want_alone += 1
            self._changed.wait_for(lambda: not self._visits)
            self._enter()
        try:
            yield
        finally:
            with self._changed:
                self._want_alone -= 1
            self._leave()

    def note(self) -> None:
        """This thread, which is there, calls the device once more."""
        with self._changed:
            self._count()
            self._visits[threading.get_ident()].called_at = time.monotonic()

    @property
    def busy_since(self) -> float | None:
        """When the call was made that has taken longest, in seconds of `time.monotonic`; none while nobody is there."""
        with self._changed:
            return min((visit.called_at for visit in self._visits.values()), default=None)

    def _enter(self) -> Visit:
        self._count()
        for other in self._visits.values():
            other.met_others = True
        visit = self._visits[threading.get_ident()] = Visit(time.monotonic(), met_others=bool(self._visits))
        return visit

    def _leave(self) -> None:
        with self._changed:
            self._count()
            del self._visits[threading.get_ident()]
            self._changed.notify_all()

    def _count(self) -> None:
        now = time.monotonic()
        if self._visits:
            self._count_busy(now - self._counted_at)
        self._counted_at = now

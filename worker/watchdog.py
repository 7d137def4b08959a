"""Ends a worker whose device hangs, so that its jobs go elsewhere and a new process takes its place."""

import faulthandler
import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

DEVICE_HUNG = 3
"""Exit status of a worker whose device did not come back."""
LOOKS = 60
"""How often the device is looked at within the time it has."""


class Watchdog:
    """Watches one device from a thread. Nothing can be cleaned up behind a call that does not return."""

    def __init__(self, busy_since: Callable[[], float | None], timeout_s: float) -> None:
        """`busy_since`: when the device was last called, on any clock; none while it is idle."""
        self._busy_since = busy_since
        self._timeout_s = timeout_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """From now on the process ends with `DEVICE_HUNG` when a call takes too long."""
        self._thread.start()

    def stop(self) -> None:
        """The worker ends by itself."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        # Looks are counted, not the clock read: a process that was suspended as a whole has not hung.
        seen, looks = self._busy_since(), 0
        while not self._stop.wait(self._timeout_s / LOOKS):
            since = self._busy_since()
            looks = looks + 1 if since is not None and since == seen else 0
            seen = since
            if looks >= LOOKS:
                self._end()

    def _end(self) -> None:
        log.critical("The device has been at one call for %g s and counts as hung: this worker ends.", self._timeout_s)
        faulthandler.dump_traceback()
        # Python's own end would wait for the thread that hangs.
        os._exit(DEVICE_HUNG)

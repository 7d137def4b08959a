"""The catalog of a running worker: it follows the zoo folder."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.arrays import Norms
from worker.catalog import Catalog, LoadedTrunk, LoadedUpscaler, ZooLoader
from worker.contract import ErrorCode, StyleJob
from worker.errors import JobError, ZooError
from worker.metrics import WorkerMetrics
from worker.zoo_files import Stamp, scan

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks at the folder."""
SETTLE_S = 0.5
"""Seconds that a changed folder must stay the same before it is loaded: files that belong together come together."""
SETTLE_LOOKS = 3
"""Looks after which it is loaded even so."""


class LiveCatalog:
    """What a worker can do now. Jobs keep what they looked up; a change holds for those that come after it."""

    def __init__(
        self, loader: ZooLoader, folder: Path, metrics: WorkerMetrics, publish: Callable[[Catalog], None]
    ) -> None:
        """Loads the folder. `publish` is told of this catalog and of each that follows it. Raises `ZooError`."""
        self._loader = loader
        self._folder = folder
        self._metrics = metrics
        self._publish = publish
        self._looking = threading.Lock()
        self._trouble = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="zoo", daemon=True)
        self.current = loader.load(folder)
        """Replaced as a whole."""
        metrics.show(self.current)
        publish(self.current)

    def start(self) -> None:
        """From now on follows the folder, from a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Follows it no more. What is being loaded is waited for: Python cannot end around a compiler at work."""
        self._stop.set()
        self._thread.join()

    def blend(self, job: StyleJob) -> tuple[LoadedTrunk, Norms, str]:
        """See `Catalog.blend`. For a style that is missing it looks at the folder first: other workers may be ahead."""
        try:
            return self.current.blend(job)
        except JobError as error:
            if error.code is not ErrorCode.UNKNOWN_STYLE:
                raise
        self.look()
        return self.current.blend(job)

    def upscaler(self, factor: int) -> LoadedUpscaler:
        """See `Catalog.upscaler`, and `blend`."""
        if factor not in self.current.upscalers:
            self.look()
        return self.current.upscaler(factor)

    def look(self) -> None:
        """Loads what has changed. Whatever goes wrong, what was served goes on being served."""
        self._look(scan)

    def _look(self, find_files: Callable[[Path], Mapping[Path, Stamp]]) -> None:
        with self._looking:
            try:
                self._take_over(self._loader.load_files(find_files(self._folder)))
            except ZooError as error:
                self._complain(f"{error} What it held is still served.")
            except Exception:
                log.exception("The zoo could not be loaded again; what it held is still served.")

    def _take_over(self, catalog: Catalog) -> None:
        if catalog.is_empty:
            self._complain(f"The zoo {self._folder} holds nothing any more. What it held is still served.")
            return
        self._trouble = ""
        before, self.current = self.current, catalog
        if not catalog.serves_same_as(before):
            log.info("The zoo has changed: %s.", _describe(before, catalog))
            self._metrics.zoo_swaps.inc()
            self._publish(catalog)
        self._metrics.show(catalog)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._look(self._settled)

    def _settled(self, folder: Path) -> Mapping[Path, Stamp]:
        """The folder's files, once nobody changes them any more."""
        before, stamps = self._loader.stamps, scan(folder)
        looks = 0
        while stamps != before and looks < SETTLE_LOOKS:
            self._stop.wait(SETTLE_S)
            before, stamps = stamps, scan(folder)
            looks += 1
        return stamps


def _describe(before: Catalog, after: Catalog) -> str:
    """What is new, changed and gone, by name."""
    old = {**before.styles, **{f"x{factor}": upscaler for factor, upscaler in before.upscalers.items()}}
    new = {**after.styles, **{f"x{factor}": upscaler for factor, upscaler in after.upscalers.items()}}
    parts = {
        "new": [name for name in new if name not in old],
        "changed": [name for name in new if name in old and new[name] is not old[name]],
        "gone": [name for name in old if name not in new],
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)

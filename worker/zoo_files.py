"""The files of a zoo folder: what changed since the last look, and each read once."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from worker.errors import ZooError

log = logging.getLogger(__name__)

T = TypeVar("T")

READINGS = 5
"""How often a file that cannot be read is tried again while it stays the same; a network drive may lag behind."""


@dataclass(frozen=True)
class Stamp:
    """What differs between two versions of a file."""

    size: int
    modified_ns: int
    inode: int


def scan(folder: Path) -> dict[Path, Stamp]:
    """Every file of a folder and of those in it, but for hidden ones, in the order of their paths.

    Raises `ZooError` when the folder cannot be read.
    """
    try:
        found = _walk(folder)
    except OSError as error:
        raise ZooError(f"The zoo {folder} cannot be read: {error.strerror}. Set IMPASTO_ZOO_DIR.") from error
    return dict(sorted(found.items()))


def _walk(folder: Path) -> dict[Path, Stamp]:
    found: dict[Path, Stamp] = {}
    for entry in list(os.scandir(folder)):
        if entry.name.startswith("."):
            continue  # what is being written, and the inner folders of mounted volumes
        try:
            if entry.is_dir():
                found |= _walk(Path(entry.path)) if not entry.is_symlink() else {}
                continue
            stat = entry.stat()
        except (FileNotFoundError, PermissionError):
            continue  # gone since it was listed, a link to nowhere, or a `lost+found`
        found[Path(entry.path)] = Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


@dataclass
class _Reading(Generic[T]):
    stamp: Stamp
    content: T | None
    refusal: ZooError | None
    failures: int = 0


class Shelf(Generic[T]):
    """Files of one kind, by path. What was read is kept until the file changes."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        """`read` raises `ZooError` for a file that is to be refused."""
        self._read = read
        self._readings: dict[Path, _Reading[T]] = {}

    def update(self, stamps: Mapping[Path, Stamp]) -> None:
        """Reads what changed, and tries again what could not be read: it may have been half written."""
        self._readings = {path: self._reading(path, stamp) for path, stamp in stamps.items()}

    @property
    def contents(self) -> dict[Path, T]:
        """What could be read."""
        return {path: reading.content for path, reading in self._readings.items() if reading.content is not None}

    @property
    def paths(self) -> frozenset[Path]:
        """Every file, readable or not."""
        return frozenset(self._readings)

    @property
    def refusals(self) -> list[ZooError]:
        """Why the others could not."""
        return [reading.refusal for reading in self._readings.values() if reading.refusal is not None]

    def refuse(self, path: Path, refusal: ZooError) -> None:
        """Takes back what was read: it is of no use, as long as the file stays the same."""
        self._readings[path] = _Reading(self._readings[path].stamp, None, refusal, READINGS)

    def _reading(self, path: Path, stamp: Stamp) -> _Reading[T]:
        before = self._readings.get(path)
        is_same = before is not None and before.stamp == stamp
        if before is not None and is_same and (before.refusal is None or before.failures >= READINGS):
            return before
        try:
            return _Reading(stamp, self._read(path), None)
        except Exception as error:  # whatever a file can do to its reader, the others are served
            log.debug("%s", path, exc_info=True)
            return _Reading(
                stamp, None, _refusal(path, error), before.failures + 1 if before is not None and is_same else 1
            )


def _refusal(path: Path, error: Exception) -> ZooError:
    return error if isinstance(error, ZooError) else ZooError(f"{path.name} is refused: {error!r}.")


class RepeatedWarnings:
    """Logs a warning once, when it comes up a second time running: a file that is being written passes."""

    def __init__(self) -> None:
        self._last: frozenset[str] | None = None
        self._logged: frozenset[str] = frozenset()

    def log(self, warnings: Iterable[str]) -> None:
        """Every warning there is now. The first time all are logged: there may be no second."""
        now = frozenset(warnings)
        for warning in sorted((now if self._last is None else now & self._last) - self._logged):
            log.warning("%s", warning)
            self._logged |= {warning}
        self._logged &= now
        self._last = now

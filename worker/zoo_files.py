"""The files of a zoo folder: what changed since the last look, and each read once."""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from worker.errors import PassingZooError, ZooError
from worker.limits import is_out_of_memory

log = logging.getLogger(__name__)

T = TypeVar("T")

READINGS = 5
"""How often a file that cannot be read is tried again while it stays the same; a network drive may lag behind."""
RETRY_S = 30.0
"""Seconds after which a file is tried again, however often it failed, that a passing fault kept from being served."""


@dataclass(frozen=True)
class Stamp:
    """What differs between two versions of a file."""

    size: int
    modified_ns: int
    changed_ns: int
    """Also of its owner and of who may read it."""
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
            status = entry.stat()
        except (FileNotFoundError, PermissionError):
            continue  # gone since it was listed, a link to nowhere, or a `lost+found`
        except OSError as error:
            if error.errno != errno.ELOOP:  # a link to itself
                raise
            continue
        if stat.S_ISREG(status.st_mode):  # from a pipe nothing may ever come
            found[Path(entry.path)] = Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return found


@dataclass
class _Reading(Generic[T]):
    stamp: Stamp
    content: T | None
    refusal: ZooError | None
    failures: int = 0
    at: float = field(default_factory=time.monotonic)

    def is_worth_another_try(self) -> bool:
        """Of a file that has stayed the same."""
        if self.refusal is None:
            return False
        may_have_passed = isinstance(self.refusal, PassingZooError) and time.monotonic() >= self.at + RETRY_S
        return self.failures < READINGS or may_have_passed


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
        """Takes back what was read: it is of no use, as long as the file stays the same or a fault has not passed."""
        self._readings[path] = _Reading(self._readings[path].stamp, None, refusal, READINGS)

    def _reading(self, path: Path, stamp: Stamp) -> _Reading[T]:
        before = self._readings.get(path)
        is_same = before is not None and before.stamp == stamp
        if before is not None and is_same and not before.is_worth_another_try():
            return before
        try:
            return _Reading(stamp, self._read(path), None)
        except Exception as error:  # whatever a file can do to its reader, the others are served
            log.debug("%s", path, exc_info=True)
            return _Reading(
                stamp, None, _refusal(path, error), before.failures + 1 if before is not None and is_same else 1
            )


def _refusal(path: Path, error: Exception) -> ZooError:
    refusal = error if isinstance(error, ZooError) else ZooError(f"{path.name} is refused: {error!r}.")
    return PassingZooError(str(refusal)) if is_passing(error) else refusal


def is_passing(error: BaseException) -> bool:
    """Whether not the file is to blame but memory that ran out, or a disk: of an error or of what caused it."""
    if is_out_of_memory(error) or isinstance(error, OSError):
        return True
    return error.__cause__ is not None and is_passing(error.__cause__)


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

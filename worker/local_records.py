"""What results were made of: a line for each in a hidden file beside them.

By names alone the result of one photo would pass for that of another, or of other settings. The file may be deleted:
names and times decide then.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from worker.contract import PictureFormat
from worker.errors import CommandError
from worker.sources import real
from worker.targets import Commission

RECORDS_NAME = ".impasto.jsonl"

log = logging.getLogger(__name__)


class Standing(Enum):
    """How a file at a result's place stands to what a run would write there."""

    MISSING = "missing"
    """There is none. An empty one is what a full disk leaves, and no picture."""
    DONE = "done"
    OUTDATED = "outdated"
    """Made of this photo as it was before."""
    OTHER_PHOTO = "made of another photo"
    OTHER_SETTINGS = "made with other settings"
    UNKNOWN = "older than its photo, and what it was made of is not on record"
    """It may be anything, a photo too."""

    @property
    def is_to_do(self) -> bool:
        """Whether the result is to be written; what is neither to do nor done is in the way."""
        return self in (Standing.MISSING, Standing.OUTDATED)


@dataclass(frozen=True)
class _Record:
    """A line of the file. It holds no path of the photo: folders of results are handed on."""

    result: str
    """Name of the file beside this one."""
    result_size: int
    """In bytes; a file of another size is not the one that was recorded."""
    photo: str
    """Digest of the photo's path."""
    photo_size: int
    """In bytes."""
    photo_mtime_ns: int
    settings: Mapping[str, object]


class Records:
    """What the results of earlier runs were made of, and those of this one."""

    def __init__(self, made_with: Mapping[str, object], quality: int | None) -> None:
        """`made_with`: what JSON can hold of whatever changes the pictures, but for `quality`: see `Terms`."""
        self._made_with = made_with
        self._quality = quality
        self._folders: dict[Path, dict[str, _Record]] = {}

    def left_to_do(self, commissions: Sequence[Commission]) -> list[Commission]:
        """Those whose results are not there, or made of their photo as it was before.

        Raises `CommandError` where files are in their places that are no results of theirs.
        """
        standings = [(commission, self.standing(commission)) for commission in commissions]
        in_the_way = [pair for pair in standings if not (pair[1].is_to_do or pair[1] is Standing.DONE)]
        if in_the_way:
            raise CommandError(_complain(*in_the_way[0], len(in_the_way) - 1))
        return [commission for commission, standing in standings if standing.is_to_do]

    def standing(self, commission: Commission) -> Standing:
        """What is at the result's place."""
        try:
            result, photo = commission.target.stat(), commission.source.stat()
        except OSError:  # reading or writing it will say why
            return Standing.MISSING
        if not commission.target.is_file() or result.st_size == 0:
            return Standing.MISSING
        record = self._of(commission.target)
        if record is None or record.result_size != result.st_size:
            return Standing.DONE if result.st_mtime_ns >= photo.st_mtime_ns else Standing.UNKNOWN
        if record.settings != self._settings(commission):
            return Standing.OTHER_SETTINGS
        # As rsync has it: size and time tell photos apart, and one that was moved with them is the same.
        if (record.photo_size, record.photo_mtime_ns) == (photo.st_size, photo.st_mtime_ns):
            return Standing.DONE
        return Standing.OUTDATED if record.photo == _digest(commission.source) else Standing.OTHER_PHOTO

    def note(self, commission: Commission, photo: os.stat_result) -> None:
        """Records a result that was just written, of a photo that was `photo` when it was read. Safe in any thread."""
        try:
            record = _Record(
                commission.target.name, commission.target.stat().st_size,
                _digest(commission.source), photo.st_size, photo.st_mtime_ns, self._settings(commission),
            )  # fmt: skip
            _append(commission.target.with_name(RECORDS_NAME), json.dumps(asdict(record)))
        except OSError as error:  # the picture is there, and its name and time will do
            log.warning("%s is not recorded: %s", commission.target, error)

    def _settings(self, commission: Commission) -> dict[str, object]:
        if commission.format is PictureFormat.PNG:  # the same at any quality
            return dict(self._made_with)
        return {**self._made_with, "quality": self._quality or commission.format.default_quality}

    def _of(self, target: Path) -> _Record | None:
        folder = target.parent
        if folder not in self._folders:
            self._folders[folder] = _read(folder / RECORDS_NAME)
        return self._folders[folder].get(target.name)


def _complain(commission: Commission, standing: Standing, more: int) -> str:
    if more:
        there = f"{commission.target} and {more} more are there already, the first {standing.value}"
    else:
        there = f"{commission.target} is there already, {standing.value}"
    return f"{there}: choose another output, or add --overwrite to replace {'them' if more else 'it'}."


def _digest(photo: Path) -> str:
    return hashlib.sha256(os.fsencode(real(photo))).hexdigest()[:16]


def _append(path: Path, line: str) -> None:
    """In one write at the end, so that runs side by side leave each other's lines whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        # The break comes first: half a line that a full disk left spoils no other.
        os.write(descriptor, f"\n{line}".encode())
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, _Record]:
    """The last record of each name. What is no record is passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return {}
    records: dict[str, _Record] = {}
    for line in lines:
        try:
            record = _Record(**json.loads(line))
            records[record.result] = record
        except (ValueError, TypeError):
            continue
    return records

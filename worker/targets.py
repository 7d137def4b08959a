"""Where results are written: one file for each source, named after it alone, and never over a source."""

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from worker.contract import PictureFormat
from worker.errors import CommandError
from worker.sources import READ_ENDINGS, Failure, Source, identity, is_folder, one_way_to, real

WRITTEN_ENDINGS = {".jpg": PictureFormat.JPEG, ".jpeg": PictureFormat.JPEG} | {
    picture_format.ending: picture_format for picture_format in PictureFormat
}


@dataclass(frozen=True)
class Commission:
    """A file to be worked on, and the file to be made of it."""

    source: Path
    target: Path
    format: PictureFormat


def plan_targets(
    sources: Sequence[Source], output: Path, asked: PictureFormat | None
) -> tuple[list[Commission], list[Failure]]:
    """A target for each source, and the sources that can have none.

    `output` is a file if its name ends as a picture's does and there is one source, else a folder.
    `asked` is the format wanted; without it each source's own, or the nearest that is written.
    Raises `CommandError` where `output` can be neither, and where two sources would become one file.
    """
    if is_picture_name(output):
        if len(sources) > 1:
            raise CommandError(f"{output} is one file, but {len(sources)} pictures were given: name a folder.")
        commissions = [Commission(source.path, output, file_format(output, asked)) for source in sources]
    else:
        _check_folder(output)
        commissions = [_in_folder(source, output, asked) for source in sources]
    _check_names(commissions)
    return _spare_photos(commissions)


def is_picture_name(output: Path) -> bool:
    """Whether a person who names this output means a file."""
    return output.suffix.lower() in READ_ENDINGS and not is_folder(output)


def file_format(output: Path, asked: PictureFormat | None) -> PictureFormat:
    """The format of an output file. Raises `CommandError` where its name says another one than `asked`, or none."""
    named = WRITTEN_ENDINGS.get(output.suffix.lower())
    if named is None:
        raise CommandError(f"{output} cannot be written: its name must end in {', '.join(WRITTEN_ENDINGS)}.")
    if asked not in (None, named):
        raise CommandError(f"{output} is named as a {named.upper()} file, but --format says {asked}: leave one out.")
    return named


def _check_folder(output: Path) -> None:
    above = (path for path in (output, *output.parents) if os.path.exists(path))  # noqa: PTH110
    first = next(above, Path("/"))  # a working directory may be gone
    if not is_folder(first):
        raise CommandError(f"{output} cannot be the output folder: {first} is a file.")


def _in_folder(source: Source, output: Path, asked: PictureFormat | None) -> Commission:
    """Another ending is added to the name and replaces none: a.heic never takes the name that a.jpg would have."""
    place, ending = source.place, source.place.suffix.lower()
    picture_format = asked or READ_ENDINGS.get(ending, PictureFormat.PNG)
    if WRITTEN_ENDINGS.get(ending) is not picture_format:
        place = place.with_name(place.name + picture_format.ending)
    return Commission(source.path, output / place, picture_format)


def _check_names(commissions: Iterable[Commission]) -> None:
    """Raises `CommandError` where two sources would become one file, as `a.bmp` and `a.bmp.png` do."""
    alike: dict[str, list[Commission]] = {}
    for commission in commissions:
        name = unicodedata.normalize("NFC", str(one_way_to(commission.target))).casefold()
        alike.setdefault(name, []).append(commission)
    for group in alike.values():
        for first, second in combinations(group, 2):
            if _is_one_file(one_way_to(first.target), one_way_to(second.target)):
                raise CommandError(
                    f"{first.source} and {second.source} would both become {second.target}: "
                    "rename one, or give each another output."
                )


def _is_one_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, there or not: it is the disk that takes a for A, or an accent for another."""
    if first == second:
        return True
    above = Path(os.path.commonpath([first, second]))
    there = next(folder for folder in (above, *above.parents) if is_folder(folder))
    try:
        with tempfile.TemporaryDirectory(prefix=".impasto-", dir=there) as trial:
            made = trial / first.relative_to(above)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.touch()
            return os.path.lexists(trial / second.relative_to(above))
    except OSError:  # writing the results will say why
        return False


def _spare_photos(commissions: Sequence[Commission]) -> tuple[list[Commission], list[Failure]]:
    inputs = {real(commission.source) for commission in commissions}
    files = {identity(commission.source) for commission in commissions} - {None}
    kept: list[Commission] = []
    failures: list[Failure] = []
    for commission in commissions:
        if real(commission.target) in inputs or identity(commission.target) in files:
            reason = f"Its result would be written over {commission.target}, a photo given: choose another output."
            failures.append(Failure(str(commission.source), reason))
        else:
            kept.append(commission)
    return kept, failures

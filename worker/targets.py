"""Where results are written: one file for each source, never over a source."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from worker.contract import PictureFormat
from worker.errors import StartError
from worker.sources import READ_ENDINGS, Failure, Source, identity, is_folder, real

WRITTEN_ENDINGS = {".jpg": PictureFormat.JPEG, ".jpeg": PictureFormat.JPEG} | {
    picture_format.ending: picture_format for picture_format in PictureFormat
}


@dataclass(frozen=True)
class Commission:
    """A file to be worked on, and the file to be made of it."""

    source: Path
    target: Path
    format: PictureFormat

    @property
    def is_done(self) -> bool:
        """Whether the target is there already. An empty file is what a full disk leaves, and no picture."""
        try:
            return self.target.is_file() and self.target.stat().st_size > 0
        except OSError:  # writing it will say why
            return False


def plan_targets(
    sources: Sequence[Source], output: Path, asked: PictureFormat | None
) -> tuple[list[Commission], list[Failure]]:
    """A target for each source, and the sources that can have none.

    `output` is a file if its name ends as a picture's does and there is one source, else a folder.
    `asked` is the format wanted; without it each source's own, or the nearest that is written.
    Raises `StartError` where `output` can be neither.
    """
    if is_picture_name(output):
        if len(sources) > 1:
            raise StartError(f"{output} is one file, but {len(sources)} pictures were given: name a folder.")
        commissions = [Commission(source.path, output, file_format(output, asked)) for source in sources]
    else:
        _check_folder(output)
        commissions = _in_folder(sources, output, asked)
    return _refuse_clashes(commissions)


def is_picture_name(output: Path) -> bool:
    """Whether a person who names this output means a file."""
    return output.suffix.lower() in READ_ENDINGS and not is_folder(output)


def file_format(output: Path, asked: PictureFormat | None) -> PictureFormat:
    """The format of an output file. Raises `StartError` where its name says another one than `asked`, or none."""
    named = WRITTEN_ENDINGS.get(output.suffix.lower())
    if named is None:
        raise StartError(f"{output} cannot be written: its name must end in {', '.join(WRITTEN_ENDINGS)}.")
    if asked not in (None, named):
        raise StartError(f"{output} is named as a {named.upper()} file, but --format says {asked}: leave one out.")
    return named


def _check_folder(output: Path) -> None:
    above = (path for path in (output, *output.parents) if os.path.exists(path))  # noqa: PTH110
    first = next(above, Path("/"))  # a working directory may be gone
    if not is_folder(first):
        raise StartError(f"{output} cannot be the output folder: {first} is a file.")


def _in_folder(sources: Sequence[Source], output: Path, asked: PictureFormat | None) -> list[Commission]:
    taken: set[PurePath] = set()
    commissions: dict[Source, Commission] = {}
    # Who keeps the name comes first: photo.jpg beside photo.heic, which then becomes photo.heic.jpg.
    for source in sorted(sources, key=lambda source: _place(source, asked)[0] != source.place):
        place, picture_format = _place(source, asked)
        if place in taken:
            place = source.place.with_name(source.place.name + picture_format.ending)
        taken.add(place)
        commissions[source] = Commission(source.path, output / place, picture_format)
    return [commissions[source] for source in sources]


def _place(source: Source, asked: PictureFormat | None) -> tuple[PurePath, PictureFormat]:
    ending = source.place.suffix.lower()
    picture_format = asked or READ_ENDINGS.get(ending, PictureFormat.PNG)
    if WRITTEN_ENDINGS.get(ending) is picture_format:
        return source.place, picture_format
    if ending in READ_ENDINGS:
        return source.place.with_suffix(picture_format.ending), picture_format
    return source.place.with_name(source.place.name + picture_format.ending), picture_format


def _refuse_clashes(commissions: Iterable[Commission]) -> tuple[list[Commission], list[Failure]]:
    commissions = list(commissions)
    inputs = {real(commission.source) for commission in commissions}
    files = {identity(commission.source) for commission in commissions} - {None}
    owners: dict[Path, Path] = {}
    kept: list[Commission] = []
    failures: list[Failure] = []
    for commission in commissions:
        target = real(commission.target)
        owner = owners.setdefault(target, commission.source)
        if target in inputs or identity(target) in files:
            reason = f"Its result would be written over {commission.target}, a photo given: choose another output."
            failures.append(Failure(str(commission.source), reason))
        elif owner is not commission.source:
            reason = f"Its result would be written over that of {owner}, as {commission.target}: use another folder."
            failures.append(Failure(str(commission.source), reason))
        else:
            kept.append(commission)
    return kept, failures

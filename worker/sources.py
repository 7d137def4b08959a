"""Which pictures a person means by files, folders and patterns."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from worker.contract import PictureFormat
from worker.errors import CommandError

READ_ENDINGS = {
    ".jpg": PictureFormat.JPEG,
    ".jpeg": PictureFormat.JPEG,
    ".jpe": PictureFormat.JPEG,
    ".jfif": PictureFormat.JPEG,
    ".png": PictureFormat.PNG,
    ".webp": PictureFormat.WEBP,
    ".avif": PictureFormat.AVIF,
    ".heic": PictureFormat.JPEG,
    ".heif": PictureFormat.JPEG,
    ".tif": PictureFormat.PNG,
    ".tiff": PictureFormat.PNG,
    ".bmp": PictureFormat.PNG,
    ".gif": PictureFormat.PNG,
}
"""Endings of files that are taken from a folder, and the format that each is written in unless another is asked for."""

COMPANION_ENDINGS = frozenset(
    {".aae", ".csv", ".db", ".dop", ".htm", ".html", ".ini", ".json", ".log", ".md", ".pp3", ".txt", ".xml", ".xmp"}
)
"""Endings of files that stand beside photos and hold none: nobody needs to hear that those are left out."""


@dataclass(frozen=True)
class Source:
    """A file to be worked on."""

    path: Path
    place: PurePath
    """Where its result belongs below the output folder, still with the ending of `path`."""


@dataclass(frozen=True)
class Failure:
    """Something that was asked for and cannot be had."""

    name: str
    """The file or pattern, as it was given."""
    reason: str
    """A sentence."""


@dataclass
class Found:
    """What a person's files, folders and patterns come to."""

    sources: list[Source] = field(default_factory=list)
    """Each file once."""
    failures: list[Failure] = field(default_factory=list)
    """What was asked for and is not there."""
    left_out: set[Path] = field(default_factory=set)
    """Files in the folders whose endings are none of pictures that are read; without hidden ones and companions."""


def find_sources(arguments: Sequence[str], output: Path | None) -> Found:
    """The files that are meant.

    Folders are searched to the bottom, without hidden files, links to folders, and the folder `output`. What lies in
    a folder keeps its place below it; where several folders are given, each keeps its own name as well. Of what has
    one name, each keeps as many of the folders above it as tell them apart.
    Raises `CommandError` where nothing but `output` itself is given.
    """
    found = Found()
    paths = _expand(arguments, found)
    left_out = identity(output) if output is not None else None
    given = [path for path in paths if left_out is None or not is_folder(path) or identity(path) != left_out]
    if paths and not given:
        raise CommandError(f"{output} is where the photos lie: choose another folder for the results.")
    folders = [path for path in given if is_folder(path)]
    roots = _tell_apart(folders) if len(folders) > 1 else dict.fromkeys(folders, PurePath())
    places = _tell_apart(path for path in given if path not in roots)
    by_path: dict[Path, Source] = {}
    for path in given:
        in_folder = path in roots
        sources = _search(path, roots[path], left_out, found) if in_folder else [Source(path, places[path])]
        for source in sources:
            by_path.setdefault(one_way_to(source.path), source)
    found.sources = list(by_path.values())
    return found


def _expand(arguments: Iterable[str], found: Found) -> list[Path]:
    paths: list[Path] = []
    for argument in arguments:
        # A name may hold brackets: what exists is no pattern.
        if os.path.exists(argument):  # noqa: PTH110
            paths.append(Path(argument))
            continue
        matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []  # noqa: PTH207
        paths.extend(Path(match) for match in matches)
        if not matches:
            found.failures.append(Failure(argument, "There is no such file or folder, or none that you may see."))
    return paths


def is_folder(path: Path) -> bool:
    """As `Path.is_dir`, and false where it may not be looked at."""
    return os.path.isdir(path)  # noqa: PTH112


def real(path: Path) -> Path:
    """As `Path.resolve`, which raises `RuntimeError` for a link to itself until Python 3.13."""
    return Path(os.path.realpath(path))


def identity(path: Path) -> tuple[int, int] | None:
    """Equal for paths to one file or folder, by links, by mounts, or on a disk that takes a for A; none if none is."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def one_way_to(path: Path) -> Path:
    """One path for all that lead to a file by other folders; links to files are files of their own."""
    return real(path.parent) / path.name


def _tell_apart(paths: Iterable[Path]) -> dict[Path, PurePath]:
    """For each path the shortest end of it, of one name or more, that no other one has."""
    parts = {path: Path(os.path.abspath(path)).parts for path in paths}  # noqa: PTH100 - links keep their names
    ends: dict[Path, PurePath] = {}
    count = 1
    while len(ends) < len(parts):
        by_end: dict[tuple[str, ...], list[Path]] = {}
        for path in parts.keys() - ends.keys():
            by_end.setdefault(parts[path][-count:], []).append(path)
        for end, owners in by_end.items():
            if len({parts[path] for path in owners}) == 1:
                ends |= dict.fromkeys(owners, PurePath(*end))
        count += 1
    return {path: end.relative_to(end.anchor) for path, end in ends.items()}


def _search(folder: Path, root: PurePath, output: tuple[int, int] | None, found: Found) -> Iterator[Source]:
    def refuse(error: OSError) -> None:
        found.failures.append(Failure(str(error.filename), f"The folder cannot be read: {error.strerror}."))

    for parent, subfolders, names in os.walk(folder, onerror=refuse):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and (output is None or identity(Path(parent, name)) != output)
        )
        for name in sorted(names):
            path = Path(parent, name)
            ending = path.suffix.lower()
            if name.startswith(".") or ending in COMPANION_ENDINGS:
                continue
            if ending not in READ_ENDINGS:
                found.left_out.add(one_way_to(path))
            elif os.path.isfile(path):  # noqa: PTH113
                yield Source(path, root / path.relative_to(folder))
            else:  # a link to nowhere, or a pipe from which nothing may ever come
                found.failures.append(Failure(str(path), "It is no file."))

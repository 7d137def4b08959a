"""Which pictures a person means by files, folders and patterns."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from worker.contract import PictureFormat
from worker.errors import StartError

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


def find_sources(arguments: Sequence[str], output: Path | None) -> tuple[list[Source], list[Failure]]:
    """The files that are meant, each once, and what was not found.

    Folders are searched to the bottom, without hidden files, links to folders, and the folder `output`. What lies in
    a folder keeps its place below it; where several folders are given, each keeps its own name as well.
    Raises `StartError` where a folder is `output` itself.
    """
    paths, failures = _expand(arguments)
    folders = [path for path in paths if is_folder(path)]
    if output is not None and any(real(folder) == real(output) for folder in folders):
        raise StartError(f"{output} is where the photos lie: choose another folder for the results.")
    found: dict[Path, Source] = {}
    for path in paths:
        sources = _search(path, output, failures, named=len(folders) > 1) if is_folder(path) else [_single(path)]
        for source in sources:
            found.setdefault(source.path.absolute(), source)
    return list(found.values()), failures


def _expand(arguments: Iterable[str]) -> tuple[list[Path], list[Failure]]:
    paths: list[Path] = []
    failures: list[Failure] = []
    for argument in arguments:
        # A name may hold brackets: what exists is no pattern.
        if os.path.exists(argument):  # noqa: PTH110
            paths.append(Path(argument))
            continue
        matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []  # noqa: PTH207
        paths.extend(Path(match) for match in matches)
        if not matches:
            failures.append(Failure(argument, "There is no such file or folder, or none that you may see."))
    return paths, failures


def is_folder(path: Path) -> bool:
    """As `Path.is_dir`, and false where it may not be looked at."""
    return os.path.isdir(path)  # noqa: PTH112


def real(path: Path) -> Path:
    """As `Path.resolve`, which raises `RuntimeError` for a link to itself until Python 3.13."""
    return Path(os.path.realpath(path))


def _single(path: Path) -> Source:
    return Source(path, PurePath(path.name))


def _search(folder: Path, output: Path | None, failures: list[Failure], named: bool) -> Iterator[Source]:
    def refuse(error: OSError) -> None:
        failures.append(Failure(str(error.filename), f"The folder cannot be read: {error.strerror}."))

    left_out = real(output) if output is not None else None
    root = PurePath(real(folder).name) if named else PurePath()
    for parent, subfolders, names in os.walk(folder, onerror=refuse):
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and real(Path(parent, name)) != left_out
        )
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in READ_ENDINGS:
                continue
            if os.path.isfile(path):  # noqa: PTH113
                yield Source(path, root / path.relative_to(folder))
            else:  # a link to nowhere, or a pipe from which nothing may ever come
                failures.append(Failure(str(path), "It is no file."))

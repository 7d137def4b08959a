"""`impasto stylize` and `impasto upscale`: from what was typed to files on the disk and a word on each failure."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from models.card import Task
from worker.contract import PictureFormat
from worker.errors import CommandError, JobError, StartError
from worker.local_records import Records
from worker.printable import printable
from worker.settings import WorkerSettings
from worker.sources import Failure, find_sources
from worker.targets import file_format, is_picture_name, plan_targets

if TYPE_CHECKING:  # they bring torch, which takes a second: only once there is something to do
    from worker.catalog import Catalog
    from worker.local import Done, LocalStudio
    from worker.recipes import Recipe

STANDARD_STREAM = "-"

ENDINGS_NAMED = 5
LONGEST_ENDING = 10
"""In characters with its dot; what is longer is the end of a sentence in a name."""


@dataclass(frozen=True, kw_only=True)
class LocalRequest:
    """What was asked for on the command line."""

    inputs: Sequence[str]
    output: str | None
    format: PictureFormat | None
    quality: int | None
    overwrite: bool
    quiet: bool
    max_megapixels: float
    settings: WorkerSettings
    task: Task
    recipe_of: "Callable[[Catalog], Recipe]"
    """Raises `JobError` for what the catalog lacks, `ZooError` where the zoo is to blame."""
    made_with: Mapping[str, object]
    """The recipe in words that JSON can hold: equal for equal pictures."""


@dataclass
class _Tally:
    """How a run went so far."""

    failures: list[Failure]
    skipped: int
    left_out: str
    """What of the folders was left out, as a part of a sentence; may be empty."""
    written: int = 0

    def add(self, done: "Done") -> None:
        """Counts one file."""
        if done.error is None:
            self.written += 1
        else:
            self.failures.append(Failure(str(done.commission.source), done.error))


def run(request: LocalRequest) -> int:
    """Works through the request. Returns the exit status: 1 if anything failed.

    Raises `CommandError` where it is the command that cannot be carried out, another `WorkerError` for all else.
    """
    if list(request.inputs) == [STANDARD_STREAM]:
        return _run_pipe(request)
    if STANDARD_STREAM in request.inputs:
        raise CommandError("- (standard input) stands alone: give either - or files.")
    if request.output == STANDARD_STREAM:
        return _run_to_stdout(request)
    if request.output is None:
        raise CommandError("Where should the pictures go? Name a folder: -o painted/.")
    return _run_files(request, Path(request.output))


def _run_files(request: LocalRequest, output: Path) -> int:
    found = find_sources(request.inputs, output)
    left_out = _left_out(found.left_out)
    if not found.sources and not found.failures:
        raise StartError(printable(f"There are no pictures in {', '.join(request.inputs)}{left_out}."))
    commissions, clashes = plan_targets(found.sources, output, request.format)
    records = Records(request.made_with, request.quality)
    pending = commissions if request.overwrite else records.left_to_do(commissions)
    tally = _Tally([*found.failures, *clashes], len(commissions) - len(pending), left_out)
    if pending:
        _make_folder(output.parent if is_picture_name(output) else output)
    studio = _open_studio(request) if pending else None
    # What was in hand when it was broken off is finished, but no longer counted.
    summary = f"Broken off; what is in {output} is whole."
    try:
        if studio is not None:
            _work_through(request, studio.run(pending, records), len(pending), tally)
        summary = _summarize(output, tally)
    finally:
        _report(request, summary, tally.failures)
    return 1 if tally.failures else 0


def _make_folder(folder: Path) -> None:
    """Before anything is computed that could then not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"{folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(f"{folder} may not be written to: choose another place, or see who owns it.")


def _work_through(request: LocalRequest, outcomes: "Generator[Done]", count: int, tally: _Tally) -> None:
    with _progress(request) as progress, closing(outcomes):
        bar = progress.add_task("", total=count)
        for done in outcomes:
            tally.add(done)
            progress.advance(bar)


def _progress(request: LocalRequest) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=request.quiet or not sys.stderr.isatty(),
    )


def _summarize(output: Path, tally: _Tally) -> str:
    return f"{_count(tally.written)} written to {output}{_skipped(tally.skipped)}{tally.left_out}."


def _report(request: LocalRequest, summary: str, failures: Sequence[Failure]) -> None:
    if not request.quiet:
        sys.stderr.write(f"{printable(summary)}\n")
    if failures:
        sys.stderr.write(f"{_count(len(failures))} failed:\n")
    for failure in failures:
        sys.stderr.write(f"  {printable(failure.name)}: {printable(failure.reason)}\n")


def _count(pictures: int) -> str:
    return f"{pictures} picture" if pictures == 1 else f"{pictures} pictures"


def _skipped(skipped: int) -> str:
    return f", {skipped} there already (--overwrite does them again)" if skipped else ""


def _left_out(paths: Iterable[Path]) -> str:
    counts = Counter(sorted(path.suffix.lower() for path in paths))
    if not counts:
        return ""
    endings = [ending for ending, _ in counts.most_common() if 0 < len(ending) <= LONGEST_ENDING]
    named = sorted(endings[:ENDINGS_NAMED])
    others = " and others" if len(named) < len(counts) else ""
    examples = f" ({', '.join(named)}{others})" if named else ""
    count = counts.total()
    return f"; {count} other {'file' if count == 1 else 'files'} left out{examples}"


def _run_pipe(request: LocalRequest) -> int:
    if sys.stdin.isatty():
        raise CommandError("No picture comes in on standard input: impasto stylize - --style candy < photo.jpg.")
    if request.output in (None, STANDARD_STREAM):
        _check_stdout()
        content = _read_stdin()
        _write_to_stdout(_open_studio(request).convert(content, request.format))
        return 0
    return _write_to_file(request, Path(str(request.output)))


def _write_to_file(request: LocalRequest, target: Path) -> int:
    from worker.whole_files import write_whole

    if not is_picture_name(target):
        raise CommandError(
            f"{target} does not say which file the picture should become: name one, such as painted.jpg."
        )
    picture_format = file_format(target, request.format)
    if target.exists() and not request.overwrite:
        raise CommandError(f"{target} is there already: add --overwrite.")
    content = _read_stdin()
    write_whole(target, _open_studio(request).convert(content, picture_format))
    return 0


def _run_to_stdout(request: LocalRequest) -> int:
    _check_stdout()
    found = find_sources(request.inputs, None)
    if found.failures:
        raise StartError(f"{found.failures[0].name}: {found.failures[0].reason}")
    if len(found.sources) != 1:
        raise CommandError(f"-o - takes one picture, not {len(found.sources)}.")
    content = found.sources[0].path.read_bytes()
    _write_to_stdout(_open_studio(request).convert(content, request.format))
    return 0


def _read_stdin() -> bytes:
    content = sys.stdin.buffer.read()
    if not content:
        raise StartError("Standard input is empty: a picture should come in there.")
    return content


def _check_stdout() -> None:
    if sys.stdout.isatty():
        raise CommandError("A picture is nothing for a terminal: redirect it (> painted.jpg) or give -o painted.jpg.")


def _write_to_stdout(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _open_studio(request: LocalRequest) -> "LocalStudio":
    from worker.local import LocalStudio, Terms
    from worker.workbench import open_workbench

    bench = open_workbench(request.settings, request.task)
    terms = Terms(request.quality, round(request.max_megapixels * 1e6))
    try:
        recipe = request.recipe_of(bench.catalog)
    except JobError as error:
        raise CommandError(error.detail) from error
    return LocalStudio(bench.engine, recipe, terms)

"""`impasto`: the command line. Heavy modules are imported inside the commands that need them: `--help` is quick."""

import importlib.metadata
import logging
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from models.card import Task
from worker.contract import MIN_SIDE, PictureFormat, parse_blend
from worker.errors import CommandError, WorkerError

if TYPE_CHECKING:
    from worker.catalog import Catalog
    from worker.recipes import Recipe
    from worker.settings import WorkerSettings

PACKAGE = "impasto"

app = typer.Typer(
    name=PACKAGE, help="Paints photos in a style and enlarges them.", pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def version() -> str:
    """The installed version, or what stands for it in a checkout that is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def read_settings(zoo: Path | None, device: str | None) -> "WorkerSettings":
    """Settings from the environment, with what was typed before them. Raises `StartError`."""
    from worker.settings import WorkerSettings

    settings = WorkerSettings.load(device)
    # What a person needs to know is said in sentences; the log is for who looks for the cause of one.
    logging.basicConfig(level=logging.INFO if settings.log_level == "debug" else logging.CRITICAL)
    return settings.model_copy(update={"zoo_dir": zoo}) if zoo is not None else settings


def _parse_style(text: str) -> dict[str, float]:
    try:
        return parse_blend(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error


def _parse_format(text: str) -> PictureFormat:
    try:
        return PictureFormat("jpeg" if text.lower() == "jpg" else text.lower())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(PictureFormat)}.") from error


def _parse_device(text: str) -> str:
    for device in filter(None, map(str.strip, text.split(","))):  # a service may have several
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
            raise typer.BadParameter(f"{device!r} is none of auto, cpu, cuda and cuda:N.")
    return text


def _complete_style(incomplete: str) -> list[str]:
    """What the shell offers after `--style`: names of files, because reading cards would take too long."""
    before, comma, last = incomplete.rpartition(",")
    zoo = Path(os.environ.get("IMPASTO_ZOO_DIR") or Path(__file__).parents[1] / "models" / "zoo")
    names = sorted(path.stem for path in zoo.rglob("*.safetensors") if path.stem.startswith(last))
    return [f"{before}{comma}{name}" for name in names]


Inputs = Annotated[
    list[str], typer.Argument(help="Files, folders (searched to the bottom), 'patterns*', or - for standard input.")
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="Folder for the results, a file for a single one, - for a pipe.")
]
Format = Annotated[
    PictureFormat | None,
    typer.Option(parser=_parse_format, metavar="jpeg|png|webp|avif", help="Default: each photo's own."),
]
Quality = Annotated[
    int | None, typer.Option(min=1, max=100, help="Default: 90 for JPEG, 85 for WebP, 70 for AVIF.")
]  # fmt: skip
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do again what is there, whatever it was made of.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary; failures are still named.")]
MaxMegapixels = Annotated[float, typer.Option(min=0.001, max=100_000, help="Largest picture taken or made.")]
ZOO_HELP = "Folder of checkpoints. Default: IMPASTO_ZOO_DIR, then the shipped."
Zoo = Annotated[Path | None, typer.Option(exists=True, file_okay=False, help=ZOO_HELP)]
Device = Annotated[
    str | None,
    typer.Option(
        parser=_parse_device, metavar="DEVICE", help="auto, cpu, cuda or cuda:N. Default: IMPASTO_DEVICES, then auto."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.callback(invoke_without_command=True)
def impasto(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Paints photos in a style and enlarges them: here, or as a service."""
    if show_version:
        typer.echo(f"impasto {version()}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def stylize(
    inputs: Inputs,
    style: Annotated[
        dict[str, float],
        typer.Option(
            "--style", "-s", parser=_parse_style, metavar="NAME|A:0.7,B:0.3", autocompletion=_complete_style,
            help="A style of `impasto styles`, or a blend of several.",
        ),
    ],
    output: Output = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0 is the photo, 1 the painting.")] = 1.0,
    preserve_color: Annotated[bool, typer.Option("--preserve-color", help="Keep the photo's colours.")] = False,
    size: Annotated[
        int | None, typer.Option(min=MIN_SIDE, max=65535, help="Reduce to that longest side, in px, first.")
    ] = None,
    format: Format = None,
    quality: Quality = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    max_megapixels: MaxMegapixels = 250,
    zoo: Zoo = None,
    device: Device = None,
) -> None:  # fmt: skip
    """Paint pictures, here and without a server.

    impasto stylize photos/ --style candy -o painted/
    """
    settings = read_settings(zoo, device)
    from worker.local_run import LocalRequest, run

    def recipe_of(catalog: "Catalog") -> "Recipe":
        from worker.recipes import StyleChoice, StyleRecipe

        return StyleRecipe(catalog, StyleChoice(style, strength, preserve_color, size))

    request = LocalRequest(
        inputs=inputs, output=output, format=format, quality=quality, overwrite=overwrite, quiet=quiet,
        max_megapixels=max_megapixels, settings=settings, task=Task.STYLE, recipe_of=recipe_of,
        made_with={"style": style, "strength": strength, "preserve_color": preserve_color, "size": size},
    )  # fmt: skip
    raise typer.Exit(run(request))


@app.command()
def upscale(
    inputs: Inputs,
    factor: Annotated[int, typer.Option("--factor", "-f", help="How many times wider and higher: 2, 4 or 8.")],
    output: Output = None,
    format: Format = None,
    quality: Quality = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    max_megapixels: MaxMegapixels = 250,
    zoo: Zoo = None,
    device: Device = None,
) -> None:
    """Enlarge pictures, here and without a server.

    impasto upscale photos/ --factor 4 -o large/
    """
    settings = read_settings(zoo, device)
    from worker.local_run import LocalRequest, run

    def recipe_of(catalog: "Catalog") -> "Recipe":
        from worker.recipes import UpscaleRecipe

        return UpscaleRecipe(catalog, factor)

    request = LocalRequest(
        inputs=inputs, output=output, format=format, quality=quality, overwrite=overwrite, quiet=quiet,
        max_megapixels=max_megapixels, settings=settings, task=Task.UPSCALE, recipe_of=recipe_of,
        made_with={"factor": factor},
    )  # fmt: skip
    raise typer.Exit(run(request))


@app.command()
def styles(as_json: Json = False, zoo: Zoo = None) -> None:
    """List what the zoo holds: styles, upscalers, and files that are refused and why."""
    settings = read_settings(zoo, "cpu")
    from worker.listing import to_json, to_text
    from worker.workbench import open_workbench

    catalog = open_workbench(settings).catalog
    typer.echo(to_json(settings.zoo_dir, catalog) if as_json else to_text(catalog))


@app.command()
def doctor(
    as_json: Json = False,
    zoo: Annotated[Path | None, typer.Option(help=ZOO_HELP)] = None,  # what is wrong with it is a finding
    device: Device = None,
) -> None:
    """Look for what is wrong with this machine or its settings, and say how to mend it."""
    settings = read_settings(zoo, device)
    from worker.doctor import examine
    from worker.findings import is_healthy, to_json, to_text

    findings = examine(settings)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    typer.echo(to_json(findings) if as_json else to_text(findings, width))
    raise typer.Exit(0 if is_healthy(findings) else 1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: IMPASTO_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one. Default: IMPASTO_PORT.")
    ] = None,
    zoo: Zoo = None,
    device: Device = None,
) -> None:
    """Run the whole product on this machine; with IMPASTO_REDIS_URL set, the API alone."""
    options = {"HOST": host, "PORT": port, "ZOO_DIR": zoo, "DEVICES": device}
    _become("service", [], {name: str(value) for name, value in options.items() if value is not None})


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def worker(context: typer.Context) -> None:
    """Run a worker for IMPASTO_REDIS_URL; arguments are those of `python -m worker`."""
    _become("worker", context.args, {})


def _become(module: str, arguments: list[str], settings: dict[str, str]) -> NoReturn:
    """Ends this program by running another in its place, which then gets the signals meant for it."""
    overrides = {f"IMPASTO_{name}": value for name, value in settings.items()}
    # Without the variable a file service.py in the user's folder would be run instead.
    environment = {**os.environ, "PYTHONSAFEPATH": "1", **overrides}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606


def main() -> NoReturn:
    """The console script. Whatever goes wrong is one sentence on standard error, and an exit status."""
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(app(prog_name=PACKAGE, standalone_mode=False))
    except typer.TyperException as error:
        _fail(f"{error.format_message().rstrip('.')}.{_advice(error)}", 2)
    except CommandError as error:
        _fail(str(error), 2)
    except (WorkerError, OSError) as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        logging.getLogger(PACKAGE).info("unforeseen", exc_info=error)
        _fail(f"Something went wrong that was not foreseen: {error!r}. IMPASTO_LOG_LEVEL=debug shows where.", 1)


def _advice(error: typer.TyperException) -> str:
    context: typer.Context | None = getattr(error, "ctx", None)
    return f" See {context.command_path} --help." if context is not None else ""


def _fail(sentence: str, status: int) -> NoReturn:
    sys.stderr.write(f"impasto: {sentence}\n")
    sys.exit(status)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the program as Ctrl-C does: with its half-written files removed."""
    sys.exit(143)


if __name__ == "__main__":
    main()

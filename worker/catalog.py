"""The zoo: which files of a folder are served, and which are refused and why."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.card import ModelCard, Task
from worker.archive import Archive, read_archive, read_style
from worker.arrays import Norms
from worker.contract import ErrorCode, StyleInfo, StyleJob, UpscalerInfo
from worker.errors import JobError, ZooError
from worker.runtimes import Network, Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedTrunk:
    """A style trunk on the device."""

    card: ModelCard
    network: Network


@dataclass(frozen=True)
class LoadedStyle:
    """A style and the trunk that paints it."""

    card: ModelCard
    norm_P: Norms
    trunk: LoadedTrunk
    preview: bytes | None
    """A JPEG, if one lies beside the style's file."""


@dataclass(frozen=True)
class LoadedUpscaler:
    """An upscaler on the device."""

    card: ModelCard
    factor: int
    network: Network


@dataclass(frozen=True)
class Catalog:
    """Everything a worker can do."""

    styles: dict[str, LoadedStyle] = field(default_factory=dict)
    upscalers: dict[int, LoadedUpscaler] = field(default_factory=dict)
    refused: tuple[ZooError, ...] = ()

    def blend(self, job: StyleJob) -> tuple[LoadedTrunk, Norms, str]:
        """Trunk, vector (P,) and digest for a job's styles. Raises `JobError` for unknown or unmixable ones."""
        styles = [self._style(name) for name in job.styles]
        trunk = styles[0].trunk
        if any(style.trunk is not trunk for style in styles):
            raise JobError(ErrorCode.UNKNOWN_STYLE, f"{', '.join(job.styles)} cannot be blended: their trunks differ.")
        weights = np.array(list(job.styles.values()), np.float32)
        norm_P = weights @ np.stack([style.norm_P for style in styles])
        return trunk, norm_P.astype(np.float32), "+".join(style.card.digest for style in styles)

    def upscaler(self, factor: int) -> LoadedUpscaler:
        """The upscaler of that factor. Raises `JobError`."""
        if factor not in self.upscalers:
            raise JobError(ErrorCode.UNKNOWN_FACTOR, f"No upscaler here enlarges {factor} times.")
        return self.upscalers[factor]

    def style_infos(self) -> tuple[StyleInfo, ...]:
        """What clients are told of the styles."""
        return tuple(
            StyleInfo(
                name=name,
                digest=style.card.digest,
                title=style.card.source.get("title", ""),
                artist=style.card.source.get("artist", ""),
                year=style.card.source.get("year", ""),
                terms=style.card.source.get("terms", ""),
                preview=style.preview is not None,
            )
            for name, style in self.styles.items()
        )

    def upscaler_infos(self) -> tuple[UpscalerInfo, ...]:
        """What clients are told of the upscalers."""
        return tuple(
            UpscalerInfo(name=upscaler.card.name, factor=factor, digest=upscaler.card.digest)
            for factor, upscaler in self.upscalers.items()
        )

    def _style(self, name: str) -> LoadedStyle:
        if name not in self.styles:
            raise JobError(ErrorCode.UNKNOWN_STYLE, f"No style here is called {name!r}.")
        return self.styles[name]


class ZooLoader:
    """Loads a zoo folder onto a runtime. A bad file is refused by name and does not keep the others from serving."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._refused: list[ZooError] = []

    def load(self, folder: Path) -> Catalog:
        """The catalog of a folder. Raises `ZooError` when the folder cannot be listed."""
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            raise ZooError(f"The zoo {folder} cannot be read: {error.strerror}. Set IMPASTO_ZOO_DIR.") from error
        self._refused = []
        archives = self._read_archives(path for path in paths if path.suffix == ".pt")
        trunks = self._load_trunks(archives)
        styles = self._load_styles((path for path in paths if path.suffix == ".safetensors"), trunks)
        catalog = Catalog(styles, self._load_upscalers(archives), tuple(self._refused))
        for refusal in catalog.refused:
            log.warning("%s", refusal)
        return catalog

    def _read_archives(self, paths: Iterable[Path]) -> list[Archive]:
        archives = []
        for path in paths:
            try:
                archives.append(read_archive(path))
            except ZooError as error:
                self._refused.append(error)
        return archives

    def _load_trunks(self, archives: list[Archive]) -> dict[str, LoadedTrunk]:
        trunks = {}
        for archive in archives:
            if archive.card.task is Task.STYLE_TRUNK:
                trunks[archive.card.digest] = LoadedTrunk(archive.card, self._runtime.load(archive))
        return trunks

    def _load_upscalers(self, archives: list[Archive]) -> dict[int, LoadedUpscaler]:
        upscalers: dict[int, LoadedUpscaler] = {}
        for archive in archives:
            factor = archive.card.factor
            if archive.card.task is not Task.UPSCALE or factor is None:
                continue
            if factor in upscalers:
                other = upscalers[factor].card.name
                self._refused.append(ZooError(f"{archive.card.name} is refused: {other} has its factor {factor}."))
                continue
            upscalers[factor] = LoadedUpscaler(archive.card, factor, self._runtime.load(archive))
        return dict(sorted(upscalers.items()))

    def _load_styles(self, paths: Iterable[Path], trunks: dict[str, LoadedTrunk]) -> dict[str, LoadedStyle]:
        styles: dict[str, LoadedStyle] = {}
        for path in paths:
            try:
                style = self._load_style(path, trunks)
                if style.card.name in styles:
                    raise ZooError(f"{path.name} is refused: another file holds a style {style.card.name!r}.")
                styles[style.card.name] = style
            except ZooError as error:
                self._refused.append(error)
        return styles

    @staticmethod
    def _load_style(path: Path, trunks: dict[str, LoadedTrunk]) -> LoadedStyle:
        card, norm_P = read_style(path)
        trunk = trunks.get(card.trunk_digest or "")
        if trunk is None or trunk.card.norm_size != card.norm_size:
            raise ZooError(f"{path.name} is refused: the trunk it was trained on is not in the zoo.")
        preview = path.with_suffix(".jpg")
        return LoadedStyle(card, norm_P, trunk, preview.read_bytes() if preview.is_file() else None)

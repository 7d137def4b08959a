"""The zoo: which files of a folder are served, and which are refused and why."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.card import ModelCard, Task
from worker.archive import Archive, read_archive, read_style
from worker.arrays import Norms
from worker.contract import ErrorCode, StyleInfo, StyleJob, UpscalerInfo
from worker.errors import JobError, PassingZooError, ZooError
from worker.golden import prove_enlarging, prove_painting
from worker.runtimes import Network, Runtime
from worker.zoo_choice import choose_styles, choose_upscalers
from worker.zoo_files import RepeatedWarnings, Shelf, Stamp, is_passing, scan

log = logging.getLogger(__name__)

SERVED_TASKS = (Task.STYLE, Task.UPSCALE)
PREFERRED_TRUNK = "trunk-w16"
"""Name of the trunk that counts, unless told otherwise, where styles of one name have several."""


@dataclass(frozen=True, eq=False)
class LoadedTrunk:
    """A style trunk on the device."""

    card: ModelCard
    network: Network


@dataclass(frozen=True, eq=False)
class LoadedStyle:
    """A style and the trunk that paints it."""

    card: ModelCard
    norm_P: Norms
    trunk: LoadedTrunk
    preview: bytes | None
    """A JPEG, if one lies beside the style's file."""


@dataclass(frozen=True, eq=False)
class LoadedUpscaler:
    """An upscaler on the device."""

    card: ModelCard
    factor: int
    network: Network


class Models(Protocol):
    """Finds what a job needs."""

    def blend(self, job: StyleJob) -> tuple[LoadedTrunk, Norms, str]:
        """See `Catalog.blend`."""
        ...

    def upscaler(self, factor: int) -> LoadedUpscaler:
        """See `Catalog.upscaler`."""
        ...


@dataclass(frozen=True)
class Catalog:
    """Everything a worker can do."""

    styles: dict[str, LoadedStyle] = field(default_factory=dict)
    upscalers: dict[int, LoadedUpscaler] = field(default_factory=dict)
    refused: tuple[ZooError, ...] = ()
    trunks: tuple[str, ...] = ()
    """Names of the trunks in the zoo, whether a style that is served needs them or not."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that it can do."""
        return not self.styles and not self.upscalers

    def models(self) -> list[LoadedTrunk | LoadedUpscaler]:
        """Every network in use, once."""
        trunks = {style.trunk.card.digest: style.trunk for style in self.styles.values()}
        return [*trunks.values(), *self.upscalers.values()]

    def serves_same_as(self, other: "Catalog") -> bool:
        """Whether clients would notice no difference."""
        return self.styles == other.styles and self.upscalers == other.upscalers

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


class _UnfitError(Exception):
    """A file that is whole but of no use."""

    def __init__(self, shelf: Shelf[Any], path: Path, refusal: ZooError) -> None:
        self.shelf = shelf
        self.path = path
        self.refusal = refusal


class ZooLoader:
    """Loads a zoo folder onto a runtime; asked again, it loads what has changed and keeps the rest as it is.

    A bad file is refused by name. It keeps neither the others from being served, nor what it held when it was good.
    """

    def __init__(self, runtime: Runtime, trunk: str = PREFERRED_TRUNK, tasks: Collection[Task] = SERVED_TASKS) -> None:
        """`trunk`: name of the trunk that counts where styles of one name have several; `tasks`: what is loaded."""
        self._tasks = tasks
        self._runtime = runtime
        self._preferred = trunk
        self._archives = Shelf(self._read_card)
        self._vectors = Shelf(read_style)
        self._previews: dict[Path, tuple[Stamp, bytes]] = {}
        self._at_hand: dict[Path, Archive] = {}
        """Networks that were read to prove them whole, until it is known which are needed."""
        self._trunks: dict[str, LoadedTrunk] = {}
        """By digest. One stays as long as a style needs it, even when its file is gone."""
        self._styles: dict[Path, LoadedStyle] = {}
        self._upscalers: dict[Path, LoadedUpscaler] = {}
        self._refused: list[ZooError] = []
        self._warnings = RepeatedWarnings()
        self.stamps: Mapping[Path, Stamp] = {}
        """The files that were loaded last."""

    def load(self, folder: Path) -> Catalog:
        """The catalog of a folder. Raises `ZooError` when the folder cannot be listed."""
        return self.load_files(scan(folder))

    def load_files(self, stamps: Mapping[Path, Stamp]) -> Catalog:
        """The catalog of these files."""
        self.stamps = stamps
        self._archives.update({path: stamp for path, stamp in stamps.items() if path.suffix == ".pt"})
        self._vectors.update({path: stamp for path, stamp in stamps.items() if path.suffix == ".safetensors"})
        self._previews = dict(self._read_previews(stamps))
        catalog = None
        while catalog is None:
            try:
                catalog = self._build()
            except _UnfitError as unfit:
                unfit.shelf.refuse(unfit.path, unfit.refusal)
        self._at_hand.clear()
        self._warnings.log(map(str, catalog.refused))
        return catalog

    def _read_card(self, path: Path) -> ModelCard:
        archive = self._at_hand[path] = read_archive(path)
        return archive.card

    def _read_previews(self, stamps: Mapping[Path, Stamp]) -> Iterator[tuple[Path, tuple[Stamp, bytes]]]:
        for path in self._vectors.paths:
            preview = path.with_suffix(".jpg")
            if preview not in stamps:
                continue
            before = self._previews.get(preview)
            if before is not None and before[0] == stamps[preview]:
                yield preview, before
                continue
            with suppress(OSError):
                yield preview, (stamps[preview], preview.read_bytes())

    def _build(self) -> Catalog:
        """What the files that were read make together. Raises `_UnfitError` for one that turns out to be of no use."""
        self._refused = [*self._archives.refusals, *self._vectors.refusals]
        cards = {path: card for path, card in self._archives.contents.items() if card.task is Task.STYLE_TRUNK}
        trunks = {trunk.card.digest: trunk.card for trunk in self._trunks.values()} | {
            card.digest: card for card in cards.values()
        }
        vectors = self._usable_vectors(trunks) if Task.STYLE in self._tasks else {}
        chosen = choose_styles({path: card for path, (card, _) in vectors.items()}, trunks, self._preferred)
        self._refused += chosen.refused
        styles = {path: self._load_style(path, *vectors[path]) for path in chosen.paths}
        upscalers = self._load_upscalers() if Task.UPSCALE in self._tasks else {}
        self._trunks = {style.trunk.card.digest: style.trunk for style in styles.values()}
        self._styles, self._upscalers = styles, upscalers
        return Catalog(
            dict(sorted((style.card.name, style) for style in styles.values())),
            {upscaler.factor: upscaler for upscaler in sorted(upscalers.values(), key=lambda each: each.factor)},
            tuple(self._refused),
            tuple(sorted({card.name for card in trunks.values()})),
        )

    def _usable_vectors(self, trunks: Mapping[str, ModelCard]) -> dict[Path, tuple[ModelCard, Norms]]:
        """What each file holds, or held when it was good."""
        usable = {
            path: (style.card, style.norm_P) for path, style in self._styles.items() if path in self._vectors.paths
        }
        for path, (card, norm_P) in self._vectors.contents.items():
            trunk = trunks.get(card.trunk_digest or "")
            if trunk is not None and trunk.norm_size == card.norm_size:
                usable[path] = (card, norm_P)
                continue
            reason = "the trunk it was trained on is not in the zoo"
            self._refused.append(ZooError(f"{path.name} is refused: {reason}."))
        return dict(sorted(usable.items()))

    def _load_style(self, path: Path, card: ModelCard, norm_P: Norms) -> LoadedStyle:
        trunk = self._load_trunk(card.trunk_digest or "")
        _, preview = self._previews.get(path.with_suffix(".jpg"), (None, None))
        before = self._styles.get(path)
        if before is None or before.card != card or before.trunk is not trunk:
            with self._proving(self._vectors, path):
                prove_painting(trunk.network, norm_P)
        elif before.preview == preview:
            return before
        return LoadedStyle(card, norm_P, trunk, preview)

    def _load_trunk(self, digest: str) -> LoadedTrunk:
        if digest not in self._trunks:
            path, card = next((path, card) for path, card in self._archives.contents.items() if card.digest == digest)
            self._trunks[digest] = LoadedTrunk(card, self._load_network(path, card))
        return self._trunks[digest]

    def _load_upscalers(self) -> dict[Path, LoadedUpscaler]:
        """What each file holds, or held when it was good."""
        contents = self._archives.contents
        spoilt = self._archives.paths - contents.keys()
        cards = {path: upscaler.card for path, upscaler in self._upscalers.items() if path in spoilt}
        cards |= {path: card for path, card in contents.items() if card.task is Task.UPSCALE}
        chosen = choose_upscalers(dict(sorted(cards.items())))
        self._refused += chosen.refused
        return {path: self._load_upscaler(path, cards[path]) for path in chosen.paths}

    def _load_upscaler(self, path: Path, card: ModelCard) -> LoadedUpscaler:
        before = self._upscalers.get(path)
        if before is not None and before.card == card:
            return before
        network, factor = self._load_network(path, card), card.factor or 0
        with self._proving(self._archives, path):
            prove_enlarging(network, factor)
        return LoadedUpscaler(card, factor, network)

    def _load_network(self, path: Path, card: ModelCard) -> Network:
        with self._proving(self._archives, path):
            archive = self._at_hand.get(path) or read_archive(path)
            if archive.card != card:
                raise ZooError("it changes while it is read")
            return self._runtime.load(archive)

    @staticmethod
    @contextmanager
    def _proving(shelf: Shelf[Any], path: Path) -> Iterator[None]:
        """Whatever a network does wrong here, it must do to no job."""
        try:
            yield
        except Exception as error:
            log.debug("%s", path, exc_info=True)
            reason = (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
            refuse = PassingZooError if is_passing(error) else ZooError
            raise _UnfitError(shelf, path, refuse(f"{path.name} is refused: {reason}.")) from error

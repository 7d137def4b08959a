"""How fast a network alone is: `python -m benchmarks.engine`.

Every runtime of the worker beside PyTorch eager and ONNX Runtime with the same weights, between 8-bit pictures in the
host's memory, in turn within each round; and beside the floor that arithmetic and memory set.
"""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.floor import Peak, count_layers, measure_peak
from benchmarks.pictures import draw_pixels
from benchmarks.report import Goal, Report, Table, numbers, options
from benchmarks.rivals import EagerNetwork, OnnxNetwork
from benchmarks.rounds import time_in_turn
from benchmarks.zoos import Trunk, trunks
from worker.arrays import Norms, Pixels
from worker.devices import choose_runtime
from worker.errors import StartError
from worker.runtimes.cuda_graphs import CALLS_BEFORE

Paint = Callable[[Pixels, Norms], Pixels]

EAGER = "PyTorch eager float32"
RUNTIMES = {
    "cpu": (("openvino", "bfloat16"), ("openvino", "float32"), ("torchscript", "float32")),
    "cuda": (("torchscript", "float16"), ("torchscript", "float32")),
}
LARGEST_CALL = {"cpu": 2.2, "cuda": 60.0}
"""Megapixels of one call past which a batch only repeats what smaller ones show. CUDA pads no maps of 2**31 values."""
LEAST_SHARE = 0.01
"""Of the time, for a kind of layer to be told."""
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Contender:
    """A program that runs the trunk."""

    name: str
    precision: str
    paint: Paint


@dataclass(frozen=True)
class Case:
    """A batch of pictures of one size."""

    width: int
    height: int
    batch: int

    @property
    def megapixels(self) -> float:
        """Of the whole batch."""
        return self.width * self.height * self.batch / 1e6

    @property
    def name(self) -> str:
        """The size, as in the tables."""
        return f"{self.width}x{self.height}"


def main() -> None:
    """Runs the benchmark."""
    chosen = _parser().parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report = Report("engine", chosen)
    peaks = _measure_peaks(report, device)
    speeds = report.table(
        f"Engine on {device}", *("trunk", "size", "batch", "runtime", "ms", "pictures/s", "x eager", "of the floor")
    )
    layers = report.table("OpenVINO's time in the layers of one 512x512 picture", "trunk", "layers", "ms", "share")
    with TemporaryDirectory() as folder:
        for trunk in trunks(Path(folder), chosen.widths):
            contenders = list(_contenders(trunk, device, Path(folder)))
            for case in _cases(chosen, device):
                _measure(speeds, trunk, case, _those_for(case, contenders, chosen), peaks, chosen)
            if device == "cpu":
                _profile(layers, trunk)
    report.goals += _goals(speeds, device)
    report.finish()


def _parser() -> ArgumentParser:
    parser = options("engine", "Pictures a second of a network alone, per runtime.")
    parser.add_argument("--widths", type=numbers, default=(16, 32), help="trunks to measure (16,32)")
    parser.add_argument("--batches", type=numbers, default=(1, 2, 4, 8, 16, 32), help="1,2,4,8,16,32")
    parser.add_argument("--rival-batches", type=numbers, default=(1, 8), help="batches for all but the fastest (1,8)")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is called in turn (5)")
    return parser


def _cases(chosen: Namespace, device: str) -> Iterator[Case]:
    sizes = ((256, 256), (512, 512)) if chosen.quick else ((256, 256), (512, 512), (1024, 1024), (1920, 1080))
    for width, height in sizes:
        for batch in (1, 4) if chosen.quick else chosen.batches:
            case = Case(width, height, batch)
            if case.megapixels <= LARGEST_CALL[device]:
                yield case


def _runtimes(device: str) -> Iterator[tuple[str, str]]:
    """Those of the worker and their precisions that this machine has, and not only imitates."""
    for runtime, precision in RUNTIMES[device]:
        try:
            fastest = choose_runtime(runtime, device, "auto", 0).device
        except StartError:
            continue
        if precision == "float32" or fastest.endswith(precision):
            yield runtime, precision


def _contenders(trunk: Trunk, device: str, folder: Path) -> Iterator[Contender]:
    """Programs; the first is the one that the worker would choose."""
    for runtime, precision in _runtimes(device):
        network = choose_runtime(runtime, device, precision, 0).load(trunk.archive)
        yield Contender(f"{runtime} {precision}", precision, network.paint)
    if device == "cuda":
        graphs = choose_runtime("torchscript", device, "float16", 0, cuda_graphs=True).load(trunk.archive)
        yield Contender("torchscript float16, CUDA graphs", "float16", graphs.paint)
    if device == "cpu":
        yield Contender("ONNX Runtime float32", "float32", OnnxNetwork(trunk.archive, folder).paint)
    yield Contender(EAGER, "float32", EagerNetwork(trunk.archive, device).paint)


def _those_for(case: Case, contenders: Sequence[Contender], chosen: Namespace) -> Sequence[Contender]:
    return contenders if case.batch in chosen.rival_batches else contenders[:1]


def _measure(
    table: Table,
    trunk: Trunk,
    case: Case,
    contenders: Sequence[Contender],
    peaks: Mapping[str, Peak],
    chosen: Namespace,
) -> None:
    pixels_BHWC = np.stack([draw_pixels(case.width, case.height, seed) for seed in range(case.batch)])
    norm_BP = np.random.default_rng(0).random((case.batch, trunk.archive.card.norm_size or 0), np.float32)
    calls = {each.name: _Call(each.paint, pixels_BHWC, norm_BP) for each in contenders}
    # A GPU's programs are compiled and recorded in the first calls.
    warm_ups = CALLS_BEFORE + 2 if torch.cuda.is_available() else 1
    seconds = time_in_turn(calls, 2 if chosen.quick else chosen.rounds, warm_ups)
    layers = count_layers(trunk.width, case.batch, case.height, case.width)
    eager_s = seconds.get(EAGER)
    for each in contenders:
        taken = seconds[each.name]
        table.add(
            trunk.archive.card.name,
            case.name,
            case.batch,
            each.name,
            taken * 1000,
            case.batch / taken,
            eager_s / taken if eager_s else None,
            peaks[each.precision].floor_s(layers) / taken,
        )


def _profile(table: Table, trunk: Trunk) -> None:
    # Machines with a GPU may have no OpenVINO.
    from benchmarks.layers import profile_layers

    spent_ms = profile_layers(trunk.archive, 512)
    for name, ms in spent_ms.items():
        share = ms / sum(spent_ms.values())
        if share >= LEAST_SHARE:
            table.add(trunk.archive.card.name, name, ms, share)


@dataclass(frozen=True)
class _Call:
    paint: Paint
    pixels_BHWC: Pixels
    norm_BP: Norms

    def __call__(self) -> Pixels:
        return self.paint(self.pixels_BHWC, self.norm_BP)


def _measure_peaks(report: Report, device: str) -> dict[str, Peak]:
    precisions = dict.fromkeys(precision for _, precision in _runtimes(device))
    peaks = {precision: measure_peak(device, DTYPES[precision]) for precision in precisions}
    table = report.table("What the machine can do", "precision", "Gflop/s of a matrix product", "GB/s of a copy")
    for precision, peak in peaks.items():
        table.add(precision, peak.operations_per_s / 1e9, peak.bytes_per_s / 1e9)
    floors = report.table(
        "The floor of one 256x256 picture",
        "trunk width",
        "Gflop",
        "precision",
        "MB in and out of layers",
        "ms at least",
    )
    for width in (16, 32):
        layers = count_layers(width, 1, 256, 256)
        for precision, peak in peaks.items():
            moved_mb = sum(layer.values for layer in layers) * peak.itemsize / 1e6
            arithmetic = sum(layer.operations for layer in layers) / 1e9
            floors.add(width, arithmetic, precision, moved_mb, peak.floor_s(layers) * 1000)
    return peaks


def _goals(table: Table, device: str) -> list[Goal]:
    """What issue 4 asks of a GPU; of a CPU it asks nothing here."""
    if device != "cuda":
        return []
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows if row[3] == "torchscript float16"]
    at_once = next((row["x eager"] for row in rows if (row["size"], row["batch"]) == ("512x512", 1)), math.nan)
    batched = next((row["of the floor"] for row in rows if (row["size"], row["batch"]) == ("512x512", 16)), math.nan)
    return [
        Goal("float16 beside eager float32, 512x512, batch 1", float(at_once or math.nan), at_least=6),
        Goal("share of the floor, 512x512, batch 16", float(batched or math.nan), at_least=0.5),
    ]


if __name__ == "__main__":
    main()

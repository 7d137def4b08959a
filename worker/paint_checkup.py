"""The doctor's look at device and zoo: it loads them and has a test picture made, timed."""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from worker.arrays import Pixels
from worker.catalog import Catalog
from worker.engine import Engine, EngineTask, EnlargeTask, PaintTask
from worker.errors import JobError, WorkerError
from worker.findings import Finding, bad, doubtful, good
from worker.runtimes import Runtime
from worker.settings import WorkerSettings
from worker.workbench import load_zoo, open_engine, open_runtime

PAINTED_SIDE = 512
ENLARGED_SIDE = 128
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def check_painting(settings: WorkerSettings) -> Iterator[Finding]:
    """Device, zoo, and a picture of either kind."""
    try:
        runtime = open_runtime(settings)
    except WorkerError as error:
        yield bad("device", str(error), "See docs/configuration.md, Worker.")
        return
    yield _check_device(runtime)
    started = time.perf_counter()
    try:
        catalog = load_zoo(settings, runtime)
    except WorkerError as error:
        yield bad("zoo", str(error), "It is the folder models/zoo of the sources, unless you trained one.")
        return
    yield from _check_zoo(settings.zoo_dir, catalog, time.perf_counter() - started)
    yield from _check_pictures(catalog, open_engine(settings))


def _check_device(runtime: Runtime) -> Finding:
    said = f"{runtime.device}, computed by {runtime.name}"
    if runtime.gpu is not None:
        free, total = torch.cuda.mem_get_info(runtime.gpu)
        said += f"; {torch.cuda.get_device_name(runtime.gpu)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        return good("device", said)
    if _NVIDIA_DRIVER.exists() and not torch.cuda.is_available():
        build = f"PyTorch {torch.__version__}"
        return doubtful("device", f"{said}; there is an NVIDIA driver, but {build} sees no GPU.",
                        "Install a build of PyTorch with CUDA that fits the driver.")  # fmt: skip
    if importlib.util.find_spec("openvino") is None:
        return doubtful("device", f"{said}; OpenVINO would be several times as fast.", "pip install openvino")
    return good("device", said)


def _check_zoo(zoo: Path, catalog: Catalog, seconds: float) -> Iterator[Finding]:
    yield good("zoo", f"{zoo.resolve()}, loaded in {seconds:.1f} s")
    trunks = {style.trunk.card.digest: style.trunk.card for style in catalog.styles.values()}
    for card in trunks.values():
        held = ", ".join(
            f"{name} {style.card.digest[:12]}"
            for name, style in catalog.styles.items()
            if style.trunk.card.digest == card.digest
        )
        yield good("styles", f"on {card.name} {card.digest[:12]}: {held}")
    if not trunks:
        yield bad("styles", "There are none.", "Set IMPASTO_ZOO_DIR to a folder with a trunk and styles.")
    enlarging = ", ".join(f"x{factor} {one.card.digest[:12]}" for factor, one in catalog.upscalers.items())
    if enlarging:
        yield good("upscalers", enlarging)
    else:
        yield doubtful("upscalers", "There are none.", "To enlarge, take those of models/zoo of the sources.")
    for refusal in catalog.refused:
        yield bad("zoo", str(refusal), "Put the whole file there again, or remove it.")


def _check_pictures(catalog: Catalog, engine: Engine) -> Iterator[Finding]:
    if catalog.styles:
        name, style = next(iter(catalog.styles.items()))
        task = PaintTask(_test_picture(PAINTED_SIDE), style.trunk, style.norm_P)
        yield _check_picture(f"painted in {name}", task, engine)
    if catalog.upscalers:
        factor, upscaler = next(iter(catalog.upscalers.items()))
        yield _check_picture(f"enlarged by {factor}", EnlargeTask(_test_picture(ENLARGED_SIDE), upscaler), engine)


def _check_picture(deed: str, task: EngineTask, engine: Engine) -> Finding:
    """Twice: the first time includes what a device does for a size that it has not seen."""
    outcome, first_ms = _timed(task, engine)
    if isinstance(outcome, JobError):
        return bad("test picture", f"It cannot be {deed}: {outcome}", "IMPASTO_LOG_LEVEL=debug impasto doctor")
    _, second_ms = _timed(task, engine)
    height, width = task.pixels_HWC.shape[:2]
    said = f"{width} x {height} px {deed} in {second_ms:.0f} ms ({first_ms:.0f} ms the first time)"
    if float(outcome.std()) < 1.0:
        return bad("test picture", f"{said}, but all of one colour.", "IMPASTO_PRECISION=float32")
    return good("test picture", said)


def _timed(task: EngineTask, engine: Engine) -> tuple[Pixels | JobError, float]:
    started = time.perf_counter()
    outcome = engine.run([task])[0]
    return outcome, (time.perf_counter() - started) * 1000


def _test_picture(side: int) -> Pixels:
    """Gradients and edges (side, side, 3)."""
    down, across = np.mgrid[0:side, 0:side]
    picture_HWC = np.stack([down * 255 // side, across * 255 // side, (down // 32 + across // 32) % 2 * 255], axis=2)
    return picture_HWC.astype(np.uint8)

"""Runs archives with OpenVINO: two to seven times as fast as PyTorch on a CPU."""

import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from models.card import ModelCard, Task
from worker.archive import Archive
from worker.arrays import Norms, Pixels
from worker.device_memory import trim_heap
from worker.runtimes import Values
from worker.runtimes.methods import Method
from worker.runtimes.pixel_modules import count_blocks, to_pixel_module
from worker.runtimes.reach import measure_reach

# OpenVINO reports each conversion to its makers unless this package is missing: no byte leaves the machine.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402
from openvino.properties.hint import PerformanceMode  # noqa: E402

from worker.runtimes.openvino_precision import join_norms, keep_first_layer  # noqa: E402
from worker.runtimes.openvino_streams import TOGETHER_PX, Streams  # noqa: E402

KEEP_MEMORY_BELOW = 3 * 2_000_000
"""Values of an input up to which its memory is kept for the next, and which has no more to itself than a share of the
cores. A large photo takes 0.2 GB a megapixel."""
MOST_SIDE_BY_SIDE = 4
"""Factor up to which pictures are enlarged side by side: at 8 each would hold 0.5 GB, which is never given back."""


Stage = tuple[Method, int]
"""A method, and of which residual block."""


class OpenVinoNetwork:
    """An archive compiled for the CPU, for pictures of any size."""

    def __init__(self, runtime: "OpenVinoRuntime", archive: Archive) -> None:
        self._runtime = runtime
        self._archive = archive
        self._calls = threading.Lock()
        """A picture that has all cores holds it to the end, pictures side by side only until they are on their way."""
        self._stages = threading.Lock()
        """Held by each stage of a large painting, beside which pictures are computed. Comes before `_calls`."""
        self._opening = threading.Lock()
        self._opened_streams: Streams | None = None
        self._compiled = {(Method.FORWARD, 0): runtime.compile(archive, Method.FORWARD, 0)}
        self._requests: dict[Stage, ov.InferRequest] = {}
        """Each holds its last result."""
        self.reach = cache(partial(measure_reach, archive))

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """See `Network.paint`."""
        return self._forward(pixels_BHWC, norm_BP)

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        """See `Network.enlarge`."""
        return self._forward(pixels_BHWC)

    @property
    def side_by_side(self) -> int:
        """See `Network.side_by_side`."""
        return self._streams.count if (self._archive.card.factor or 1) <= MOST_SIDE_BY_SIDE else 1

    def _forward(self, *inputs: Pixels | Values) -> Pixels:
        pictures = len(inputs[0])
        if pictures > 1 and inputs[0][0].size > KEEP_MEMORY_BELOW:
            each = [self._forward(*(value[index : index + 1] for value in inputs)) for index in range(pictures)]
            return np.concatenate(each)
        together = self._share_of_streams(pictures, inputs[0][0].size)
        if not together:
            return self.stage(Method.FORWARD, *inputs)
        results_BHWC = self._compute_side_by_side([value[:together] for value in inputs])
        if together == pictures:
            return results_BHWC
        return np.concatenate([results_BHWC, self._forward(*(value[together:] for value in inputs))])

    def _share_of_streams(self, pictures: int, size: int) -> int:
        """How many of so many pictures are computed side by side; the others are by all cores together."""
        # Streams are a second network to compile, of which a process with a single picture has no use.
        if size > KEEP_MEMORY_BELOW or (pictures == 1 and not self._opened_streams) or self.side_by_side == 1:
            return 0
        return pictures if self._streams.are_busy else self._streams.whole_rounds(pictures)

    def _compute_side_by_side(self, inputs: Sequence[Pixels | Values]) -> Pixels:
        inputs = _writable(inputs)
        with self._calls:
            requests = self._streams.start(inputs)
        return self._streams.collect(requests)

    def stage(self, method: Method, *inputs: Pixels | Values, block: int = 0) -> npt.NDArray[Any]:
        """See `Network.stage`."""
        # A large painting is hundreds of stages: if each waited for the streams, most of the time would be theirs.
        with self._alone() if method is Method.FORWARD else self._stages:
            return self._infer((method, block), _writable(inputs))

    def _infer(self, stage: Stage, inputs: Sequence[Pixels | Values]) -> npt.NDArray[Any]:
        if stage not in self._requests:
            self._requests[stage] = self._compile(*stage).create_infer_request()
        outputs: npt.NDArray[Any] = self._requests[stage].infer(inputs, share_inputs=True)[0]
        if inputs[0].size > KEEP_MEMORY_BELOW:
            self._free([stage])
        return outputs

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._calls:
            if self._opened_streams:
                self._opened_streams.wait()
            yield

    @property
    def _streams(self) -> Streams:
        with self._opening:
            if self._opened_streams is None:
                compiled = self._runtime.compile(self._archive, Method.FORWARD, 0, PerformanceMode.THROUGHPUT)
                self._opened_streams = Streams(compiled)
            return self._opened_streams

    @cached_property
    def blocks(self) -> int:
        """See `Network.blocks`."""
        return count_blocks(self._archive)

    def in_float32(self) -> "OpenVinoNetwork | None":
        """See `Network.in_float32`."""
        return self._in_float32

    def end_stage(self) -> None:
        """See `Network.end_stage`. Each method has memory of its own."""
        with self._stages:
            self._free([stage for stage in [*self._requests] if stage[0] is not Method.FORWARD])

    def free_memory(self) -> None:
        """See `Network.free_memory`."""
        with self._stages, self._alone():
            if self._opened_streams:
                self._opened_streams.free_memory()
            self._free([*self._requests])

    def _compile(self, method: Method, block: int) -> ov.CompiledModel:
        if (method, block) not in self._compiled:
            self._compiled[method, block] = self._runtime.compile(self._archive, method, block)
        return self._compiled[method, block]

    def _free(self, stages: Iterable[Stage]) -> None:
        for stage in stages:
            del self._requests[stage]
            self._compiled[stage].release_memory()
        trim_heap()

    @cached_property
    def _in_float32(self) -> "OpenVinoNetwork | None":
        runtime = self._runtime.in_float32()
        return runtime.load(self._archive) if runtime else None


class OpenVinoRuntime:
    """OpenVINO on the CPU, in bfloat16 where the processor has it unless told otherwise."""

    name = "openvino"

    def __init__(self, precision: str = "auto", threads: int = 0) -> None:
        """`precision`: auto, float32 or bfloat16; `threads`: 0 for all cores. Raises `ValueError` for others."""
        self._core = ov.Core()
        has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._precision = ("bfloat16" if has_bfloat16 else "float32") if precision == "auto" else precision
        if self._precision not in ("float32", "bfloat16"):
            raise ValueError(f"OpenVINO has no precision {precision!r}: choose auto, float32 or bfloat16.")
        self._threads = threads
        self.device = f"CPU {self._precision}"
        self.gpu: str | None = None
        self.batches_at_once = 3
        self.as_one_px = TOGETHER_PX / 2

    def load(self, archive: Archive) -> OpenVinoNetwork:
        """See `Runtime.load`."""
        return OpenVinoNetwork(self, archive)

    def in_float32(self) -> "OpenVinoRuntime | None":
        """This runtime in full precision; none if it is."""
        return None if self._precision == "float32" else OpenVinoRuntime("float32", self._threads)

    def compile(
        self, archive: Archive, method: Method, block: int, mode: PerformanceMode = PerformanceMode.LATENCY
    ) -> ov.CompiledModel:
        """An archive's method, ready for pictures of any size: one on all cores, or several side by side."""
        model = ov.convert_model(to_pixel_module(archive, method, block), input=_inputs(archive.card, method))
        if self._precision == "float32" or method.is_exact:
            return self._core.compile_model(model, "CPU", self._config(ov.Type.f32, mode))
        if archive.card.task is Task.STYLE_TRUNK:
            join_norms(model)
            if method in (Method.FORWARD, Method.BLOCK_SECOND, Method.UP_END):
                model = keep_first_layer(self._core, model)
        return self._core.compile_model(model, "CPU", self._config(ov.Type.bf16, mode))

    def _config(self, precision: ov.Type, mode: PerformanceMode) -> dict[str, object]:
        config: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": mode,
            # Pinned, the threads of all processes on a machine would share its first cores, whatever lies idle.
            "ENABLE_CPU_PINNING": False,
        }
        if self._threads:
            config["INFERENCE_NUM_THREADS"] = self._threads
        return config


def _writable(inputs: Iterable[Pixels | Values]) -> list[Pixels | Values]:
    """As OpenVINO can read them without a copy."""
    return [np.require(value, requirements=("C", "W")) for value in inputs]


def _inputs(card: ModelCard, method: Method) -> list[tuple[ov.PartialShape, ov.Type]]:
    pixels = (ov.PartialShape([-1, -1, -1, 3]), ov.Type.u8)
    if card.norm_size is None:
        return [pixels]
    norm = (ov.PartialShape([-1, card.norm_size]), ov.Type.f32)
    mask = (ov.PartialShape([1, 1, -1, -1]), ov.Type.f32)
    statistics = (ov.PartialShape([2, -1]), ov.Type.f32)
    half = (ov.PartialShape([1, 2 * card.width, -1, -1]), ov.Type.f32)
    features = (ov.PartialShape([1, 4 * card.width, -1, -1]), ov.Type.f32)
    return {
        Method.FORWARD: [pixels, norm],
        Method.DOWN_SURVEY: [pixels, mask],
        Method.DOWN_SECOND: [pixels, norm, statistics],
        Method.DOWN_THIRD: [half, norm, statistics],
        Method.DOWN_END: [features, norm, statistics],
        Method.BLOCK_FIRST: [features],
        Method.BLOCK_SECOND: [features, norm, statistics],
        Method.BLOCK_SUM: [features, features, norm, statistics],
        Method.UP_BEGIN: [features, norm],
        Method.UP_SURVEY: [half, mask, norm, statistics],
        Method.UP_END: [half, pixels, norm, statistics],
    }[method]

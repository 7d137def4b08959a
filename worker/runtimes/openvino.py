"""Runs archives with OpenVINO: two to seven times as fast as PyTorch on a CPU."""

import sys

import numpy as np

from worker.archive import Archive
from worker.arrays import Norms, Pixels
from worker.runtimes.torchscript import to_pixel_module

# OpenVINO reports each conversion to its makers unless this package is missing: no byte leaves the machine.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402

KEEP_MEMORY_BELOW = 3 * 2_000_000
"""Values of an input up to which its memory is kept for the next. A large photo takes 0.2 GB a megapixel."""


class OpenVinoNetwork:
    """An archive compiled for the CPU, for pictures of any size."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """See `Network.paint`."""
        return self._run(pixels_BHWC, norm_BP)

    def enlarge(self, pixels_BHWC: Pixels) -> Pixels:
        """See `Network.enlarge`."""
        return self._run(pixels_BHWC)

    def _run(self, *inputs: Pixels | Norms) -> Pixels:
        writable = [np.require(value, requirements=("C", "W")) for value in inputs]
        outputs: Pixels = self._compiled(writable, share_inputs=True)[0]
        if inputs[0].size > KEEP_MEMORY_BELOW:
            self._compiled.release_memory()
        return outputs


class OpenVinoRuntime:
    """OpenVINO on the CPU, in bfloat16 where the processor has it unless told otherwise."""

    name = "openvino"

    def __init__(self, precision: str = "auto", threads: int = 0) -> None:
        """`precision`: auto, float32 or bfloat16; `threads`: 0 for all cores. Raises `ValueError` for others."""
        types = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}
        self._core = ov.Core()
        has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        chosen = ("bfloat16" if has_bfloat16 else "float32") if precision == "auto" else precision
        if chosen not in types:
            raise ValueError(f"OpenVINO has no precision {precision!r}: choose auto, float32 or bfloat16.")
        self._config: dict[str, object] = {"INFERENCE_PRECISION_HINT": types[chosen], "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            self._config["INFERENCE_NUM_THREADS"] = threads
        self.device = f"CPU {chosen}"

    def load(self, archive: Archive) -> OpenVinoNetwork:
        """See `Runtime.load`."""
        inputs = [(ov.PartialShape([-1, -1, -1, 3]), ov.Type.u8)]
        if archive.card.norm_size is not None:
            inputs.append((ov.PartialShape([-1, archive.card.norm_size]), ov.Type.f32))
        model = ov.convert_model(to_pixel_module(archive), input=inputs)
        return OpenVinoNetwork(self._core.compile_model(model, "CPU", self._config))

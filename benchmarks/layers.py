"""Where OpenVINO spends its time inside a network, by its own counters."""

from collections import Counter
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.pictures import draw_pixels
from worker.archive import Archive
from worker.runtimes.openvino import OpenVinoRuntime

RUNS = 6
WARM_UPS = 2


def profile_layers(archive: Archive, side: int) -> dict[str, float]:
    """Milliseconds of one picture by kind of layer, most first. Convolutions are told apart by their programs."""
    compiled = _compile_with_counters(archive)
    inputs = [draw_pixels(side, side)[None], np.ones((1, archive.card.norm_size or 0), np.float32)]
    request = compiled.create_infer_request()
    spent: Counter[str] = Counter()
    for run in range(WARM_UPS + RUNS):
        request.infer(inputs)
        if run < WARM_UPS:
            continue
        for layer in request.get_profiling_info():
            name = f"Convolution, {layer.exec_type}" if layer.node_type == "Convolution" else layer.node_type
            spent[name] += layer.real_time.total_seconds() * 1000 / RUNS
    return dict(spent.most_common())


def _compile_with_counters(archive: Archive) -> Any:
    """The model that the worker's runtime compiles, with counting turned on."""
    # Not before the worker's own import, which keeps OpenVINO from reporting to its makers.
    import openvino as ov

    compile_model, compiled = ov.Core.compile_model, []

    def count(core: ov.Core, model: object, device: str, config: dict[str, object]) -> object:
        compiled.append(compile_model(core, model, device, {**config, "PERF_COUNT": True}))
        return compiled[-1]

    with patch.object(ov.Core, "compile_model", count):
        OpenVinoRuntime().load(archive)
    return compiled[-1]

import openvino as ov
import pytest

from worker.archive import read_archive
from worker.runtimes.methods import Method
from worker.runtimes.openvino import OpenVinoRuntime
from worker.settings import SHIPPED_ZOO

NORMS = 15
"""In the shipped trunk: three layers, five blocks of two, two enlargements."""


@pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="needs a CPU with bfloat16"
)
def test_no_map_is_turned_to_planes_for_its_scale_and_shift() -> None:
    archive = read_archive(SHIPPED_ZOO / "trunk-w16.pt")
    compiled = OpenVinoRuntime("bfloat16").compile(archive, Method.FORWARD, 0)
    layers = [
        (node.get_rt_info()["layerType"].astype(str), node.get_friendly_name())
        for node in compiled.get_runtime_model().get_ordered_ops()
    ]
    assert sum(kind == "MVN" for kind, _ in layers) == NORMS
    assert [name for kind, name in layers if kind == "Reorder" and name.startswith("MVN") and "_abcd_" in name] == []

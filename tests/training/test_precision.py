from pathlib import Path

import pytest
import torch

from training.precision import autocast, has_bfloat16

CPU = torch.device("cpu")
CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists(), reason="only Linux lists a processor's instructions")
def test_a_processor_has_bfloat16_if_it_has_the_instructions() -> None:
    flags = next((line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")), "").split()
    assert has_bfloat16(CPU) == bool({"avx512_bf16", "amx_bf16", "amx_tile"}.intersection(flags))


@pytest.mark.parametrize("has_it", [True, False])
def test_networks_run_in_bfloat16_where_the_device_has_it(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.precision.has_bfloat16", lambda device: has_it)
    with autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype is (torch.bfloat16 if has_it else torch.float32)
    with autocast(CPU, "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32

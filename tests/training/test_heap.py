"""What a training step costs the system once memory is kept."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from training.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    return torch.ones(4, 64, 192, 192).mul(2).add(1).sum()
for _ in range(5):  # until the heap has grown as large as it needs to be
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other heaps")
def test_memory_that_is_freed_is_not_fetched_from_the_system_again() -> None:
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("given back", "kept")
    )
    assert kept < given_back / 10

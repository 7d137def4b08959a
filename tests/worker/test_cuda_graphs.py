"""Recorded networks: their books on any machine, and on a GPU what they compute."""

import logging
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.pictures import draw_photo
from worker.archive import read_archive, read_style
from worker.runtimes import cuda_graphs
from worker.runtimes.cuda_graphs import CALLS_BEFORE, MOST_PX, MOST_SHAPES, GraphedNetwork, Network, Replay
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.settings import SHIPPED_ZOO

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def invert(pixels_BHWC: Tensor) -> Tensor:
    return 255 - pixels_BHWC


def picture(width: int = 8) -> Tensor:
    return torch.randint(256, (1, 6, width, 3), dtype=torch.uint8)


class Recorder:
    """Records by heart, in place of a GPU, and counts what it was asked for."""

    def __init__(self, error: Exception | None = None, offset: int = 0) -> None:
        self.recorded: list[torch.Size] = []
        self.replayed = 0
        self._error = error
        self._offset = offset

    def __call__(self, network: Network, inputs: Sequence[Tensor]) -> Replay:
        self.recorded.append(inputs[0].shape)
        if self._error:
            raise self._error

        def replay(given: Sequence[Tensor]) -> Tensor:
            assert [value.shape for value in given] == [value.shape for value in inputs]
            self.replayed += 1
            return network(*given) + self._offset

        return replay


def test_what_comes_often_is_recorded_once_and_replayed() -> None:
    recorder = Recorder()
    network = GraphedNetwork(invert, recorder)
    for call in range(10):
        pixels_BHWC = picture()
        assert torch.equal(network(pixels_BHWC), invert(pixels_BHWC))
        assert bool(recorder.recorded) is (call >= CALLS_BEFORE)
    assert recorder.recorded == [(1, 6, 8, 3)]
    # Once to see whether it is right.
    assert recorder.replayed == 10 - CALLS_BEFORE + 1


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Recorder(RuntimeError("operation not permitted\nwhen a stream is capturing")), "operation not permitted"),
        (Recorder(torch.OutOfMemoryError("out of memory")), "out of memory"),
        (Recorder(offset=2), "a replay was not equal to the network"),
    ],
    ids=["refused", "memory", "wrong"],
)
def test_what_cannot_be_recorded_is_computed_as_before(
    recorder: Recorder, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = GraphedNetwork(invert, recorder)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            pixels_BHWC = picture() // 2
            assert torch.equal(network(pixels_BHWC), invert(pixels_BHWC))
    assert len(recorder.recorded) == 1
    assert [record.message for record in caplog.records] == [f"No CUDA graph for pictures of (1, 6, 8, 3): {reason}"]


def test_a_network_that_fails_fails_as_without_a_recording() -> None:
    def fail(pixels_BHWC: Tensor) -> Tensor:
        raise RuntimeError("a poisoned picture")

    network = GraphedNetwork(fail, Recorder())
    for _ in range(2 * CALLS_BEFORE):
        with pytest.raises(RuntimeError, match="poisoned"):
            network(picture())


def test_large_batches_are_not_recorded() -> None:
    recorder = Recorder()
    network = GraphedNetwork(lambda pixels_BHWC: pixels_BHWC, recorder)
    large_BHWC = torch.zeros(1, 1, 1, 3, dtype=torch.uint8).expand(2, MOST_PX // 2 + 1, 1, 3)
    for _ in range(2 * CALLS_BEFORE):
        assert network(large_BHWC) is large_BHWC
    assert not recorder.recorded


def test_of_many_shapes_the_ones_in_use_stay_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "CALLS_BEFORE", 0)
    recorder = Recorder()
    network = GraphedNetwork(invert, recorder)
    for width in range(1, MOST_SHAPES + 10):
        network(picture(width))
        network(picture(1))
    assert len(recorder.recorded) == MOST_SHAPES + 9
    network(picture(2))
    assert recorder.recorded[-1] == (1, 6, 2, 3)
    network.forget()
    network(picture(1))
    assert recorder.recorded[-1] == (1, 6, 1, 3)


@needs_gpu
@pytest.mark.parametrize("batch", [1, 3])
def test_a_gpu_replays_what_it_computes(batch: int, caplog: pytest.LogCaptureFixture) -> None:
    archive = read_archive(SHIPPED_ZOO / "trunk-w16.pt")
    norms = [read_style(path)[1] for path in sorted(SHIPPED_ZOO.glob("*.safetensors"))]
    plain, graphed = (TorchScriptRuntime("cuda", cuda_graphs=graphs).load(archive) for graphs in (False, True))
    with caplog.at_level(logging.WARNING):
        for call in range(CALLS_BEFORE + 5):
            pixels_BHWC = np.stack([np.roll(np.asarray(draw_photo(96, 72)), call * shift, 1) for shift in range(batch)])
            norm_BP = np.stack([norms[(call + shift) % len(norms)] for shift in range(batch)])
            expected = plain.paint(pixels_BHWC, norm_BP)
            assert np.abs(graphed.paint(pixels_BHWC, norm_BP).astype(int) - expected).max() <= 1
    assert not caplog.records, "it was recorded"


@needs_gpu
def test_after_a_recording_that_failed_the_network_computes_where_it_would_have(
    caplog: pytest.LogCaptureFixture,
) -> None:
    streams = set()

    def cannot_be_recorded(pixels_BHWC: Tensor) -> Tensor:
        if torch.cuda.is_current_stream_capturing():
            pixels_BHWC.cpu()
        streams.add(torch.cuda.current_stream().cuda_stream)
        return 255 - pixels_BHWC

    network = GraphedNetwork(cannot_be_recorded)
    for _ in range(2 * CALLS_BEFORE):
        pixels_BHWC = picture()
        assert torch.equal(network(pixels_BHWC.cuda()).cpu(), 255 - pixels_BHWC)
    assert "No CUDA graph" in caplog.text
    assert len(streams) == 1
    torch.cuda.empty_cache()  # fails where the recording has not been ended

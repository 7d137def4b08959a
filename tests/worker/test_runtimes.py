import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import draw_photo
from tests.worker.nearness import FULL_PRECISION, HALF_PRECISION, assert_near
from worker.archive import read_archive, read_style
from worker.arrays import Pixels
from worker.large_pictures import WITHOUT_STATISTICS, WITHOUT_STYLE
from worker.runtimes import Runtime, Values
from worker.runtimes.methods import Method
from worker.runtimes.openvino import OpenVinoRuntime
from worker.runtimes.torchscript import TorchScriptRuntime
from worker.settings import SHIPPED_ZOO

SIZES = [(16, 16), (37, 51), (64, 48), (127, 130), (256, 320)]


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("width", [4, 16])
def test_openvino_paints_what_pytorch_paints(small_zoo: Path, precision: str, width: int) -> None:
    zoo = small_zoo if width == 4 else SHIPPED_ZOO
    archive = read_archive(zoo / f"trunk-w{width}.pt")
    norm_BP = np.stack([read_style(path)[1] for path in sorted(zoo.glob("*.safetensors"))])
    reference, tested = TorchScriptRuntime("cpu").load(archive), OpenVinoRuntime(precision).load(archive)
    for height, breadth in SIZES:
        pixels_BHWC = np.stack([np.asarray(draw_photo(breadth, height))] * len(norm_BP))
        tolerance = FULL_PRECISION if precision == "float32" else HALF_PRECISION
        assert_near(tested.paint(pixels_BHWC, norm_BP), reference.paint(pixels_BHWC, norm_BP), tolerance)


@pytest.mark.parametrize("size", [(60, 40), (160, 120)], ids=["several in a request", "one in a request"])
@pytest.mark.parametrize("threads", [1, 2])
def test_each_picture_of_a_batch_is_painted_as_it_is_alone(
    small_zoo: Path, threads: int, size: tuple[int, int]
) -> None:
    network = OpenVinoRuntime("float32", threads).load(read_archive(small_zoo / "trunk-w4.pt"))
    norm_P = read_style(small_zoo / "red.safetensors")[1]
    pixels_BHWC = np.stack([np.roll(np.asarray(draw_photo(*size)), 7 * shift, axis=1) for shift in range(7)])
    norm_BP = np.stack([norm_P * (1 + shift / 10) for shift in range(7)])
    alone = [network.paint(pixels_BHWC[index, None], norm_BP[index, None])[0] for index in range(7)]
    for count in range(1, 8):
        painted_BHWC = network.paint(pixels_BHWC[:count], norm_BP[:count])
        assert painted_BHWC.shape == (count, size[1], size[0], 3)
        assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(painted_BHWC, alone[:count], strict=True))


def test_batches_that_threads_have_painted_at_the_same_time_are_what_they_are_alone(small_zoo: Path) -> None:
    network = OpenVinoRuntime("float32", 2).load(read_archive(small_zoo / "trunk-w4.pt"))
    norms = [read_style(small_zoo / f"{name}.safetensors")[1] for name in ("red", "blue")]
    photos = {size: np.asarray(draw_photo(*size)) for size in [(64, 48), (160, 120), (129, 131)]}
    alone = {
        (size, style): network.paint(photo_HWC[None], norms[style][None])[0]
        for size, photo_HWC in photos.items()
        for style in (0, 1)
    }

    def paint(index: int) -> bool:
        size, styles = [*photos][index % 3], [(index + picture) % 2 for picture in range(1 + index % 5)]
        if index % 10 == 0:
            network.free_memory()
        painted_BHWC = network.paint(
            np.stack([photos[size]] * len(styles)), np.stack([norms[style] for style in styles])
        )
        expected_BHWC = np.stack([alone[size, style] for style in styles])
        return int(np.abs(painted_BHWC.astype(int) - expected_BHWC).max()) <= 1

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(paint, range(60)))


def test_a_process_with_a_single_picture_compiles_a_network_once(small_zoo: Path) -> None:
    class Counting(OpenVinoRuntime):
        compiled = 0

        def compile(self, *arguments: Any) -> Any:
            self.compiled += 1
            return super().compile(*arguments)

    runtime = Counting("float32", 2)
    network = runtime.load(read_archive(small_zoo / "trunk-w4.pt"))
    norm_BP = read_style(small_zoo / "red.safetensors")[1][None]
    pixels_BHWC = np.asarray(draw_photo(60, 40))[None]
    network.paint(pixels_BHWC, norm_BP)
    assert runtime.compiled == 1
    network.paint(pixels_BHWC.repeat(2, axis=0), norm_BP.repeat(2, axis=0))
    assert runtime.compiled == 2


def test_what_is_enlarged_eight_times_is_not_computed_side_by_side() -> None:
    assert OpenVinoRuntime("float32").load(read_archive(SHIPPED_ZOO / "x8.pt")).side_by_side == 1


def test_a_batch_that_failed_does_not_harm_the_next(small_zoo: Path) -> None:
    network = OpenVinoRuntime("float32", 2).load(read_archive(small_zoo / "trunk-w4.pt"))
    norm_BP = np.stack([read_style(small_zoo / "red.safetensors")[1]] * 4)
    pixels_BHWC = np.stack([np.asarray(draw_photo(60, 40))] * 4)
    painted_BHWC = network.paint(pixels_BHWC, norm_BP)
    with pytest.raises(RuntimeError):
        network.paint(pixels_BHWC, norm_BP[:, :-1].copy())
    assert np.array_equal(network.paint(pixels_BHWC, norm_BP), painted_BHWC)


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_openvino_enlarges_what_pytorch_enlarges(factor: int, precision: str) -> None:
    archive = read_archive(SHIPPED_ZOO / f"x{factor}.pt")
    reference, tested = TorchScriptRuntime("cpu").load(archive), OpenVinoRuntime(precision).load(archive)
    for height, width in SIZES[:4]:
        pixels_BHWC = np.asarray(draw_photo(width, height))[None]
        enlarged = tested.enlarge(pixels_BHWC)
        assert enlarged.shape == (1, factor * height, factor * width, 3)
        assert_near(
            enlarged, reference.enlarge(pixels_BHWC), FULL_PRECISION if precision == "float32" else HALF_PRECISION
        )


def test_precisions_that_a_device_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        TorchScriptRuntime("cpu", "float16")
    with pytest.raises(ValueError, match="float16"):
        OpenVinoRuntime("float16")


@pytest.mark.parametrize("runtime", [TorchScriptRuntime("cpu"), OpenVinoRuntime("float32")], ids=lambda r: r.name)
def test_networks_tell_what_they_can(small_zoo: Path, runtime: Runtime) -> None:
    trunk, upscaler = (runtime.load(read_archive(small_zoo / name)) for name in ("trunk-w4.pt", "x2.pt"))
    assert (trunk.blocks, upscaler.blocks) == (1, 0)
    assert upscaler.reach(Method.FORWARD) == 6
    assert upscaler.reach(Method.UP_END) is None
    assert trunk.in_float32() is None


@pytest.mark.parametrize("method", [method for method in Method if method is not Method.FORWARD])
def test_openvino_computes_the_stages_that_pytorch_computes(small_zoo: Path, method: Method) -> None:
    archive = read_archive(small_zoo / "trunk-w4.pt")
    inputs = stage_inputs(method, archive.card.norm_size or 0, 4 * archive.card.width)
    expected = TorchScriptRuntime("cpu").load(archive).stage(method, *inputs)
    computed = OpenVinoRuntime("float32").load(archive).stage(method, *inputs)
    assert computed.dtype == expected.dtype
    tolerance = 1 if method is Method.UP_END else 1e-4 * np.abs(expected).max()
    assert np.abs(computed.astype(np.float64) - expected).max() <= tolerance


def stage_inputs(method: Method, norm_size: int, channels: int) -> list[Pixels | Values]:
    random = np.random.default_rng(0)
    photo_1HWC = np.asarray(draw_photo(50, 37))[None]
    features_1CHW = random.standard_normal((1, channels, 10, 13), np.float32)
    norm_1P = random.uniform(0.5, 1.5, (1, norm_size)).astype(np.float32)
    statistics_2C = random.uniform(0.5, 1.5, (2, norm_size // 2)).astype(np.float32)
    half_1CHW = random.standard_normal((1, channels // 2, 20, 26), np.float32)
    mask_11HW, half_mask_11HW = np.ones((1, 1, 37, 50), np.float32), np.ones((1, 1, 20, 26), np.float32)
    mask_11HW[..., :8, :] = 0
    half_mask_11HW[..., 18:] = 0
    inputs: dict[Method, list[Pixels | Values]] = {
        Method.DOWN_SURVEY: [photo_1HWC, mask_11HW],
        Method.DOWN_SECOND: [photo_1HWC],
        Method.DOWN_THIRD: [half_1CHW],
        Method.DOWN_END: [features_1CHW],
        Method.BLOCK_FIRST: [features_1CHW],
        Method.BLOCK_SECOND: [features_1CHW],
        Method.BLOCK_SUM: [features_1CHW, features_1CHW[:, ::-1].copy()],
        Method.UP_BEGIN: [features_1CHW],
        Method.UP_SURVEY: [half_1CHW, half_mask_11HW],
        Method.UP_END: [half_1CHW, photo_1HWC],
    }
    style = [] if method in WITHOUT_STYLE else [norm_1P]
    statistics = [] if method in WITHOUT_STATISTICS else [statistics_2C]
    return [*inputs[method], *style, *statistics]


def test_a_worker_with_few_threads_may_use_any_core(small_zoo: Path) -> None:
    network = OpenVinoRuntime("float32", threads=1).load(read_archive(small_zoo / "trunk-w4.pt"))
    norm_BP = read_style(small_zoo / "red.safetensors")[1][None]
    network.paint(np.asarray(draw_photo(60, 40))[None], norm_BP)
    cores = {thread.name: os.sched_getaffinity(int(thread.name)) for thread in Path("/proc/self/task").iterdir()}
    assert all(of_thread == os.sched_getaffinity(0) for of_thread in cores.values())


@pytest.mark.parametrize("runtime", [TorchScriptRuntime("cpu"), OpenVinoRuntime("float32")], ids=lambda r: r.name)
def test_a_network_paints_on_when_its_memory_was_given_back(small_zoo: Path, runtime: Runtime) -> None:
    network = runtime.load(read_archive(small_zoo / "trunk-w4.pt"))
    norm_BP = read_style(small_zoo / "red.safetensors")[1][None]
    pixels_BHWC = np.asarray(draw_photo(60, 40))[None]
    for count in (1, 4):
        several = pixels_BHWC.repeat(count, axis=0), norm_BP.repeat(count, axis=0)
        before_BHWC = network.paint(*several)
        network.free_memory()
        assert np.array_equal(network.paint(*several), before_BHWC)

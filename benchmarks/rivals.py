"""The same weights in other programs, between 8-bit pictures as the worker's own runtimes are."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.style_net import StyleTrunk
from worker.archive import Archive
from worker.arrays import Norms, Pixels


class PaintPixels(nn.Module):
    """A trunk between 8-bit pictures (B, H, W, 3)."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels_BHWC: Tensor, norm_BP: Tensor) -> Tensor:
        """Keeps the shape."""
        painted_BCHW = self.trunk(pixels_BHWC.permute(0, 3, 1, 2).float() / 255.0, norm_BP)
        return torch.round(painted_BCHW * 255.0).to(torch.uint8).permute(0, 2, 3, 1)


class EagerNetwork:
    """PyTorch as the training uses it: float32, layer after layer."""

    def __init__(self, archive: Archive, device: str) -> None:
        self._device = torch.device(device)
        self._network = PaintPixels(build_trunk(archive)).to(self._device).eval()

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """As `worker.runtimes.Network.paint`."""
        with torch.inference_mode():
            inputs = (torch.from_numpy(pixels_BHWC).to(self._device), torch.from_numpy(norm_BP).to(self._device))
            painted: Pixels = self._network(*inputs).cpu().numpy()
        return painted


class OnnxNetwork:
    """ONNX Runtime on the CPU, float32."""

    def __init__(self, archive: Archive, folder: Path) -> None:
        import onnxruntime

        path = folder / f"{archive.card.name}.onnx"
        _export_onnx(archive, path)
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def paint(self, pixels_BHWC: Pixels, norm_BP: Norms) -> Pixels:
        """As `worker.runtimes.Network.paint`."""
        painted: Pixels = self._session.run(None, {"pixels": pixels_BHWC, "norm": norm_BP})[0]
        return painted


def build_trunk(archive: Archive) -> StyleTrunk:
    """The module that an archive was traced from."""
    trunk = StyleTrunk(archive.card.width, int(archive.card.architecture.rsplit("-", 1)[1]))
    trunk.load_state_dict(archive.module.state_dict())
    return trunk.eval()


def _export_onnx(archive: Archive, path: Path) -> None:
    example = (torch.from_numpy(np.zeros((2, 48, 64, 3), np.uint8)), torch.zeros(2, archive.card.norm_size or 0))
    sizes = {0: "batch", 1: "height", 2: "width"}
    with warnings.catch_warnings():
        # The exporter that needs no further packages is the older one, and says so.
        warnings.simplefilter("ignore")
        # Frozen, so that weights which the trunk makes of its own are constants, as ONNX wants them.
        traced = torch.jit.trace(PaintPixels(build_trunk(archive)).eval(), example)  # type: ignore[no-untyped-call]
        network = torch.jit.freeze(traced)
        torch.onnx.export(
            network,
            example,
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["pixels", "norm"],
            output_names=["painted"],
            dynamic_axes={"pixels": sizes, "norm": {0: "batch"}, "painted": sizes},
        )

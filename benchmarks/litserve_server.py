"""A rival: LitServe with its own batching, the same TorchScript file and the same codec.

`python -m benchmarks.litserve_server --port 8001 --runtime torchscript --max-batch 8`. Everything in it that costs
time is as its documentation advises: raw bytes instead of base64, its fast queue, whole batches for the network.
"""

import argparse
from pathlib import Path
from typing import Annotated

import litserve
import numpy as np
from fastapi import Depends, Request, Response

from worker.archive import read_archive, read_style
from worker.arrays import Norms, Pixels
from worker.codec import Picture, decode, encode
from worker.contract import PictureFormat
from worker.devices import choose_runtime
from worker.runtimes import Network

QUALITY = PictureFormat.JPEG.default_quality

Painting = tuple[Pixels, Norms]


async def read_order(request: Request) -> tuple[str, bytes]:
    """A style's name and a file's bytes."""
    return request.query_params["style"], await request.body()


Order = Annotated[tuple[str, bytes], Depends(read_order)]


class PaintApi(litserve.LitAPI):  # type: ignore[misc]
    """Paints JPEG files."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        super().__init__(max_batch_size=chosen.max_batch, batch_timeout=chosen.batch_timeout)
        self._chosen = chosen
        self._styles: dict[str, Norms] = {}
        self._network: Network | None = None

    def setup(self, device: str) -> None:
        """Loads the trunk and its styles, in the process that will use them."""
        zoo: Path = self._chosen.zoo
        runtime = choose_runtime(self._chosen.runtime, device, self._chosen.precision, self._chosen.threads)
        self._network = runtime.load(read_archive(zoo / self._chosen.trunk))
        self._styles = {path.stem: read_style(path)[1] for path in sorted(zoo.glob("*.safetensors"))}

    def decode_request(self, request: Order) -> Painting:
        """A file's pixels and the style's vector."""
        style, content = request
        return decode(content).pixels_HWC, self._styles[style]

    def batch(self, inputs: list[Painting]) -> tuple[Pixels, Norms]:
        """Pictures of one size, stacked."""
        pixels, norms = zip(*inputs, strict=True)
        return np.stack(pixels), np.stack(norms)

    def predict(self, x: tuple[Pixels, Norms]) -> Pixels:
        """A batch of paintings; a single request of a server without batching is one of one."""
        assert self._network is not None
        pixels, norms = x
        is_single = pixels.ndim == 3
        painted = self._network.paint(pixels[None], norms[None]) if is_single else self._network.paint(pixels, norms)
        return painted[0] if is_single else painted

    def unbatch(self, output: Pixels) -> list[Pixels]:
        """One after the other."""
        return list(output)

    def encode_response(self, output: Pixels) -> Response:
        """A JPEG file."""
        return Response(encode(Picture(output), PictureFormat.JPEG, QUALITY), media_type="image/jpeg")


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser("python -m benchmarks.litserve_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--trunk", default="trunk-w16.pt")
    parser.add_argument("--runtime", default="torchscript")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--batch-timeout", type=float, default=0.0)
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    server = litserve.LitServer(
        PaintApi(chosen),
        accelerator=chosen.accelerator,
        devices=1,
        workers_per_device=chosen.processes,
        fast_queue=True,
        timeout=120,
    )
    server.run(host="127.0.0.1", port=chosen.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()

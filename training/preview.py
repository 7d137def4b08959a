"""Pictures that show how far a run has come."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from training.errors import PhotosError
from training.pictures import read_square, to_image
from training.tasks import StyleTask, UpscaleTask

PREVIEW_SIZE = 256


def example_photos(photos: Sequence[Path], count: int = 3, size: int = PREVIEW_SIZE) -> list[Tensor]:
    """Squares (3, size, size) of `count` readable photos, spread over the folder. Raises `PhotosError`."""
    squares: list[Tensor] = []
    stride = max(len(photos) // count, 1)
    for offset in range(stride):
        # From the middle of each part, because the first files of a folder are often alike.
        for path in photos[(stride // 2 + offset) % stride :: stride]:
            try:
                squares.append(read_square(path, size))
            except OSError:
                continue
            if len(squares) == count:
                return squares
    if not squares:
        raise PhotosError("None of the photos can be read: check the folder given with --photos.")
    return squares


def contact_sheet(rows: Sequence[Sequence[Tensor]]) -> Image.Image:
    """Pictures (3, H, W) in rows: those of a row of one height, the rows of one width."""
    return to_image(torch.cat([torch.cat(tuple(row), dim=2) for row in rows], dim=1))


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights are."""
    return next(module.parameters()).device


def style_sheet(task: StyleTask, photos: Sequence[Tensor], style_images: Sequence[Tensor]) -> Image.Image:
    """A row a style: the photos painted, then the style image. The first row holds the photos as they are."""
    device = device_of(task)
    content_BCHW = torch.stack(tuple(photos)).to(device)
    blank = torch.ones_like(content_BCHW[0])
    rows = [[*content_BCHW, blank]]
    for index, style_3HW in enumerate(style_images):
        style_B = torch.full((len(photos),), index, device=device)
        with torch.no_grad():
            painted_BCHW = task.paint(content_BCHW, style_B)
        rows.append([*painted_BCHW, style_3HW.to(device)])
    return contact_sheet(rows)


def style_strip(task: StyleTask, photos: Sequence[Tensor], style_3HW: Tensor) -> Image.Image:
    """A row a photo: the photo, the photo painted as the only style paints now, and the style image."""
    device = device_of(task)
    content_BCHW = torch.stack(tuple(photos)).to(device)
    with torch.no_grad():
        painted_BCHW = task.paint(content_BCHW, torch.zeros(len(photos), dtype=torch.long, device=device))
    pairs = zip(content_BCHW, painted_BCHW, strict=True)
    return contact_sheet([[photo_3HW, painted_3HW, style_3HW.to(device)] for photo_3HW, painted_3HW in pairs])


def upscale_sheet(task: UpscaleTask, photos: Sequence[Tensor]) -> Image.Image:
    """A row a photo: enlarged bicubically, by the network, and the truth."""
    device = device_of(task)
    rows = []
    network = task.averaged_network.eval()
    for number, photo_3HW in enumerate(photos):
        high_res_BCHW = photo_3HW[None].to(device)
        low_res_BCHW = task.degradation(high_res_BCHW, torch.tensor([number]))
        bicubic_BCHW = functional.interpolate(low_res_BCHW, size=high_res_BCHW.shape[2:], mode="bicubic")
        with torch.no_grad():
            enlarged_BCHW = network(low_res_BCHW)
        rows.append([bicubic_BCHW[0], enlarged_BCHW[0], high_res_BCHW[0]])
    return contact_sheet(rows)

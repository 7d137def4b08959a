"""Pictures that show how far a run has come."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from training.checkpoint import write_whole
from training.data import read_rgb, to_tensor
from training.tasks import StyleTask, UpscaleTask

PREVIEW_SIZE = 256


def read_square(path: Path, size: int = PREVIEW_SIZE) -> Tensor:
    """The middle of a picture as float (3, size, size) in [0, 1]."""
    photo = read_rgb(path)
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return to_tensor(square).float() / 255


def to_image(picture_3HW: Tensor) -> Image.Image:
    """A float picture in [0, 1] as an RGB image."""
    levels_HW3 = (picture_3HW.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(levels_HW3.numpy())


def contact_sheet(rows: Sequence[Sequence[Tensor]]) -> Image.Image:
    """Pictures of one size (3, S, S), in rows."""
    return to_image(torch.cat([torch.cat(tuple(row), dim=2) for row in rows], dim=1))


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a JPEG or PNG, whole or not at all. Raises `CheckpointError`."""
    write_whole(path, lambda temporary: image.save(temporary, quality=90))


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


def upscale_sheet(task: UpscaleTask, photos: Sequence[Tensor]) -> Image.Image:
    """A row a photo: enlarged bicubically, by the network, and the truth."""
    device = device_of(task)
    rows = []
    for photo_3HW in photos:
        high_res_BCHW = photo_3HW[None].to(device)
        low_res_BCHW = task.degradation(high_res_BCHW)
        bicubic_BCHW = functional.interpolate(low_res_BCHW, size=high_res_BCHW.shape[2:], mode="bicubic")
        with torch.no_grad():
            enlarged_BCHW = task.network(low_res_BCHW)
        rows.append([bicubic_BCHW[0], enlarged_BCHW[0], high_res_BCHW[0]])
    return contact_sheet(rows)

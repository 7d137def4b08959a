"""The contact sheets that `training.evaluate` writes beside its tables."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.pictures import read_square
from training.preview import PREVIEW_SIZE, contact_sheet
from training.style_quality import Gallery, find_style_image
from training.upscale_quality import as_picture, bicubic, by_network, make_pair
from training.zoo import Archive

CELL = 192
"""Side of a picture on a sheet, in px."""
GAP = 8
"""Px between pictures that do not belong together."""
PREVIEWS_IN_A_ROW = 5


def styles_contact_sheet(
    galleries: Sequence[Gallery], photos: Sequence[Path], images: Path, size: int = 512
) -> Image.Image:
    """The photos in the first row; then a row a style and trunk, the style image first.

    Painted at `size` px, shown smaller. Trunks follow one another in the order given, style by style.
    """
    content_BCHW = torch.stack([read_square(path, size) for path in photos])
    rows = [[torch.ones(3, CELL, CELL), *_shrink(content_BCHW)]]
    painted = [(gallery.trunk.module.cpu(), style) for gallery in galleries for style in gallery.styles]
    for module, style in sorted(painted, key=lambda row: row[1].card.name):
        with torch.no_grad():
            painted_BCHW = torch.cat([module(photo_3HW[None], style.norm_P[None]) for photo_3HW in content_BCHW])
        rows.append([read_square(find_style_image(images, style.card.name), CELL), *_shrink(painted_BCHW)])
    return contact_sheet(rows)


def _shrink(pictures_BCHW: Tensor) -> Tensor:
    return functional.interpolate(pictures_BCHW, size=(CELL, CELL), mode="bilinear", antialias=True)


def previews_sheet(previews: Sequence[Path]) -> Image.Image:
    """The pictures by which a zoo shows its styles, in rows."""
    return contact_sheet(_in_rows([read_square(path, PREVIEW_SIZE) for path in previews], PREVIEWS_IN_A_ROW))


def upscale_contact_sheet(upscalers: Sequence[Archive], photos: Sequence[Path]) -> Image.Image:
    """A row for each factor and photo: the middle of the bicubic enlargement, the networks' in order, and the truth."""
    by_factor: dict[int, list[Archive]] = {}
    for upscaler in upscalers:
        by_factor.setdefault(upscaler.card.factor or 1, []).append(upscaler)
    rows = [_all_ways(rivals, path) for _, rivals in sorted(by_factor.items()) for path in photos]
    columns = max(len(row) for row in rows)
    return contact_sheet([picture for row in rows for picture in _in_rows(row, columns)])


def upscale_examples(upscaler: Archive, photos: Sequence[Path]) -> Image.Image:
    """As `upscale_contact_sheet` of one upscaler, two photos in a row and apart from each other."""
    examples = [torch.cat(_all_ways([upscaler], path), dim=2) for path in photos]
    spaced = [functional.pad(example_3HW, (0, GAP, 0, GAP), value=1.0) for example_3HW in examples]
    sheet = contact_sheet(_in_rows(spaced, 2))
    return sheet.crop((0, 0, sheet.width - GAP, sheet.height - GAP))


def _in_rows(pictures: Sequence[Tensor], columns: int) -> list[Sequence[Tensor]]:
    """Pictures of one size, with white ones where the last row would be short."""
    filled = [*pictures, *[torch.ones_like(pictures[0])] * (-len(pictures) % columns)]
    return [filled[start : start + columns] for start in range(0, len(filled), columns)]


def _all_ways(upscalers: Sequence[Archive], photo: Path) -> list[Tensor]:
    """What bicubic and upscalers of one factor make of a photo that was reduced, and the photo."""
    factor = upscalers[0].card.factor or 1
    truth, low_res = make_pair(photo, factor)
    networks = [by_network(upscaler, torch.device("cpu")) for upscaler in upscalers]
    ways = [*(enlarge(low_res) for enlarge in (bicubic(factor), *networks)), as_picture(truth)]
    return [_middle(picture_BCHW[0]) for picture_BCHW in ways]


def _middle(picture_3HW: Tensor) -> Tensor:
    top, left = (max(side - CELL, 0) // 2 for side in picture_3HW.shape[1:])
    cut_3HW = picture_3HW[:, top : top + CELL, left : left + CELL]
    return functional.pad(cut_3HW, (0, CELL - cut_3HW.shape[2], 0, CELL - cut_3HW.shape[1]), value=1.0)

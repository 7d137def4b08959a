import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tests.training.conftest import draw_photo
from training.config import Schedule, Stage
from training.data import BatchPlan, CropPolicy, PhotoCrops, Sample, list_photos, load_batches
from training.errors import PhotosError, StyleImageError
from training.pictures import read_rgb, read_style_image

SCHEDULE = Schedule((Stage(3, 2, 32), Stage(2, 4, 48)))


def test_crops_depend_on_seed_and_number_alone(photos: Path) -> None:
    def crop(seed: int, number: int) -> torch.Tensor:
        return PhotoCrops(list_photos(photos), CropPolicy(rotate=True), seed)[Sample(number, 32)][0]

    assert crop(0, 11).equal(crop(0, 11))
    assert not crop(0, 11).equal(crop(1, 11))
    assert not crop(0, 11).equal(crop(0, 12))


def test_crops_do_not_depend_on_what_was_read_before(photos: Path) -> None:
    crops = PhotoCrops(list_photos(photos), CropPolicy(), seed=0)
    forward = [crops[Sample(number, 32)][0] for number in range(20)]
    backward = [crops[Sample(number, 32)][0] for number in reversed(range(20))]

    assert all(a.equal(b) for a, b in zip(forward, reversed(backward), strict=True))


def test_every_photo_is_used_once_an_epoch(photos: Path) -> None:
    paths = list_photos(photos)
    crops = PhotoCrops(paths, CropPolicy(), seed=0)

    orders = [[crops._photo_index(epoch * len(paths) + i) for i in range(len(paths))] for epoch in range(3)]

    assert all(sorted(order) == list(range(len(paths))) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize("readers", [0, 2])
def test_reader_processes_change_nothing(photos: Path, readers: int) -> None:
    crops = PhotoCrops(list_photos(photos), CropPolicy(), seed=3)

    loaded = [(crop, number) for crop, number, _ in load_batches(crops, BatchPlan(SCHEDULE), readers)]

    assert [tuple(crop.shape) for crop, _ in loaded] == [(2, 3, 32, 32)] * 3 + [(4, 3, 48, 48)] * 2
    assert torch.cat([number for _, number in loaded]).tolist() == list(range(14))
    assert all(crop[0].equal(crops[Sample(int(number[0]), crop.shape[-1])][0]) for crop, number in loaded)


def test_a_broken_run_goes_on_with_the_samples_it_would_have_had() -> None:
    assert list(BatchPlan(SCHEDULE, first_step=2)) == list(BatchPlan(SCHEDULE))[2:]


def test_processes_share_each_batch_without_overlap() -> None:
    shares = [list(BatchPlan(SCHEDULE, rank=rank, processes=2)) for rank in range(2)]

    for whole, left, right in zip(BatchPlan(SCHEDULE), *shares, strict=True):
        assert len(left) == len(right)
        assert sorted([*left, *right], key=lambda sample: sample.number) == whole


def test_broken_photos_are_passed_over_and_counted(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "photo-0.jpg", tmp_path / "good.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes((photos / "photo-1.jpg").read_bytes()[:200])
    (tmp_path / "cut.png").write_bytes((photos / "photo-2.png").read_bytes()[:-900])
    crops = PhotoCrops(list_photos(tmp_path), CropPolicy(), seed=0)

    found = [crops[Sample(number, 32)] for number in range(5)]

    assert {crop.shape for crop, _, _ in found} == {(3, 32, 32)}
    assert sum(broken for _, _, broken in found) >= 4
    met = {path.name for _, number, broken in found for path in crops.passed_over(number, broken)}
    assert met == {"empty.jpg", "text.png", "cut.jpg", "cut.png"}


def test_nothing_but_broken_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")

    with pytest.raises(PhotosError, match="None of the photos can be read"):
        PhotoCrops(list_photos(tmp_path), CropPolicy(), seed=0)[Sample(0, 32)]


@pytest.mark.parametrize("size", [(20, 300), (300, 20), (40, 40), (33, 64)])
def test_photos_smaller_than_the_crop_are_enlarged(size: tuple[int, int]) -> None:
    crop = CropPolicy().cut(draw_photo(0, *size), 64, random.Random(0))

    assert crop.size == (64, 64)


def test_a_policy_bounds_the_scale() -> None:
    # A ramp of one level per px: the crop's slope tells how much it was reduced.
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).convert("RGB")
    rng = random.Random(0)

    slopes = []
    for _ in range(40):
        levels_W = np.asarray(CropPolicy(max_scale=2.0).cut(ramp, 64, rng), dtype=float)[32, :, 0]
        slopes.append(abs(levels_W[48] - levels_W[16]) / 32)

    assert min(slopes) >= 0.95
    assert 1.7 <= max(slopes) <= 2.05


def test_a_photo_lying_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw_photo(0, 60, 40).save(tmp_path / "turned.jpg", exif=exif)

    assert read_rgb(tmp_path / "turned.jpg").size == (40, 60)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    draw_photo(0, 40, 30).convert(mode).save(tmp_path / "picture.tiff")

    assert read_rgb(tmp_path / "picture.tiff").mode == "RGB"


def test_grey_of_16_bits_keeps_its_levels(tmp_path: Path) -> None:
    levels_HW = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(4, 0)
    Image.fromarray(levels_HW).save(tmp_path / "scan.png")

    read_HWC = np.asarray(read_rgb(tmp_path / "scan.png"))

    assert (read_HWC == np.arange(256)[None, :, None]).all()


@pytest.mark.parametrize(("mode", "number_format"), [("F", np.float32), ("I", np.int32)])
def test_32_bits_a_channel_are_unreadable(tmp_path: Path, mode: str, number_format: type) -> None:
    image = Image.fromarray(np.full((8, 8), 200, dtype=number_format))
    assert image.mode == mode
    image.save(tmp_path / "scan.tiff")

    with pytest.raises(OSError, match="32 bits a channel"):
        read_rgb(tmp_path / "scan.tiff")


def swapped_profile() -> bytes:
    """A profile whose red and blue are swapped: whoever passes over it gets blue for red."""
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = srgb.find(b"rXYZ"), srgb.find(b"bXYZ")
    srgb[red : red + 4], srgb[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(srgb)


@pytest.mark.parametrize(
    ("mode", "name"), [("RGB", "a.png"), ("RGB", "a.jpg"), ("RGB", "a.tiff"), ("P", "a.png"), ("RGBA", "a.png")]
)
def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path, mode: str, name: str) -> None:
    red = Image.new("RGB", (32, 24), (255, 0, 0)).convert(mode)
    red.save(tmp_path / name, icc_profile=swapped_profile())

    red_level, _, blue_level = read_rgb(tmp_path / name).getpixel((16, 12))  # type: ignore[misc]

    assert blue_level > 200 > red_level


def test_a_turned_photo_is_converted_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    red = Image.new("RGB", (32, 24), (255, 0, 0))
    red.save(tmp_path / "a.png", icc_profile=swapped_profile(), exif=exif)

    photo = read_rgb(tmp_path / "a.png", largest_side=16)

    assert photo.size == (12, 16)
    assert photo.getpixel((6, 8))[2] > 200  # type: ignore[index]


def test_a_profile_says_nothing_of_transparency(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (4, 0, 8, 8))
    image.save(tmp_path / "a.png", icc_profile=swapped_profile())

    photo = read_rgb(tmp_path / "a.png")

    assert photo.getpixel((6, 4)) == (255, 255, 255)
    assert photo.getpixel((2, 4))[2] > 200  # type: ignore[index]


@pytest.mark.parametrize(("mode", "profile"), [("RGB", b"no profile"), ("L", swapped_profile())])
def test_a_profile_that_is_damaged_or_of_other_channels_is_passed_over(
    tmp_path: Path, mode: str, profile: bytes
) -> None:
    image = draw_photo(0, 40, 30).convert(mode)
    image.save(tmp_path / "a.png", icc_profile=profile)

    assert read_rgb(tmp_path / "a.png").tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, mode: str) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode).save(tmp_path / "cut-out.png")

    assert read_rgb(tmp_path / "cut-out.png").getextrema() == ((255, 255),) * 3


def test_a_turned_photo_with_damaged_exif_is_unreadable_and_no_more(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    rational, text = b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02"
    draw_photo(0, 60, 40).save(tmp_path / "turned.jpg", exif=exif.tobytes().replace(rational, text))

    with pytest.raises(OSError, match="damaged picture"):
        read_rgb(tmp_path / "turned.jpg")


def test_a_damaged_avif_is_unreadable_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "photo.avif"
    draw_photo(0, 96, 64).save(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    content[start:] = bytes(len(content) - start)
    path.write_bytes(content)

    with pytest.raises(OSError, match=r"damaged|decode|identify"):
        read_rgb(path)


def test_a_style_image_keeps_its_shape(style_image: Path) -> None:
    style_3HW = read_style_image(style_image, 48)

    assert style_3HW.shape == (3, 40, 48)
    assert 0 <= style_3HW.min() <= style_3HW.max() <= 1


def test_a_style_image_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "style.jpg").write_text("no picture")

    with pytest.raises(StyleImageError, match=r"style\.jpg"):
        read_style_image(tmp_path / "style.jpg", 64)


def test_photo_folders(tmp_path: Path) -> None:
    with pytest.raises(PhotosError, match="There is no folder"):
        list_photos(tmp_path / "missing")
    with pytest.raises(PhotosError, match="No photos in"):
        list_photos(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    draw_photo(0, 40, 40).save(tmp_path / "deep" / "er" / "PHOTO.JPG")

    assert list_photos(tmp_path) == [tmp_path / "deep" / "er" / "PHOTO.JPG"]

"""From upload to picture through the real service, worker and Valkey, with the shipped checkpoints."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from models.vgg import LossNetwork
from tests.assets import asset
from tests.end_to_end.running import running_product
from tests.pictures import decode, draw_photo, encode, encode_heic
from training.losses import (
    STYLE_LAYERS,
    gram_matrix,
    load_loss_network,
    normalized_feature_loss,
)
from training.pictures import to_tensor

TYPE_OF_CURL = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with running_product() as product, product.client() as client:
        yield client


@pytest.fixture(scope="module")
def loss_network() -> LossNetwork:
    return load_loss_network(asset("weights/vgg16_features.safetensors"))


def to_batch(image: Image.Image) -> torch.Tensor:
    return to_tensor(image.convert("RGB"))[None].float() / 255


def stylize(client: httpx.Client, content: bytes, **parameters: str | float) -> Image.Image:
    answer = client.post("/stylize", params={"style": "candy", **parameters}, content=content, headers=TYPE_OF_CURL)
    assert answer.status_code == 200, answer.text
    return decode(answer.content)


def style_distance(network: LossNetwork, picture: Image.Image, style: Image.Image) -> float:
    with torch.no_grad():
        features, targets = network(to_batch(picture), STYLE_LAYERS), network(to_batch(style), STYLE_LAYERS)
    return sum(float((gram_matrix(features[k]) - gram_matrix(targets[k])).square().mean()) for k in STYLE_LAYERS)


@pytest.mark.parametrize("name", ["chicago", "amber", "hoovertowernight"])
def test_a_styled_picture_is_nearer_to_the_style(client: httpx.Client, loss_network: LossNetwork, name: str) -> None:
    photo = decode(asset(f"content/{name}.jpg").read_bytes()).convert("RGB")
    photo.thumbnail((384, 384))
    painted = stylize(client, encode(photo, "JPEG", quality=95))
    style = decode(asset("styles/candy.jpg").read_bytes())
    style.thumbnail((512, 512))
    assert painted.size == photo.size
    assert np.abs(np.asarray(painted).astype(int) - np.asarray(photo)).mean() > 15
    before, after = style_distance(loss_network, photo, style), style_distance(loss_network, painted, style)
    assert after < before / 3


def test_every_style_paints_its_own_picture(client: httpx.Client) -> None:
    photo = encode(draw_photo(200, 150))
    names = [style["name"] for style in client.get("/styles").json()]
    assert "candy" in names
    paintings = {name: np.asarray(stylize(client, photo, style=name)).astype(int) for name in names}
    for name in names:
        others = [np.abs(paintings[name] - paintings[other]).mean() for other in names if other != name]
        assert min(others) > 5


def test_an_enlarged_picture_is_nearer_to_the_truth_than_bicubic(
    client: httpx.Client, loss_network: LossNetwork
) -> None:
    better = []
    for path in sorted(asset("benchmarks/Set5").iterdir()):
        truth = decode(path.read_bytes()).convert("RGB")
        truth = truth.crop((0, 0, truth.width // 4 * 4, truth.height // 4 * 4))
        small = truth.resize((truth.width // 4, truth.height // 4), Image.Resampling.BICUBIC)
        answer = client.post("/upscale", params={"factor": 4}, content=encode(small), headers=TYPE_OF_CURL)
        assert answer.status_code == 200, answer.text
        enlarged = decode(answer.content)
        assert enlarged.size == truth.size
        bicubic = small.resize(truth.size, Image.Resampling.BICUBIC)
        with torch.no_grad():
            goal, ours, theirs = (loss_network(to_batch(x), STYLE_LAYERS[:3]) for x in (truth, enlarged, bicubic))
        distances = [float(normalized_feature_loss(x, goal, STYLE_LAYERS[:3])) for x in (ours, theirs)]
        better.append(distances[0] < distances[1])
    assert all(better)


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 99), (101, 67), (255, 256), (1001, 333)])
def test_any_size_comes_back_as_large_as_it_went_in(client: httpx.Client, size: tuple[int, int]) -> None:
    content = encode(draw_photo(*size))
    assert stylize(client, content).size == size
    answer = client.post("/upscale?factor=4", content=content, headers=TYPE_OF_CURL)
    assert decode(answer.content).size == (4 * size[0], 4 * size[1])


def test_a_flat_picture_stays_free_of_nan_and_frames(client: httpx.Client) -> None:
    painted = np.asarray(stylize(client, encode(Image.new("RGB", (128, 128), (120, 160, 220))))).astype(float)
    assert painted.std() < 90
    answer = client.post("/upscale?factor=4", content=encode(Image.new("RGB", (64, 64), (120, 160, 220))))
    enlarged = np.asarray(decode(answer.content)).astype(float)
    assert np.abs(enlarged.mean(axis=(0, 1)) - (120, 160, 220)).max() < 2
    assert enlarged.std(axis=(0, 1)).max() < 2


@pytest.mark.parametrize(
    ("content", "returned"),
    [
        (encode(draw_photo(90, 70), "JPEG"), "JPEG"),
        (encode(draw_photo(90, 70), "PNG"), "PNG"),
        (encode(draw_photo(90, 70), "WEBP"), "WEBP"),
        (encode(draw_photo(90, 70), "AVIF"), "AVIF"),
        (encode_heic(draw_photo(90, 70), quality=90), "JPEG"),
        (encode(draw_photo(90, 70), "TIFF"), "PNG"),
        (encode(draw_photo(90, 70), "BMP"), "PNG"),
        (encode(draw_photo(90, 70).quantize(64), "GIF"), "PNG"),
        (encode(draw_photo(90, 70).convert("CMYK"), "JPEG"), "JPEG"),
        (encode(draw_photo(90, 70).convert("L"), "PNG"), "PNG"),
    ],
    ids=["jpeg", "png", "webp", "avif", "heic", "tiff", "bmp", "gif", "cmyk", "grey"],
)
def test_formats_in_and_out(client: httpx.Client, content: bytes, returned: str) -> None:
    painted = stylize(client, content)
    assert painted.format == returned
    assert painted.size == (90, 70)
    assert stylize(client, content, format="webp", quality=50).format == "WEBP"


def test_multipart_and_raw_give_the_same_picture(client: httpx.Client) -> None:
    content = encode(draw_photo(80, 60))
    answer = client.post("/stylize?style=candy", files={"file": ("photo.png", content, "image/png")})
    assert decode(answer.content).tobytes() == stylize(client, content).tobytes()


def test_orientation_profile_and_alpha(client: httpx.Client) -> None:
    photo = draw_photo(120, 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = stylize(client, encode(photo, "JPEG", exif=exif))
    assert turned.size == (80, 120)
    assert not turned.getexif().get(0x0112)

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert stylize(client, encode(photo, icc_profile=profile)).tobytes() == stylize(client, encode(photo)).tobytes()

    image = photo.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(photo.size))
    painted = stylize(client, encode(image))
    assert painted.mode == "RGBA"
    assert painted.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    enlarged = decode(client.post("/upscale?factor=4", content=encode(image)).content)
    alpha = np.asarray(enlarged.getchannel("A").resize(photo.size)).astype(int)
    assert np.abs(alpha - np.asarray(image.getchannel("A"))).mean() < 2


def test_dials(client: httpx.Client) -> None:
    photo = draw_photo(120, 80)
    content = encode(photo)
    painting = np.asarray(stylize(client, content)).astype(int)
    assert stylize(client, content, strength=0).tobytes() == photo.tobytes()
    half = np.asarray(stylize(client, content, strength=0.5)).astype(int)
    assert np.abs(half - (painting + np.asarray(photo)) / 2).max() <= 1
    blend = np.asarray(stylize(client, content, style="candy:0.5,wave:0.5")).astype(int)
    assert np.abs(blend - painting).mean() > 2
    assert stylize(client, content, size=60).size == (60, 40)


def test_server_timing_names_the_stages(client: httpx.Client) -> None:
    answer = client.post("/stylize?style=candy", content=encode(draw_photo(64, 64)))
    stages = {part.split(";")[0].strip() for part in answer.headers["server-timing"].split(",")}
    assert stages >= {"queue", "decode", "infer", "encode"}
    metrics = client.get("/metrics").text
    for stage in ("queue", "decode", "infer", "encode"):
        assert f'stage="{stage}"' in metrics

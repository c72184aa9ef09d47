"""The oracle is Pillow, that is libjpeg: a grey image has one channel and the table of the luminance."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from stnrot.geometry.jpeg import jpeg

PIXELS = np.asarray(Image.fromarray(load_sample_image("china.jpg")).convert("L"))[100:161, 150:227]
IMAGE = torch.from_numpy(PIXELS.copy())[None, None] / 255


def by_pillow(quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float64)


@pytest.mark.parametrize("quality", [1, 20, 50, 75, 95])
def test_it_is_the_compression_of_pillow(quality: int) -> None:
    """Also at the last rows and columns, where a block is not whole. A few coefficients round the other way."""
    expected = by_pillow(quality)
    found = (255 * jpeg(IMAGE, torch.tensor([float(quality)]))[0, 0]).clamp(0, 255).round().numpy()
    gap = np.abs(found - expected)
    assert (gap > 1).mean() < 0.08
    assert gap.mean() < 0.35 < np.abs(expected - PIXELS).mean()


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_colours_are_compressed_as_pillow_does(quality: int) -> None:
    """The differences of colour have half the resolution, also of sides that are not whole blocks."""
    colours = load_sample_image("china.jpg")[100:164, 150:229]
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(Image.open(file), dtype=np.float64)
    image = torch.from_numpy(colours.copy()).permute(2, 0, 1)[None] / 255
    found = (255 * jpeg(image, torch.tensor([float(quality)]))[0].permute(1, 2, 0)).clamp(0, 255).round().numpy()
    assert np.abs(found - expected)[:, :64].mean() < 0.35 * np.abs(expected - colours).mean()


def test_each_image_and_channel_is_compressed_alone() -> None:
    images, quality = torch.rand(2, 2, 9, 20), torch.tensor([30.0, 80.0])
    found = jpeg(images, quality)
    for k in range(2):
        for channel in range(2):
            alone = jpeg(images[k : k + 1, channel : channel + 1], quality[k : k + 1])
            torch.testing.assert_close(found[k, channel], alone[0, 0])


def test_autocast_changes_nothing() -> None:
    quality = torch.tensor([75.0])
    expected = jpeg(IMAGE, quality)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(jpeg(IMAGE, quality), expected)

"""The models that come with the package are what their folders say: uprights of photographs, digits at any angle."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn

from stnrot import Upright, load
from stnrot.data.sources.digits import digits
from stnrot.errors import InputError
from stnrot.geometry import angular_distance
from stnrot.models.shipped import SHIPPED, shipped_encoder, shipped_folder
from stnrot.runs.checkpoints import read_checkpoint, rebuild


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_the_model_in_its_folder(name: str) -> None:
    folder = shipped_folder(name)
    encoder, reference = shipped_encoder(name)
    model = rebuild(read_checkpoint(folder), folder).model
    image = torch.rand(3, encoder.channels, 28, 28)
    found, expected = encoder(image, reference, 1), model.encoder(image, model.reference, 1)
    torch.testing.assert_close(found.log_posterior, expected.log_posterior)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2e6
    assert json.loads((folder / "config.json").read_text())["licence"]
    assert "## Limits" in (folder / "README.md").read_text()


def test_upright_turns_a_photograph_back() -> None:
    """Rotated by Pillow, at angles that were not chosen for the encoder."""
    photograph = Image.fromarray(load_sample_images().images[0]).crop((100, 0, 527, 427)).resize((128, 128))
    degrees = np.arange(0, 360, 30)
    stack = [np.array(photograph.rotate(float(a), Image.Resampling.BICUBIC)) for a in degrees]
    images = torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2).float() / 255
    model = Upright(nn.Flatten(), "photos").eval()
    with torch.inference_mode():
        angle = model.orient(images).angle[:, 0].rad2deg()
        error = (angle + torch.from_numpy(degrees) + 180) % 360 - 180
    assert error.abs().median() < 15
    assert angular_distance(load("photos")(list(stack)).angle[:, 0], angle.deg2rad()).rad2deg().median() < 5


def test_digits_are_read_at_any_angle() -> None:
    """Held-out digits, rotated by Pillow at angles of their own; the card says 99.6 and 95.6 %."""
    test = digits(None, 0).test.subset(torch.arange(200))
    degrees = np.random.default_rng(1).uniform(-180, 180, len(test))
    upright = [Image.fromarray(each.numpy()) for each in test.image[:, 0]]
    turned = [each.rotate(float(a), Image.Resampling.BICUBIC) for each, a in zip(upright, degrees, strict=True)]
    found = load("digits")(turned)
    right = [name == str(label) for name, label in zip(found.label, test.label.tolist(), strict=True)]
    assert np.mean(right) >= 0.98
    error = (found.angle[:, 0].rad2deg() + torch.from_numpy(degrees) + 180) % 360 - 180
    assert (error.abs() <= 5).float().mean() > 0.91
    assert error.abs().median() < 1
    assert "99.6 %" in (shipped_folder("digits") / "README.md").read_text()


def test_a_name_that_is_not_known_is_one_line() -> None:
    with pytest.raises(
        InputError, match="encoder=photo: expected a module, or the name of one that is shipped: digits, photos"
    ):
        Upright(nn.Flatten(), "photo")

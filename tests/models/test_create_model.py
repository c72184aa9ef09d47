"""Models without Hydra are those that a job builds, and a plain loop trains them."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import composed, model

from stnrot import InputError, create_model, load
from stnrot.config_files import read_options
from stnrot.data.sources.digits import digits
from stnrot.models.create_model import MODELS


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 28, 10), (3, 40, 4)])
def test_they_are_those_of_a_job(name: str, channels: int, size: int, classes: int) -> None:
    torch.manual_seed(3)
    expected = model(name, shape=(channels, size, size), classes=classes)
    torch.manual_seed(3)
    found = create_model(name, classes=classes, channels=channels, size=size)
    assert repr(found) == repr(expected)
    assert found.state_dict().keys() == expected.state_dict().keys()
    for each, value in found.state_dict().items():
        assert value.equal(expected.state_dict()[each])
    plain = [{k: v for k, v in vars(m).items() if isinstance(v, int | float | str)} for m in (found, expected)]
    assert plain[0] == plain[1]


def test_the_weight_of_the_angle_is_that_of_the_task() -> None:
    assert read_options("task/classify")["task"]["angle_weight"] == composed("train").task.angle_weight


def test_the_loss_is_low_for_a_model_that_knows() -> None:
    """The shipped model on held-out digits: its card says 99.6 %."""
    test = digits(None, 0).test.subset(torch.arange(100))
    trained = load("digits").model
    image = test.image / 255
    with torch.inference_mode():
        unknown = trained.loss(image, test.label, upright=False)
        known = trained.loss(image, test.label)
        wrong = trained.loss(image, (test.label + 1) % 10, upright=False)
    assert unknown < 0.1
    assert wrong > 3
    assert unknown < known < math.log(64)  # of 64 bins; the likelihood of the angle is better than chance


def test_a_classifier_alone_has_the_cross_entropy() -> None:
    network = create_model("cnn", classes=10).eval()
    circle = torch.ones(4, 1, 28, 28) * 0.0  # the same at every angle
    labels = torch.tensor([0, 3, 5, 9])
    torch.testing.assert_close(network.loss(circle, labels), F.cross_entropy(network.classifier(circle), labels))


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused() -> None:
    for name, options, said in (
        ("rot", {"classes": 10}, "name=rot: expected rot_stn, affine_stn or cnn"),
        ("cnn", {"classes": 1}, "classes=1: expected a whole number of at least 2"),
        ("cnn", {"classes": 2, "channels": 0}, "channels=0"),
        ("cnn", {"classes": 2, "size": 1.5}, "size=1.5"),
    ):
        with pytest.raises(InputError, match=said):
            create_model(name, **options)
    network = create_model("rot_stn", classes=10)
    images = torch.rand(2, 1, 28, 28)
    for labels, said in (
        (torch.tensor([0, 10]), "labels: expected numbers from 0 to 9"),
        (torch.zeros(3).long(), "labels"),
    ):
        with pytest.raises(InputError, match=said):
            network.loss(images, labels)
    with pytest.raises(InputError, match="images"):
        network.loss(images[0], torch.tensor([0]))

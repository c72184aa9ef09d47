"""What the networks refuse, each in one line, and the unusual that they accept."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from conftest import model
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.models.affine_stn import AffineSTN
from stnrot.models.classifiers.conv import ConvClassifier
from stnrot.models.cnn import CNN
from stnrot.models.conv_regressor import ConvRegressor
from stnrot.models.encoders.cnn import CNNEncoder
from stnrot.models.encoders.polar import PolarEncoder
from stnrot.models.ensemble import Ensemble
from stnrot.models.pose_net import PoseNet
from stnrot.models.rot_stn import RotSTN

POLAR: dict[str, Any] = {
    "width": 8, "radii": 8, "angles": 32, "blur": 0.8, "dropout": 0.0, "dropout_circles": 0.0, "shift": 0.0
}  # fmt: skip
DOORS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # and the least side of an image
    "rot_stn": (lambda: model("rot_stn"), 1),
    "affine_stn": (lambda: model("affine_stn"), 4),
    "cnn": (lambda: model("cnn"), 1),
    "classifier": (lambda: ConvClassifier(1, 10, 8), 1),
    "regressor": (lambda: ConvRegressor(1, (0.0, 1.0)), 4),
    "pose": (lambda: PoseNet("XZ", None, 16, 4), 1),
    "polar encoder": (lambda: PolarEncoder(1, **POLAR), 1),
    "cnn encoder": (lambda: CNNEncoder(1, "vector"), 4),
}


def plain(network: nn.Module) -> Callable[..., Any]:
    """Return `forward` without the run-time checks of pytest, which would refuse the arguments first."""
    return partial(inspect.unwrap(type(network).forward), network)


def answer(name: str, network: nn.Module, image: Tensor) -> Tensor:
    """Return a part of the answer that has a row for each image."""
    if name in ("rot_stn", "affine_stn", "cnn"):
        return plain(network)(image, None).log_probability
    if name.endswith("encoder"):
        return plain(network)(image, torch.zeros(1, 1, *image.shape[2:]).to(image), 1).angle
    return plain(network)(image)


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(2, 3, 28, 28),
        torch.rand(2, 1, 28, 28).double(),
        torch.rand(2, 1, 28, 28).half(),
        torch.rand(2, 1, 28, 28, device="meta"),
    ],
    ids=["channels", "float64", "float16", "meta"],
)
@pytest.mark.parametrize("name", DOORS)
def test_images_that_do_not_fit_are_one_line(name: str, image: Tensor) -> None:
    make, smallest = DOORS[name]
    size = r" of at least 4 x 4 pixels" if smallest > 1 else ""
    expected = rf"^image: expected a tensor \[B, 1, H, W\]{size} of torch.float32 on cpu, got {image.dtype} of shape"
    with pytest.raises(InputError, match=expected):
        answer(name, make().eval(), image)


@pytest.mark.parametrize("name", DOORS)
def test_the_smallest_image_is_computed_and_a_smaller_one_refused(name: str) -> None:
    make, smallest = DOORS[name]
    network = make().eval()
    assert answer(name, network, torch.rand(3, 1, smallest, smallest)).isfinite().all()
    for side in (smallest - 1, 0):
        with pytest.raises(InputError, match=r"^image: expected a tensor \[B, 1, H, W\]"):
            answer(name, network, torch.rand(3, 1, side, 30))


@pytest.mark.parametrize("name", DOORS)
def test_no_image_is_no_answer(name: str) -> None:
    network = DOORS[name][0]().eval()
    assert len(answer(name, network, torch.rand(0, 1, 28, 28))) == 0
    with pytest.raises(InputError, match=r"^image: expected a tensor .*got torch.float32 of shape \[0, 1, 28, 28\]"):
        answer(name, network.train(), torch.rand(0, 1, 28, 28))


@pytest.mark.parametrize("name", DOORS)
def test_strides_and_nan(name: str) -> None:
    network = DOORS[name][0]().eval()
    image = torch.rand(3, 1, 28, 28)
    expected = answer(name, network, image)
    for other in (image.contiguous(memory_format=torch.channels_last), image.mT.contiguous().mT):
        torch.testing.assert_close(answer(name, network, other), expected, rtol=1e-4, atol=1e-5)
    expanded = answer(name, network, image[:1].expand(3, -1, -1, -1))
    torch.testing.assert_close(expanded, answer(name, network, image[:1].repeat(3, 1, 1, 1)))
    image[0, 0, 14, 14] = torch.nan
    found = answer(name, network, image)
    assert found[0].isnan().any() or name == "polar encoder"  # the best of bins that are all NaN is any bin
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DOORS)
def test_autocast_takes_its_own_dtypes(name: str) -> None:
    network = DOORS[name][0]().eval()
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            assert len(answer(name, network, torch.rand(2, 1, 28, 28).to(dtype))) == 2
        with pytest.raises(InputError, match=r"of torch\.bfloat16 or torch\.float32 on cpu, got torch\.float64"):
            answer(name, network, torch.rand(2, 1, 28, 28).double())


@pytest.mark.parametrize("reference", [(1, 3, 28, 28), (3, 1, 28, 28), (2, 1, 28), (1, 64, 31), (3, 64, 32)])
def test_a_reference_that_does_not_fit_is_one_line(reference: tuple[int, ...]) -> None:
    image = torch.rand(2, 1, 28, 28)
    with pytest.raises(InputError, match=r"^reference: expected .* or 1, "):
        plain(PolarEncoder(1, **POLAR))(image, torch.rand(reference), 1)
    if len(reference) == 4:
        with pytest.raises(InputError, match=r"^reference: expected .* or 1, "):
            plain(CNNEncoder(1, "vector"))(image, torch.rand(reference), 1)


def test_a_reference_of_another_size_is_one_line() -> None:
    image, reference = torch.rand(2, 1, 28, 28), torch.rand(1, 1, 30, 28)
    assert PolarEncoder(1, **POLAR)(image, reference, 1).angle.shape == (2, 1)
    with pytest.raises(InputError, match=r"^reference: expected \[1, 28, 28\], as image, got \[1, 30, 28\]"):
        plain(CNNEncoder(1, "vector"))(image, reference, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConvClassifier(0, 10, 8), "channels=0: expected a whole number of at least 1"),
        (lambda: ConvClassifier(1, 0, 8), "classes=0: expected a whole number of at least 1"),
        (lambda: ConvRegressor(0, (0.0,)), "channels=0: expected a whole number of at least 1"),
        (lambda: CNNEncoder(0, "vector"), "channels=0: expected a whole number of at least 1"),
        (lambda: PolarEncoder(0, **POLAR), "channels=0: expected a whole number of at least 1"),
        (lambda: Ensemble([], True), "members: expected at least one model, got none"),
    ],
)
def test_bad_arguments_of_constructors_are_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("network", [RotSTN, CNN, AffineSTN])
def test_a_missing_network_is_named(network: type[nn.Module]) -> None:
    """The run-time checks of pytest refuse None first, so the constructor is called without them."""
    make: Any = inspect.unwrap(network.__init__)
    arguments = {
        RotSTN: (None, None, 1, None, "learned", (1, 28, 28)),
        CNN: (None,),
        AffineSTN: (ConvRegressor(1, (0.0,) * 6), None),
    }[network]  # type: ignore[index]
    with pytest.raises(InputError, match=r"^(encoder|classifier): expected a network \(torch.nn.Module\), got None"):
        make(network.__new__(network), *arguments)

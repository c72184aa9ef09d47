"""What the layers refuse, each in one line, and what they accept beside the plain case."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stnrot import Conjugate, InputError, Rotation
from stnrot.layers.maps import METHODS
from stnrot.layers.scaled_tanh import ScaledTanh

WRONG_TYPES = """
import numpy, torch
from stnrot import Conjugate, Rotation
from stnrot.layers.maps import METHODS
from stnrot.layers.scaled_tanh import ScaledTanh

layer = Rotation(3)
assert ScaledTanh(numpy.int64(3))(torch.zeros(2, 3)).shape == (2, 3)
nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)])
calls = [
    lambda: Conjugate(layer, torch.tanh),
    lambda: Conjugate(torch.tanh, torch.eye(3)),
    lambda: Conjugate(None, layer),
    lambda: Conjugate(torch.nn.Tanh, layer),
    lambda: Conjugate(lambda u: u.tolist(), layer)(torch.zeros(2, 3)),
    lambda: layer(nested),
    lambda: layer(numpy.zeros((2, 3))),
    lambda: layer.inverse([0.0, 0.0, 0.0]),
    lambda: ScaledTanh(3)(None),
    lambda: ScaledTanh("3"),
    lambda: METHODS["qr"]("identity"),
]
for call in calls:
    try:
        call()
    except ValueError as error:
        print(error)
"""


def test_other_types_are_one_line(printed: Callable[[str], list[str]]) -> None:
    points = "z: expected a dense tensor [*n, 3] of real numbers on cpu, got"
    assert printed(WRONG_TYPES) == [
        "rotation: expected a Rotation, got builtin_function_or_method; write Conjugate(f, rotation)",
        "rotation: expected a Rotation, got torch.float32 of shape [3, 3]; write Conjugate(f, rotation)",
        "f: expected a function of a tensor, got None; write Conjugate(f, rotation)",
        "f: expected a function of a tensor, got type; write Conjugate(f, rotation)",
        "f: expected it to return torch.float32 of shape [2, 3], as its argument, got list of 2",
        f"{points} a nested tensor of torch.float32",
        f"{points} ndarray",
        f"{points} list of 3",
        f"{points} None",
        "dim: expected a whole number of at least 1, got '3'",
        "start: expected a rotation [d, d], got 'identity'",
    ]


@pytest.mark.parametrize(
    ("f", "got"),
    [
        (lambda u: u[..., :2], r"torch.float32 of shape \[4, 2\]"),
        (lambda u: u.mean(), r"torch.float32 of shape \[\]"),
        (lambda u: u[:, None], r"torch.float32 of shape \[4, 1, 3\]"),
        (lambda u: u.double(), r"torch.float64 of shape \[4, 3\]"),
        (lambda u: u > 0, r"torch.bool of shape \[4, 3\]"),
        (nn.Linear(3, 5), r"torch.float32 of shape \[4, 5\]"),
    ],
)
def test_a_function_that_changes_shape_or_dtype_is_named(f: nn.Module, got: str) -> None:
    with pytest.raises(InputError, match=rf"^f: expected it to return torch.float32 of shape \[4, 3\], .*, got {got}$"):
        Conjugate(f, Rotation(3))(torch.randn(4, 3))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "angle"])
def test_only_the_prepared_rotation_of_such_a_layer_is_taken(method: str) -> None:
    layer, z = Rotation(3, method, init="haar"), torch.randn(4, 3)
    expected = z @ layer.matrix().mT
    for prepared in (layer.prepare(z), layer.matrix(), None):
        torch.testing.assert_close(layer(z, prepared=prepared), expected)
    for prepared in (Rotation(4, method).prepare(torch.randn(4, 4)), torch.eye(2), torch.eye(3)[0], (1, 2), 3):
        for call in (layer.forward, layer.inverse):
            with pytest.raises(InputError, match=r"^prepared: expected the result of prepare\(\) of this layer, got "):
                call(z, prepared=prepared)


def test_autocast_may_change_the_dtype_inside_a_conjugate() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Conjugate(nn.Linear(3, 3), Rotation(3))(torch.randn(4, 3)).shape == (4, 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.zeros(3, 4).double(), r"start: expected a rotation \[d, d\], got torch.float64 of shape \[3, 4\]"),
        (torch.zeros(4).double(), r"start: expected a rotation \[d, d\], got torch.float64 of shape \[4\]"),
        (2 * torch.eye(2).double(), r"start: expected a rotation, got max \|R\^T R - I\| = 3"),
        (torch.diag(torch.tensor([1.0, -1]).double()), "start: expected a rotation, got a reflection"),
        (torch.full((2, 2), torch.nan).double(), r"start: expected a rotation, got max \|R\^T R - I\| = nan"),
    ],
)
def test_maps_start_with_a_rotation(method: str, start: Tensor, message: str) -> None:
    options = {"reflections": 2} if method == "householder" else {}
    with pytest.raises(InputError, match=message):
        METHODS[method](start, **options)


def test_maps_refuse_another_dimension_and_other_reflections() -> None:
    with pytest.raises(
        InputError, match=r"start: expected a rotation of a plane, \[2, 2\], got torch.float64 of shape"
    ):
        METHODS["angle"](torch.eye(3).double())
    with pytest.raises(InputError, match="reflections=3: expected an even number from 2 to 4"):
        METHODS["householder"](torch.eye(4).double(), reflections=3)
    with pytest.raises(InputError, match="dim: expected a whole number of at least 1, got 0"):
        ScaledTanh(0)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_without_values_returns_shapes(method: str) -> None:
    with torch.device("meta"):
        rotation = Rotation(2, method)
        for layer in (rotation, rotation.inverse, Conjugate(torch.tanh, rotation), ScaledTanh(2)):
            assert layer(torch.zeros(500, 2)).shape == (500, 2)

"""The pose network: the form of the predicted matrix, and the angles that belong to it."""

import pytest
import torch
from conftest import composed
from hydra.utils import instantiate

from stnrot.errors import InputError
from stnrot.geometry import project_rotation
from stnrot.geometry.euler import euler_to_matrix
from stnrot.models.pose_net import PoseNet


def net(own_axis: list[float] | None, axes: str, *overrides: str) -> PoseNet:
    config = composed("train", "data=rendered", "model=pose_net", *overrides)
    config.data_spec = {"axes": axes, "own_axis": own_axis}
    return instantiate(config.model, _convert_="all")


@pytest.mark.parametrize("size", [(128, 128), (50, 70)])
def test_the_angles_rotate_the_axis_onto_the_first_eigenvector(size: tuple[int, int]) -> None:
    model = net([0.0, 1, 0], "XZ")
    image = torch.rand(5, 1, *size)
    angles = model.angles(image)
    assert not angles.requires_grad
    assert torch.equal(model.angles(image[:2].double()), model.angles(image[:2]))
    matrix = model(image)
    assert torch.equal(matrix, matrix.mT)
    axis = euler_to_matrix(angles, "XZ")[..., 1]
    eigenvalues = torch.linalg.eigvalsh(matrix)
    torch.testing.assert_close((axis[:, None] @ matrix @ axis[..., None]).flatten(), eigenvalues[:, -1])


@pytest.mark.parametrize("axes", ["XYZ", "zxz"])
def test_the_angles_are_those_of_the_nearest_rotation(axes: str) -> None:
    model, image = net(None, axes), torch.rand(5, 1, 64, 64)
    expected = project_rotation(model(image))
    torch.testing.assert_close(euler_to_matrix(model.angles(image), axes), expected, rtol=0, atol=1e-5)


def test_a_batch_is_its_single_images_and_every_weight_learns() -> None:
    model, image = net([0.0, 1, 0], "XZ"), torch.rand(5, 1, 64, 64)
    model(image).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    torch.testing.assert_close(model(image[2:3]), model(image)[2:3])


@pytest.mark.parametrize(("name", "value"), [("side", 40), ("side", 0), ("width", 6), ("width", 0)])
def test_bad_sizes_are_refused(name: str, value: int) -> None:
    with pytest.raises(Exception, match=f"{name}={value}: expected") as raised:
        net(None, "XZ", f"model.{name}={value}")
    assert isinstance(raised.value.__cause__, InputError)

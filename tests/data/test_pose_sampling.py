"""Random poses are as uniform as the axes allow: moments and distributions from the literature."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation as ScipyRotation

from stnrot.data.pose_sampling import uniform_angles


def drawn(order: str, own: list[float] | None, count: int = 4000) -> torch.Tensor:
    numbers = torch.rand(count, len(order), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles = uniform_angles(numbers, order, None if own is None else torch.tensor(own))
    assert angles.abs().max() <= np.pi
    return angles


def uniform(values: np.ndarray, low: float, high: float) -> bool:
    return stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("order", ["XYZ", "ZYZ", "yzx", "xyx"])
def test_three_axes_give_the_haar_measure(order: str) -> None:
    """The angle of a random rotation has the distribution (t - sin t) / pi, its vector any direction."""
    vector = ScipyRotation.from_euler(order, drawn(order, None).numpy()).as_rotvec()
    size = np.linalg.norm(vector, axis=1)
    assert uniform((size - np.sin(size)) / np.pi, 0, 1)
    for component in (vector / size[:, None]).T:
        assert uniform(component, -1, 1)


@pytest.mark.parametrize(
    ("order", "own"), [("XZ", [0.0, 1, 0]), ("XZ", [-0.6, 0.8, 0]), ("ZX", [0.0, 0, 1]), ("xy", [0.0, 0.6, 0.8])]
)
def test_two_axes_bring_an_axis_uniformly_onto_the_sphere(order: str, own: list[float]) -> None:
    angles = drawn(order, own)
    axis = ScipyRotation.from_euler(order, angles.numpy()).apply(own)
    for component in axis.T:
        assert uniform(component, -1, 1)
    outer = angles[:, 1] if order.isupper() else angles[:, 0]  # both answers, about a circle
    assert outer.min() < -3 < 3 < outer.max()


def test_other_angles_are_uniform() -> None:
    for order, own in (("XZ", None), ("Y", [0.0, 1, 0]), ("XZ", [0.0, 0.6, 0.8])):
        for column in drawn(order, own).T.numpy():
            assert uniform(column, -np.pi, np.pi)

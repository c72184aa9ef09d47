"""The pixels of figures: marks of each colour are where they belong."""

import numpy as np
import torch

from stnrot.callbacks import figures
from stnrot.callbacks.image_grid import Cell, draw_grid
from stnrot.callbacks.pose_figures import errors_on_sphere


def centre_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return the mean (x, y) of the pixels of this colour, from the centre of the figure, y down."""
    close = np.abs(pixels.astype(int) - colour).max(-1) < 40
    y, x = close.nonzero()
    assert len(x) > 5
    return np.array([x.mean() - pixels.shape[1] / 2, y.mean() - pixels.shape[0] / 2])


def test_the_posterior_points_to_where_the_top_is() -> None:
    """torch.rot90 with k = -1 rotates clockwise. The top is then at the right, and the angle is +90 degrees."""
    upright = torch.zeros(1, 20, 20)
    upright[:, :6] = 1
    rotated = torch.rot90(upright, -1, (1, 2)).numpy()
    assert rotated[0, 10, 19] == 1
    posterior = np.full((5, 64), 1e-6, dtype=np.float32)
    posterior[:, 16] = 1
    quarter = np.full(5, np.pi / 2, dtype=np.float32)
    drawn = figures.angle_posterior([rotated] * 5, posterior, -quarter, quarter, "the top")
    first = drawn[40:, 32:200]  # the circle of the first image and its marks
    chosen, truth = centre_of(first, (214, 39, 40)), centre_of(first, (44, 160, 44))
    assert chosen[0] > 20 > abs(chosen[1] - truth[1])
    assert truth[0] < -20
    believed = centre_of(first, (31, 119, 180))
    assert believed[0] > 3


def test_accuracy_is_drawn_at_the_rotation_of_the_input() -> None:
    """The angle undoes the rotation. Here only inputs rotated by about +90 degrees are right."""
    angle = np.radians(np.arange(-180, 180, 3)).astype(np.float32)
    right = np.abs(np.degrees(-angle) - 90) < 40
    line = centre_of(figures.accuracy_by_angle(angle, right)[:120], (31, 119, 180))
    assert line[0] > 40


def test_a_wrong_sample_has_a_red_frame() -> None:
    image = np.ones((1, 8, 8), dtype=np.float32)
    cells = [Cell((image, None, image, None), ("", ""), wrong) for wrong in (False, True)]
    red = (np.abs(draw_grid(cells).astype(int) - (214, 39, 40)).max(-1) < 10).nonzero()[1]
    assert red.min() >= draw_grid(cells[:1]).shape[1] - 8


def test_an_error_is_drawn_where_the_axis_points_as_the_camera_sees_it() -> None:
    """One pose has an error; its axis points right, down and away. The opposite direction, up left, is the near one."""
    cloud = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    direction = np.concatenate((cloud / np.linalg.norm(cloud, axis=1)[:, None], np.float32([[0.6, 0.48, 0.64]])))
    error = np.append(np.zeros(300), 40).astype(np.float32)
    yellow = (253, 231, 37)  # colour of the largest error
    disc = errors_on_sphere(direction, error, True, "axis")[:, :340]  # without the colour bar
    x, y = centre_of(disc, yellow)
    assert x < -30
    assert y < -20
    halves = errors_on_sphere(direction, error, False, "seen from")
    near, far = halves[:, :380], halves[:, 380:730]
    assert (np.abs(near.astype(int) - yellow).max(-1) < 40).sum() == 0
    x, y = centre_of(far, yellow)
    assert x > 20
    assert y > 20

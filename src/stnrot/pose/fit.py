"""Find the angles about coordinate axes at which a solid was rendered."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from PIL import Image
from torch import Tensor

from stnrot.errors import InputError
from stnrot.geometry.angles import wrap
from stnrot.geometry.autograd import full_precision
from stnrot.geometry.constants import constant
from stnrot.geometry.euler import axis_numbers, euler_to_matrix
from stnrot.geometry.splat import Camera
from stnrot.image_kinds import ImageKind, joined, to_floats
from stnrot.pose.half_turns import half_turn_matrices, is_repeated, is_same, with_half_turns
from stnrot.pose.levenberg_marquardt import GAIN, descend, robust_loss
from stnrot.pose.point_clouds import check_in_front
from stnrot.pose.start import Start, real_numbers, start_angles, with_mirror
from stnrot.pose.view import CHUNK, JOINED, View

Images: TypeAlias = ImageKind | Sequence[ImageKind]

GRID_DEG = {1: 5, 2: 10, 3: 15}  # step of the search, by the number of axes
QUARTER, HALF, FULL = 16, 6, 2  # poses that descend at a quarter of the pixels a side, at half, and at full size
STEPS = {4: 6, 2: 5, 1: 30}  # of a descent, by the factor of the view
SEARCH_GAIN, START_GAIN = 1e-3, 0.03  # promised share of the loss at which all but the best pose stop
MAX_POINTS = 2000  # of a reduced image
SAME_HALF_TURN = math.radians(6)  # from a half turn: with sampled points the best pose is not exactly there
MAX_UNLIKE = 0.08  # difference of two images that look alike, in shares of the solid's own loss; up to this for a torus
MIN_OUTLINE = 0.65  # share of the rendered outline found in the image; right poses had 0.72 and more, wrong up to 0.59
MAX_MISMATCH = 0.15  # of full brightness: a difference that noise makes in joined pixels


@dataclass(frozen=True)
class Pose:
    """The poses that `fit_pose` found, one for each image.

    `angles` (radians, in [-pi, pi)) are those of `euler_to_matrix`, and `matrix` is their rotation. `loss` is the mean
    squared difference between the image and the rendered pose, over the part of the image that the solid can reach;
    each square is limited to 0.0225. `converged` is true if the descent ended and if, in squares of 4 x 4 pixels, at
    least 0.65 of the rendered outline is in the image: all of it in a clean image, less if the solid is occluded.

    `hypotheses` are all poses that were refined at full size, best first, with their `hypotheses_loss`; it is infinite
    for a pose that appears twice. The hypotheses that are `alike` look nearly the same as the best one and differ from
    it by about a half turn of the solid about its own axes. So the four poses of a torus are one answer: a set of
    sampled points is not exactly symmetric.
    """

    angles: Float[Tensor, "B A"]
    matrix: Float[Tensor, "B 3 3"]
    loss: Float[Tensor, "B"]
    converged: Bool[Tensor, "B"]
    hypotheses: Float[Tensor, "B K A"]
    hypotheses_loss: Float[Tensor, "B K"]
    alike: Bool[Tensor, "B K"]


@torch.no_grad()
def fit_pose(
    image: Images,
    points: Shaped[Tensor, "N 3"] | Shaped[np.ndarray, "N 3"],
    axes: str = "XZ",
    *,
    camera: Camera | None = None,
    start: Start | None = None,
) -> Pose:
    r"""Find the angles about `axes` by which points were rotated to give an image.

    Without a start, all angles in steps of 5, 10 or 15 degrees (one, two or three axes) are rendered at a quarter of
    the pixels a side. The 16 lowest local minima of the loss descend at that size, the best 6 at half, the best 2 at
    full size, by the method of Levenberg and Marquardt on the angles alone (`descend`). In a reduced image, half
    turns of the solid about its own axes look nearly the same. So the half turns of the last two descend, too. All
    descend until a step promises less than a thousandth of the loss; then the best one descends to the end. The loss is
    robust against occlusion.

    With a start, such as a network's estimate, only the start and its mirror image in depth descend, then the half
    turns of the better one, until a step promises less than 3 % of the loss. (The search needs no mirror images: they
    are minima of its grid, too.) An angle that hardly changes the image, such as the rotation of a torus about y, is
    only as exact as its points show it.

    Args:
        image: a tensor [H, W] or [B, 1, H, W]; a NumPy array [H, W], [H, W, C] or [B, H, W, C] with C = 1 (grey), 2
            (grey and alpha), 3 (colour) or 4 (colour and alpha); a PIL image; or a list of these. H and W are those of
            the camera. Values are in [0, 1]: uint8 is divided by 255, uint16 by 65,535. Arrays and PIL images with
            colours are converted to grey; transparent parts count as black.
        points: of the solid, relative to its own origin; a tensor or a NumPy array [N, 3].
        axes: an order of `euler_to_matrix`.
        camera: None is `Camera()`.
        start: angles (radians), a tensor or a NumPy array [B, A]; or a `PoseNet` that estimates them, or the checkpoint
            of the run that trained it.

    Raises:
        InputError: if an argument does not fit, or if every pose has all points behind the camera.

    >>> from stnrot.geometry.euler import euler_to_matrix
    >>> from stnrot.geometry.splat import render
    >>> from stnrot.pose.point_clouds import torus
    >>> true = torch.tensor([0.3, -0.8])
    >>> image = render(torus(), euler_to_matrix(true, "XZ"), Camera())
    >>> (fit_pose(image, torus()).angles - true).abs().max().item() < 1e-4
    True
    """
    camera = Camera() if camera is None else camera
    if not isinstance(camera, Camera):
        raise InputError(f"camera: expected a Camera, got {type(camera).__name__}")
    axis_numbers(axes, "axes")  # raises an InputError for an unknown order
    images = _as_batch(image, camera)
    points = _check_points(points, camera, axes).to(images)
    with full_precision(images):
        return _fit(images, points, axes, camera, start)


def _fit(
    images: Float[Tensor, "B H W"],
    points: Float[Tensor, "N 3"],
    axes: str,
    camera: Camera,
    start: Start | None,
) -> Pose:
    """Search or take the start, then descend at a quarter, a half and all of the pixels a side."""
    views = {factor: _view(points, camera, axes, factor) for factor in (4, 2, 1)}
    targets = {factor: view.reduced(images) for factor, view in views.items()}
    if start is None:
        angles, half, full, gain = _search(views[4], targets[4]), HALF, FULL, SEARCH_GAIN
    else:
        angles, half, full, gain = with_mirror(start_angles(start, images, views[1]), axes), 1, 1, START_GAIN
    angles = _refine(views[4], angles, targets[4], gain)[0][:, :half]
    angles = _refine(views[2], angles, targets[2], gain)[0]
    angles = with_half_turns(angles, axes, full)
    angles, loss, _ = _refine(views[1], angles, targets[1], gain)
    best, lowest, ended = _refine(views[1], angles[:, :1], targets[1], GAIN)
    angles, loss = torch.cat((best, angles[:, 1:]), 1), torch.cat((lowest, loss[:, 1:]), 1)
    matrix = euler_to_matrix(angles, axes)
    half_turns = half_turn_matrices(points.device, points.dtype)
    repeated = is_repeated(matrix, half_turns[:1])
    rendered = torch.stack([views[1].draw(each) for each in matrix])
    difference = torch.stack([robust_loss(each - each[:1]) for each in rendered])
    is_half_turn = is_same(matrix[:, :1], matrix, half_turns, SAME_HALF_TURN)[:, 0]
    return Pose(
        angles=angles[:, 0],
        matrix=matrix[:, 0],
        loss=loss[:, 0] / rendered.shape[2],
        converged=ended[:, 0] & (_outline_found(views[1], rendered[:, 0], targets[1]) >= MIN_OUTLINE),
        hypotheses=angles,
        hypotheses_loss=(loss / rendered.shape[2]).masked_fill(repeated, math.inf),
        alike=is_half_turn & ~repeated & (difference <= MAX_UNLIKE * robust_loss(rendered[:, 0])[:, None]),
    )


def _as_batch(image: Images, camera: Camera) -> Float[Tensor, "B H W"]:
    """Return images in grey, with values in [0, 1], of the camera's size."""
    if not isinstance(image, Sequence) or isinstance(image, str | bytes):
        return _in_grey(image, "image", camera)[:, 0]
    if not image:
        raise InputError("image: expected at least one image, got an empty list")
    names = [f"image[{k}]" for k in range(len(image))]
    return joined([_in_grey(each, name, camera) for each, name in zip(image, names, strict=True)], names)[:, 0]


def _in_grey(image: object, name: str, camera: Camera) -> Float[Tensor, "B 1 H W"]:
    grey = to_floats(image, name, "a tensor, a NumPy array, a PIL image or a list of these").with_channels(1)
    size = (camera.height, camera.width)
    if grey.shape[1:] != (1, *size):
        given = image.size[::-1] if isinstance(image, Image.Image) else image.shape  # type: ignore[attr-defined]
        raise InputError(
            f"{name}: expected [{size[0]}, {size[1]}] or [B, 1, {size[0]}, {size[1]}], the camera's size, got "
            f"{list(given)}; scale the image, or set height and width of the camera"
        )
    if min(size) < 2 * JOINED:
        raise InputError(f"{name}: expected at least {2 * JOINED} pixels a side, got {size[0]} x {size[1]}")
    if not bool(((grey >= 0) & (grey <= 1)).all()):
        kind = f"the mode {image.mode}" if isinstance(image, Image.Image) else image.dtype  # type: ignore[attr-defined]
        raise InputError(
            f"{name}: expected real numbers from 0 to 1, got {kind} from {grey.min().item():g} to "
            f"{grey.max().item():g}; divide by the largest possible value"
        )
    return grey


def _check_points(points: Tensor | np.ndarray, camera: Camera, axes: str) -> Float[Tensor, "N 3"]:
    points = real_numbers(points, "points")
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not bool(points.isfinite().all()):
        raise InputError(f"points: expected N x 3 finite numbers, N at least 1, got shape {list(points.shape)}")
    check_in_front(points, camera, axes)
    return points


def _view(points: Tensor, camera: Camera, axes: str, factor: int) -> View:
    """Return the view in squares of `factor` pixels a side. A reduced view has at most MAX_POINTS of the points."""
    every = 1 if factor == 1 else -(-len(points) // MAX_POINTS)
    return View(points[::every], camera, axes, factor, float(every))


def _search(view: View, target: Float[Tensor, "B P"]) -> Float[Tensor, "B K A"]:
    """Return the lowest local minima on a grid of all angles."""
    count = len(view.order)
    side = 360 // GRID_DEG[count]
    grid, rotation = _all_angles(side, view.order, target.device, target.dtype)
    chunks = (view.draw(chunk) for chunk in rotation.split(max(1, CHUNK // target.shape[1])))
    loss = torch.cat([torch.stack([robust_loss(rendered - each) for each in target]) for rendered in chunks], 1)
    height = -loss.view(-1, 1, *[side] * count)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[count - 1]
    highest = pool(F.pad(height, (1, 1) * count, mode="circular"), 3, 1)
    peaks = torch.where(height == highest, height, -math.inf).flatten(1)
    return grid[peaks.topk(QUARTER).indices]


@constant
def _all_angles(
    side: int, axes: str, device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "M A"], Float[Tensor, "M 3 3"]]:
    """Return all combinations of angles (radians) about the axes in `side` steps of the circle, and their rotations."""
    angle = (torch.arange(side, device=device, dtype=dtype) / side - 0.5) * (2 * math.pi)
    grid = torch.cartesian_prod(*[angle] * len(axes)).view(-1, len(axes))
    return grid, euler_to_matrix(grid, axes)


def _refine(
    view: View, angles: Float[Tensor, "B K A"], target: Float[Tensor, "B P"], gain: float
) -> tuple[Float[Tensor, "B K A"], Float[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """Descend from every pose. Return angles, losses and whether each descent ended, best first."""
    batch, count = angles.shape[:2]
    each = target.repeat_interleave(count, 0)
    found, loss, ended = descend(view, angles.flatten(0, 1), each, STEPS[view.factor], gain)
    loss, best = loss.view(batch, count).sort(dim=1)
    found = found.view_as(angles).gather(1, best[..., None].expand_as(angles))
    return wrap(found), loss, ended.view(batch, count).gather(1, best)


def _outline_found(view: View, rendered: Float[Tensor, "B P"], target: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
    """Return the share of squares on the rendered outline where the image looks the same."""
    a, b = (F.avg_pool2d(each.unflatten(1, (1, *view.size)), JOINED) for each in (rendered, target))
    outline = (a > 0.02) & (a < 0.98)
    matched = outline & ((a - b).abs() < MAX_MISMATCH)
    return matched.sum((1, 2, 3)) / outline.sum((1, 2, 3)).clamp(min=1)

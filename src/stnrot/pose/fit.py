"""Find the angles that rendered a picture: a search over all of them, then descent through the renderer."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from stnrot.errors import InputError
from stnrot.geometry.angles import wrap
from stnrot.geometry.autograd import full_precision
from stnrot.geometry.euler import axis_numbers, euler_to_matrix, matrix_to_euler
from stnrot.geometry.splat import Camera
from stnrot.models.pose_net import PoseNet
from stnrot.pose.levenberg_marquardt import CHUNK, GAIN, JOINED, View, descend, robust_loss
from stnrot.pose.point_clouds import check_before, fingerprint

GRID_DEG = {1: 5, 2: 10, 3: 15}  # between the angles of the search, by the number of axes
SEARCHED, HALVED, LAST = 16, 6, 2  # poses that go on from the search, at half the pixels, and at all of them
STEPS = {4: 6, 2: 5, 1: 30}  # of descent, by the factor of the view
SEARCHING, STARTED = 1e-3, 0.03  # gain, in shares of the loss, below which a descent leaves the end to the best pose
SKETCH = 2000  # points that smaller pictures are drawn of
REPEATED = math.radians(3)  # two poses less apart are one
TURNED = math.radians(6)  # less from a half turn is one: of sampled points the best pose is not just there
ALIKE = 0.08  # share of the solid's own loss that two pictures may differ by; those of a torus differ by up to this
OUTLINE = 0.65  # share of the rendered outline that must be there; right poses had 0.72 and more, wrong ones up to 0.59
MATCHED = 0.15  # of full brightness: a difference that noise makes once the pixels are joined


@dataclass(frozen=True)
class Pose:
    """What `fit_pose` found for each picture, best first where there are several.

    `angles` (radians, in [-pi, pi)) are those of `euler_to_matrix`, and `matrix` is what it makes of them. `loss` is
    the mean, over the part of the picture that the solid can reach, of the squared difference from what is rendered,
    each at most 0.0225. `converged` says that the descent came to an end and that, in squares of 4 x 4 pixels, at
    least 0.65 of the outline of what is rendered is there in the picture: all of it in a clean picture, less where
    something hides it.

    `hypotheses` are all the poses that were refined on the exact picture, with their `hypotheses_loss`, infinite for
    one that is there already. Those that are `alike` differ from the best by about a half turn of the solid about its
    own axes and look nearly the same: the four of a torus, which as a set of sampled points is not exactly symmetric,
    are one answer.
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
    image: Float[Tensor, "H W"] | Float[Tensor, "B 1 H W"],
    points: Float[Tensor, "N 3"],
    axes: str = "XZ",
    *,
    camera: Camera | None = None,
    start: Float[Tensor, "B A"] | nn.Module | str | Path | None = None,
) -> Pose:
    r"""Find the angles about `axes` by which points were turned to give a picture.

    Without a start, all angles in steps of 5, 10 or 15 degrees (one, two or three axes) are drawn at a quarter of the
    pixels a side. The 16 lowest local minima of the loss descend there, the best at half, and the best two at all of
    the pixels, on the exact picture, by Levenberg and Marquardt's method on the angles alone: see `descend`. Before
    the last, each is joined by its half turns about the solid's own axes, which a coarse picture cannot tell apart. All
    are refined until a step promises a thousandth of the loss, and the lowest goes to the end. The loss forgives what
    stands in front.

    With a start, such as a network's estimate, only it and its mirror image in depth descend, and the half turns of the
    better one, until a step promises 3 % of the loss. (The search needs no mirror images: the minima of the grid have
    them.) An angle that the solid hardly shows, as a torus its turn about y, is known as well as its points show it.

    Args:
        image: values in [0, 1], of the camera's size.
        points: of the solid, about their own origin.
        axes: an order of `euler_to_matrix`.
        camera: None is that of `Camera()`.
        start: angles (radians); or a `PoseNet` that says them, or the checkpoint of the run that trained it.

    Raises:
        InputError: if an argument does not fit, or no pose brings a point before the camera.

    >>> from stnrot.geometry.euler import euler_to_matrix
    >>> from stnrot.geometry.splat import render
    >>> from stnrot.pose.point_clouds import torus
    >>> true = torch.tensor([0.3, -0.8])
    >>> picture = render(torus(), euler_to_matrix(true, "XZ"), Camera())
    >>> (fit_pose(picture, torus()).angles - true).abs().max().item() < 1e-4
    True
    """
    camera = Camera() if camera is None else camera
    if not isinstance(camera, Camera):
        raise InputError(f"camera: expected a Camera, got {type(camera).__name__}")
    axis_numbers(axes)  # or it says what is wrong with them
    pictures = _checked(image, camera)
    points = _checked_points(points, camera, axes).to(pictures)
    with full_precision(pictures):
        return _fitted(pictures, points, axes, camera, start)


def _fitted(
    pictures: Float[Tensor, "B H W"],
    points: Float[Tensor, "N 3"],
    axes: str,
    camera: Camera,
    start: Tensor | nn.Module | str | Path | None,
) -> Pose:
    """Search or start, and descend."""
    views = {factor: _view(points, camera, axes, factor) for factor in (4, 2, 1)}
    targets = {factor: view.reduced(pictures) for factor, view in views.items()}
    if start is None:
        angles, halved, last, gain = _search(views[4], targets[4]), HALVED, LAST, SEARCHING
    else:
        angles, halved, last, gain = _around(_started(start, pictures, views[1]), axes), 1, 1, STARTED
    angles = _refined(views[4], angles, targets[4], gain)[0][:, :halved]
    angles = _refined(views[2], angles, targets[2], gain)[0]
    angles = _with_half_turns(_apart(angles, axes)[:, :last], axes)
    angles, loss, _ = _refined(views[1], angles, targets[1], gain)
    best, lowest, ended = _refined(views[1], angles[:, :1], targets[1], GAIN)
    angles, loss = torch.cat((best, angles[:, 1:]), 1), torch.cat((lowest, loss[:, 1:]), 1)
    matrix = euler_to_matrix(angles, axes)
    repeated = _same(matrix, matrix, _half_turns(points)[:1], REPEATED).triu(1).any(1)
    drawn = torch.stack([views[1].draw(each) for each in angles])
    difference = torch.stack([robust_loss(each - each[:1]) for each in drawn])
    turned = _same(matrix[:, :1], matrix, _half_turns(points), TURNED)[:, 0]
    return Pose(
        angles=angles[:, 0],
        matrix=matrix[:, 0],
        loss=loss[:, 0] / drawn.shape[2],
        converged=ended[:, 0] & (_outline_found(views[1], drawn[:, 0], targets[1]) >= OUTLINE),
        hypotheses=angles,
        hypotheses_loss=(loss / drawn.shape[2]).masked_fill(repeated, math.inf),
        alike=turned & ~repeated & (difference <= ALIKE * robust_loss(drawn[:, 0])[:, None]),
    )


def _checked(image: Tensor, camera: Camera) -> Float[Tensor, "B H W"]:
    """Return the pictures as one batch."""
    if not isinstance(image, Tensor):
        raise InputError(f"image: expected a tensor, got {type(image).__name__}")
    size = (camera.height, camera.width)
    one = image.ndim == 2
    if not (one or (image.ndim == 4 and image.shape[1] == 1)) or image.shape[-2:] != size or not len(image):
        raise InputError(
            f"image: expected [{size[0]}, {size[1]}] or [B, 1, {size[0]}, {size[1]}], the camera's size, got "
            f"{list(image.shape)}; scale the picture, or set height and width of the camera"
        )
    if min(size) < 2 * JOINED:
        raise InputError(f"image: expected at least {2 * JOINED} pixels a side, got {size[0]} x {size[1]}")
    if not image.is_floating_point() or not bool(((image >= 0) & (image <= 1)).all()):
        least, most = image.min().item(), image.max().item()
        raise InputError(f"image: expected real numbers from 0 to 1, got {image.dtype} from {least:g} to {most:g}")
    return (image[None] if one else image[:, 0]).to(torch.promote_types(image.dtype, torch.float32))


def _checked_points(points: Tensor, camera: Camera, axes: str) -> Float[Tensor, "N 3"]:
    """Return the points, of which turns about the axes bring one before the camera."""
    if not isinstance(points, Tensor):
        raise InputError(f"points: expected a tensor, got {type(points).__name__}")
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not bool(points.isfinite().all()):
        raise InputError(f"points: expected N x 3 finite numbers, N at least 1, got shape {list(points.shape)}")
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    check_before(points, camera, axes)
    return points


def _view(points: Tensor, camera: Camera, axes: str, factor: int) -> View:
    """Return the view that joins so many pixels, of a part of the points if they are many."""
    every = 1 if factor == 1 else -(-len(points) // SKETCH)
    return View(points[::every], camera, axes, factor, float(every))


def _search(view: View, target: Float[Tensor, "B P"]) -> Float[Tensor, "B K A"]:
    """Return the lowest local minima on a grid of all angles."""
    count = len(view.order)
    side = 360 // GRID_DEG[count]
    angle = (torch.arange(side, device=target.device, dtype=target.dtype) / side - 0.5) * (2 * math.pi)
    grid = torch.cartesian_prod(*[angle] * count).view(-1, count)
    parts = (view.draw(part) for part in grid.split(max(1, CHUNK // target.shape[1])))
    loss = torch.cat([torch.stack([robust_loss(drawn - each) for each in target]) for drawn in parts], 1)
    height = -loss.view(-1, 1, *[side] * count)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[count - 1]
    highest = pool(F.pad(height, (1, 1) * count, mode="circular"), 3, 1)
    peaks = torch.where(height == highest, height, -math.inf).flatten(1)
    return grid[peaks.topk(SEARCHED).indices]


def _started(
    start: Tensor | nn.Module | str | Path, pictures: Float[Tensor, "B H W"], view: View
) -> Float[Tensor, "B A"]:
    """Return the angles to start from."""
    axes = view.order
    if isinstance(start, Tensor):
        if start.shape != (len(pictures), len(axes)) or not bool(start.isfinite().all()):
            raise InputError(
                f"start: expected [{len(pictures)}, {len(axes)}] finite angles for {len(pictures)} pictures and "
                f"axes={axes}, got shape {list(start.shape)}"
            )
        return start.to(pictures)
    network: Any = start
    if isinstance(start, str | Path):
        network = _network(Path(start), view)
    if not isinstance(network, PoseNet):
        raise InputError(f"start: expected a network that says poses, of task=pose, got {type(network).__name__}")
    if network.axes != axes:
        raise InputError(f"axes={axes}: the start is a network for {network.axes}; expected one of data.axes={axes}")
    return network.to(pictures.device).angles(pictures[:, None]).to(pictures)


def _network(path: Path, view: View) -> nn.Module:
    """Read a network that was trained on this solid as this camera sees it."""
    from stnrot.runs.checkpoints import read_checkpoint, rebuild  # Hydra and Lightning: seconds, for who needs them

    saved = read_checkpoint(path)
    model: nn.Module = rebuild(saved, path).model
    if isinstance(model, PoseNet):
        images = saved["config"]["data_spec"]
        if images["points_digest"] != fingerprint(view.points):
            raise InputError(f"{path} was trained on other points: expected those of data.points={images['points']}")
        if images["camera"] != asdict(view.camera):
            raise InputError(f"{path} was trained with the camera {images['camera']}: expected the same one here")
    return model


def _around(angles: Float[Tensor, "B A"], axes: str) -> Float[Tensor, "B 2 A"]:
    """Return angles and those that the mirror image in depth of the turned solid has, if it is its own mirror image.

    A mirror z -> -z turns every angle about X and Y round. In perspective the two pictures differ, but not by much.
    """
    sign = angles.new_tensor([1.0 if axis in "Zz" else -1.0 for axis in axes])
    return torch.stack((angles, angles * sign), 1)


def _refined(
    view: View, angles: Float[Tensor, "B K A"], target: Float[Tensor, "B P"], gain: float
) -> tuple[Float[Tensor, "B K A"], Float[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """Descend from all, and return angles, loss and whether it came to an end, best first."""
    batch, count = angles.shape[:2]
    each = target.repeat_interleave(count, 0)
    found, loss, ended = descend(view, angles.flatten(0, 1), each, STEPS[view.factor], gain)
    loss, best = loss.view(batch, count).sort(dim=1)
    found = found.view_as(angles).gather(1, best[..., None].expand_as(angles))
    return wrap(found), loss, ended.view(batch, count).gather(1, best)


def _half_turns(like: Tensor) -> Float[Tensor, "4 3 3"]:
    """Return the identity and the half turns about each axis."""
    signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    return torch.stack([torch.diag(like.new_tensor(each)) for each in signs])


def _outline_found(view: View, drawn: Float[Tensor, "B P"], target: Float[Tensor, "B P"]) -> Float[Tensor, "B"]:
    """Return the share of squares on the outline of what is drawn that look so in the picture, too."""
    a, b = (F.avg_pool2d(each.unflatten(1, (1, *view.size)), JOINED) for each in (drawn, target))
    outline = (a > 0.02) & (a < 0.98)
    matched = outline & ((a - b).abs() < MATCHED)
    return matched.sum((1, 2, 3)) / outline.sum((1, 2, 3)).clamp(min=1)


def _same(
    a: Float[Tensor, "B J 3 3"], b: Float[Tensor, "B K 3 3"], turns: Float[Tensor, "S 3 3"], within: float
) -> Bool[Tensor, "B J K"]:
    """Return which of b is, within an angle, one of a after one of some turns about the solid's own axes."""
    trace = torch.einsum("bjsxy,bkxy->bjks", a[:, :, None] @ turns, b).amax(-1)
    return trace > 1 + 2 * math.cos(within)


def _apart(angles: Float[Tensor, "B K A"], axes: str) -> Float[Tensor, "B K A"]:
    """Put those last that are a half turn, or less, from a better one."""
    matrix = euler_to_matrix(angles, axes)
    repeated = _same(matrix, matrix, _half_turns(angles), REPEATED).triu(1).any(1)
    order = repeated.int().argsort(dim=1, stable=True)
    return angles.gather(1, order[..., None].expand_as(angles))


def _with_half_turns(angles: Float[Tensor, "B K A"], axes: str) -> Float[Tensor, "B 4*K A"]:
    """Add the half turns about the solid's own axes; one that the axes cannot make is the pose itself again."""
    matrix = euler_to_matrix(angles, axes)[:, :, None] @ _half_turns(angles)
    turned = matrix_to_euler(matrix, axes)
    made = (euler_to_matrix(turned, axes) - matrix).abs().amax((-2, -1)) < 1e-3
    return torch.where(made[..., None], turned, angles[:, :, None]).flatten(1, 2)

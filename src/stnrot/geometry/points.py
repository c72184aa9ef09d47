"""Rotate points and boxes as an image is rotated.

A point is (column, row) in pixels. Where (0, 0) lies is a matter of convention, so every function asks for it: the
`centre` of the first pixel, as for keypoints in OpenCV, kornia and `rotate`, or its `corner`, as for boxes in
torchvision and COCO, whose right edge is the width of the image. The same point has larger numbers by 1/2 from the
corner.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stnrot.arguments import Count, checked
from stnrot.geometry.angles import wrap
from stnrot.geometry.autograd import at_least_float32, same_type

Origin = Literal["centre", "corner"]


@checked
def rotate_points(
    points: Float[Tensor, "*#n 2"], angle: float | Float[Tensor, "*#n"], height: Count, width: Count, origin: Origin
) -> Float[Tensor, "*n 2"]:
    r"""Return where points of an image lie after `rotate(image, angle)`.

    With x to the right and y down, from the middle of the image, a counter-clockwise rotation is

        x' = x cos a + y sin a,  y' = -x sin a + y cos a.

    The result is differentiable in both.

    Args:
        points: (column, row) in pixels.
        angle: radians, counter-clockwise as displayed. The shapes are broadcast: `angle[:, None]` rotates the points
            [B, N, 2] of a batch.
        height: of the image, in pixels.
        width: of the image, in pixels.
        origin: which point of the first pixel is (0, 0), see above.

    >>> rotate_points(torch.tensor([[2.0, 0.0]]), torch.pi / 2, height=3, width=3, origin="centre").round().abs()
    tensor([[0., 0.]])
    """
    points, angle = same_type(points, _tensor(angle, points))
    first = 1 if origin == "centre" else 0
    middle = points.new_tensor(((width - first) / 2, (height - first) / 2))
    x, y = (points - middle).unbind(-1)
    c, s = angle.cos(), angle.sin()
    return torch.stack((x * c + y * s, y * c - x * s), -1) + middle


@checked
def box_corners(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4 2"]:
    """Return the corners (column, row) of boxes (left, top, right, bottom): clockwise as displayed, top left first.

    >>> box_corners(torch.tensor([0.0, 0.0, 4.0, 2.0])).int().tolist()
    [[0, 0], [4, 0], [4, 2], [0, 2]]
    """
    return boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(-1, (4, 2))


@checked
def rotate_boxes(
    boxes: Float[Tensor, "*#n 4"], angle: float | Float[Tensor, "*#n"], height: Count, width: Count, origin: Origin
) -> Float[Tensor, "*n 4"]:
    """Return the smallest upright boxes around rotated boxes, both (left, top, right, bottom).

    They may reach outside the image. Between quarter turns they are larger than the boxes; `oriented_boxes` stay exact.
    For the arguments see `rotate_points`.
    """
    angle = _tensor(angle, boxes)[..., None]
    corners = rotate_points(box_corners(boxes), angle, height, width, origin)
    return torch.cat((corners.amin(-2), corners.amax(-2)), -1)


@checked
def oriented_boxes(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 5"]:
    """Return boxes (left, top, right, bottom) as oriented boxes (centre column, centre row, width, height, angle 0).

    >>> oriented_boxes(torch.tensor([0.0, 0.0, 4.0, 2.0])).tolist()
    [2.0, 1.0, 4.0, 2.0, 0.0]
    """
    boxes = at_least_float32(boxes)
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((first + last) / 2, last - first, torch.zeros_like(boxes[..., :1])), -1)


@checked
def rotate_oriented_boxes(
    boxes: Float[Tensor, "*#n 5"], angle: float | Float[Tensor, "*#n"], height: Count, width: Count, origin: Origin
) -> Float[Tensor, "*n 5"]:
    """Rotate oriented boxes (centre column, centre row, width, height, angle): centre and angle change.

    The angle of a box is in radians, counter-clockwise as displayed, in [-pi, pi). torchvision's format `CXCYWHR` has
    the same angle in degrees. For the arguments see `rotate_points`.
    """
    boxes, angle = same_type(boxes, _tensor(angle, boxes))
    centre = rotate_points(boxes[..., :2], angle, height, width, origin)
    return torch.cat((centre, boxes[..., 2:4].expand_as(centre), wrap(boxes[..., 4] + angle)[..., None]), -1)


@checked
def oriented_corners(boxes: Float[Tensor, "*n 5"]) -> Float[Tensor, "*n 4 2"]:
    """Return the corners of oriented boxes: clockwise, beginning with the one that is top left at angle 0.

    >>> oriented_corners(torch.tensor([2.0, 1.0, 4.0, 2.0, torch.pi / 2])).round().abs().int().tolist()
    [[1, 3], [1, 1], [3, 1], [3, 3]]
    """
    boxes = at_least_float32(boxes)
    half, angle = boxes[..., 2:4] / 2, boxes[..., 4]
    across = torch.stack((angle.cos(), -angle.sin()), -1) * half[..., :1]
    down = torch.stack((angle.sin(), angle.cos()), -1) * half[..., 1:]
    return torch.stack((-across - down, across - down, across + down, down - across), -2) + boxes[..., None, :2]


def _tensor(angle: float | Tensor, like: Tensor) -> Tensor:
    """Return an angle as a tensor."""
    if isinstance(angle, Tensor):
        return angle
    return torch.tensor(angle, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)

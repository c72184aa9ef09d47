"""Turn the outputs of a network that read a rotated image back into the frame of the image as it was given."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from stnrot.annotations import DEVICE, Sizes, rule_of
from stnrot.arguments import Count, checked, described
from stnrot.errors import InputError
from stnrot.geometry import rotation_theta, warp
from stnrot.geometry.points import oriented_boxes, rotate_boxes, rotate_oriented_boxes, rotate_points

DETECTED = {  # in one image, as torchvision returns it
    "boxes": rule_of(Float[Tensor, "N 4"]),
    "oriented_boxes": rule_of(Float[Tensor, "N 5"]),
    "keypoints": rule_of(Float[Tensor, "N P 3"]),
    "masks": rule_of(Shaped[Tensor, "N 1 height width"]),
}


@checked
def turn_back(output: Any, angle: Float[Tensor, "B"], height: Count, width: Count) -> Any:
    """Return the output for `rotate(image, angle)` in the frame of `image`.

    - **Maps** `[B, C, h, w]` of any resolution, which cover the image: rotated by `-angle`, bilinearly. Maps of whole
      numbers or bools, such as labels, take the nearest pixel. What the rotated image did not show is 0.
    - **Detections**, a list or tuple of one dictionary for each image, as torchvision returns them: `boxes` become the
      smallest upright boxes around the turned ones, and `oriented_boxes` are added, which are exact (see
      `geometry.points`). `oriented_boxes` `[N, 5]` of the network itself are turned instead, if there are any.
      `keypoints` `[N, P, 3]` and `masks` `[N, 1, height, width]` are turned; other entries stay. (0, 0) is the corner
      of the first pixel, as in torchvision.
    - **Numbers** `[B]` and `[B, n]`, such as logits, single numbers and None stay.
    - Dictionaries, tuples and lists of these are gone through. A dictionary becomes a plain one, and a tuple of
      detections a list.

    Args:
        output: of a network.
        angle: by which each image was rotated, radians.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        InputError: if the output is something else, such as tokens `[B, N, D]` or boxes outside a list of detections,
            or is not that of B images.

    >>> image = torch.rand(1, 3, 8, 8)
    >>> back = turn_back({"out": torch.rot90(image, 1, (2, 3))}, torch.tensor([torch.pi / 2]), 8, 8)["out"]
    >>> torch.allclose(back, image, atol=1e-5)
    True
    """

    def of_tensor(value: Tensor) -> Tensor:
        if value.ndim == 4 and not value.is_complex():
            return _map_back(value, angle, height, width)
        if value.ndim <= 2:
            return value
        raise InputError(
            f"output: expected maps [B, C, h, w], logits [B, n] or detections, got {described(value)}; to turn it back "
            "yourself, call `align` and then the network"
        )

    def of_images(found: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [_detections_back(each, one, height, width) for each, one in zip(found, angle, strict=True)]

    return each_of(output, angle.shape[0], of_tensor, of_images)


def each_of(
    output: Any,
    count: int | torch.SymInt,
    of_tensor: Callable[[Tensor], Any],
    of_images: Callable[[list[Any]], Any],
) -> Any:
    """Apply a function to each tensor of an output, and another one to each list of one dictionary for each image.

    Raises:
        InputError: if one of them is not that of `count` images. Compiled graphs have no check.
    """
    if output is None or (isinstance(output, Tensor) and not output.ndim):
        return output
    if isinstance(output, Mapping):
        for name in ("boxes", "oriented_boxes"):
            if isinstance(output.get(name), Tensor):
                raise InputError(
                    f"output: expected {name} in a list of one dictionary for each image, got {name} of all images, "
                    f"{described(output[name])}; to turn them back yourself, call `align` and then the network"
                )
        return {name: each_of(value, count, of_tensor, of_images) for name, value in output.items()}
    detections = _are_detections(output)
    if detections or isinstance(output, Tensor):
        if not torch.compiler.is_compiling() and len(output) != count:
            raise InputError(f"output: expected one entry for each of {count} images, got {described(output)}")
        return of_images(list(output)) if detections else of_tensor(output)
    if isinstance(output, list | tuple):
        values = [each_of(value, count, of_tensor, of_images) for value in output]
        return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)
    raise InputError(f"output: expected tensors, or dictionaries, tuples or lists of tensors, got {described(output)}")


def _are_detections(output: Any) -> bool:
    """Return whether an output is a list of dictionaries, or a tuple of dictionaries that hold what was detected."""
    if not isinstance(output, list | tuple) or not all(isinstance(each, Mapping) for each in output):
        return False
    return isinstance(output, list) or (len(output) > 0 and all(DETECTED.keys() & each.keys() for each in output))


@checked
def _map_back(
    maps: Shaped[Tensor, "B C h w"], angle: Float[Tensor, "B"], height: int, width: int
) -> Shaped[Tensor, "B C h w"]:
    """Rotate maps by -angle. A pixel of a map need not be square, so the rotation is that of the image's pixels."""
    theta = rotation_theta(-angle, height, width)
    if maps.is_floating_point():
        return warp(maps, theta)
    return warp(maps.double(), theta.double(), "nearest").to(maps.dtype)


def _detections_back(found: Mapping[str, Any], angle: Float[Tensor, ""], height: int, width: int) -> dict[str, Any]:
    """Turn back what was detected in one image."""
    sizes: Sizes = {DEVICE: angle.device, "height": height, "width": width}
    for name, rule in DETECTED.items():
        if name in found and not rule.fits(found[name], sizes):
            raise InputError(f"output: expected {name} as {rule.expected(sizes)}, got {described(found[name])}")
    frame: Any = (-angle, height, width, "corner")
    turned = dict(found)
    if "boxes" in found:
        turned["boxes"] = rotate_boxes(found["boxes"], *frame)
        turned.setdefault("oriented_boxes", oriented_boxes(found["boxes"]))
    if "oriented_boxes" in turned:
        turned["oriented_boxes"] = rotate_oriented_boxes(turned["oriented_boxes"], *frame)
    if "keypoints" in found:
        points, visible = found["keypoints"].split((2, 1), -1)
        turned["keypoints"] = torch.cat((rotate_points(points, *frame), visible), -1)
    if "masks" in found:
        turned["masks"] = _map_back(found["masks"], angle.expand(len(found["masks"])), height, width)
    return turned

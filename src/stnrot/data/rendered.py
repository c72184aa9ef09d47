"""Images of a solid in random poses, rendered when they are needed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.data.datamodule import DataModule
from stnrot.data.degrade import NUMBERS, Degrade, check_degrade
from stnrot.data.pose_sampling import uniform_angles
from stnrot.data.rng import Purpose, Split, normal, uniform
from stnrot.errors import InputError, check_number
from stnrot.geometry.constants import vector
from stnrot.geometry.euler import axis_numbers, euler_to_matrix
from stnrot.geometry.splat import Camera, project, splat
from stnrot.pose.point_clouds import check_in_front, fingerprint, read_points

ROUND = 0.6  # least ratio of the variances in two directions across the axis; sampling noise leaves more than 0.8
AT_ONCE = 4  # images rendered together: the intermediate values of all points then fit into the cache of a CPU


@dataclass(frozen=True)
class Views:
    """Images and the rotations of the solid in them. `index` is the place of a sample in its set."""

    index: Int[Tensor, "B"]
    image: Float[Tensor, "B 1 H W"]
    rotation: Float[Tensor, "B 3 3"]


@dataclass(frozen=True)
class Counters:
    """A set without stored samples: a sample is rendered from its counter (see `RawBatch`), on the device."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, counters: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
        """Return the counters of a batch."""
        return counters


class RenderedPoses(DataModule):
    """Render a solid in poses that are as uniform as the axes allow (`uniform_angles`), and degrade the images.

    Every training image has a new pose. The poses of the validation and test sets never change.

    Args:
        points: torus, or a file of points: see `read_points`.
        own_axis: axis of a solid of revolution that looks the same when the axis is reversed; None for any other solid.
        axes: axes that the solid is rotated about, an order of `euler_to_matrix`.
        camera: how points become an image.
        degrade: degradation of the images of all three sets.
        samples: training images in one epoch. The validation set and the test set have a tenth of it each.
        batch_size: images in one step, over all processes together.
        seed: of poses and degradation in training, with the epoch.
        split_seed: of poses and degradation in the validation and test sets.
    """

    more_samples = "raise data.samples"

    def __init__(
        self,
        *,
        points: str,
        own_axis: list[float] | None,
        axes: str,
        camera: Camera,
        degrade: Degrade,
        samples: int,
        batch_size: int,
        seed: int,
        split_seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, repeats=1, seed=seed, split_seed=split_seed)
        check_number("samples", samples, 10)
        check_degrade(degrade)
        if not isinstance(points, str | PathLike):
            raise InputError(f"points={points}: expected torus, or the path of a file of points")
        if not isinstance(camera, Camera):
            raise InputError(f"camera={camera}: expected a stnrot.geometry.splat.Camera; leave the option out")
        axis_numbers(axes, "axes")  # raises an InputError for an unknown order
        self.source, self.axes, self.camera, self.degrade = points, axes, camera, degrade
        self.own_axis = None if own_axis is None else torch.tensor(_checked(own_axis))
        self.points = read_points(points)
        check_in_front(self.points, camera, axes)
        if self.own_axis is not None and not _may_revolve(self.points, self.own_axis):
            raise InputError(
                f"own_axis={own_axis}: expected an axis about which points={points} is a solid of revolution, or null"
            )
        self.count = {Split.TRAIN: samples, Split.VAL: samples // 10, Split.TEST: samples // 10}

    def spec(self) -> dict[str, Any]:
        """Return axes, camera and points: all that decides what an image of the solid looks like."""
        return {
            "axes": self.axes,
            "own_axis": None if self.own_axis is None else self.own_axis.tolist(),
            "camera": asdict(self.camera),
            "points": self.source,
            "points_digest": fingerprint(self.points),
        }

    def check_trained_on(self, trained: Mapping[str, Any], model: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise InputError if a model was trained on other points, about other axes or with another camera."""
        super().check_trained_on(trained, model, checkpoint)
        given = self.spec()
        for name in ("axes", "own_axis", "camera", "points_digest"):
            if trained[name] != given[name]:
                shown, hint = ("points", " (other points)") if name == "points_digest" else (name, "")
                raise InputError(
                    f"{checkpoint} was trained on poses with {shown}={trained[shown]}, "
                    f"this data has {given[shown]}{hint}: set data.{shown} as in that run"
                )

    def dataset(self, split: Split) -> Counters:
        """Return one of the three sets."""
        return Counters(self.count[split])

    def render(self, rotation: Float[Tensor, "B 3 3"], shift: Float[Tensor, "B 2"]) -> Float[Tensor, "B 1 H W"]:
        """Return clean images, moved to the right and down by shares of their sides."""
        camera, points = self.camera, self.points.to(rotation)
        moves = shift * vector((camera.width, camera.height), shift.device, shift.dtype)
        images = []
        for part, moved in zip(rotation.split(AT_ONCE), moves.split(AT_ONCE), strict=True):
            place, seen = project(points, part, camera)
            place = place + moved[:, None]
            images.append(
                splat(place, seen.to(place), camera.height, camera.width, camera.sigma, camera.saturation)[:, None]
            )
        return torch.cat(images)

    def view(self, counters: Int[Tensor, "B"], split: Split) -> Views:
        """Return what a task receives, computed on the device as a function of the counters."""
        seed = self.seed if split is Split.TRAIN else self.split_seed
        numbers = uniform((seed, split, Purpose.POSE), counters, len(self.axes))
        rotation = euler_to_matrix(uniform_angles(numbers, self.axes, self.own_axis), self.axes)
        degrading = uniform((seed, split, Purpose.DEGRADE), counters, NUMBERS)
        image = self.render(rotation, self.degrade.displacement(degrading))
        noise = None
        if self.degrade.noise:
            noise = normal((seed, split, Purpose.NOISE), counters, image[0].numel()).view_as(image)
        return Views(counters % self.count[split], self.degrade.image(image, degrading, noise), rotation)


def _may_revolve(points: Float[Tensor, "N 3"], own_axis: Float[Tensor, "3"]) -> bool:
    """Return whether the points spread about equally in all directions across an axis, as in a solid of revolution."""
    along = F.normalize(own_axis, dim=0)
    across = points - (points @ along)[:, None] * along
    _, least, most = torch.linalg.eigvalsh(across.mT @ across).tolist()
    return least >= ROUND * most


def _checked(own_axis: list[float]) -> list[float]:
    known = isinstance(own_axis, list | tuple) and len(own_axis) == 3
    known = known and all(isinstance(x, (int, float)) and abs(x) < 1e6 for x in own_axis)
    if not known or not any(own_axis):
        raise InputError(f"own_axis={own_axis}: expected three numbers, not all 0, or null")
    return [float(x) for x in own_axis]

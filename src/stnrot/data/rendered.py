"""Pictures of one solid in poses drawn at random, rendered as they are needed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.data.datamodule import DataModule
from stnrot.data.degrade import NUMBERS, Degrade
from stnrot.data.pose_sampling import uniform_angles
from stnrot.data.rng import Purpose, Split, normal, uniform
from stnrot.errors import InputError, check_number
from stnrot.geometry.euler import axis_numbers, euler_to_matrix
from stnrot.geometry.splat import Camera, project, splat
from stnrot.pose.point_clouds import check_in_front, fingerprint, read_points

ROUND = 0.6  # of the variance in one direction across the axis to that in another; sampling leaves more than 0.8
AT_ONCE = 4  # pictures: what is kept of each point on the way is then still in a CPU's cache


@dataclass(frozen=True)
class Views:
    """Pictures and the rotations that the solid was turned by. `index` is the sample's place in its set."""

    index: Int[Tensor, "B"]
    image: Float[Tensor, "B 1 H W"]
    rotation: Float[Tensor, "B 3 3"]


@dataclass(frozen=True)
class Draws:
    """A set of which there is nothing to fetch: a sample is made of its number, on the device."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, draws: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
        """Return a batch, by draws of a whole run or places in the set."""
        return draws


class RenderedPoses(DataModule):
    """Render a solid in poses as uniform as the axes allow (`uniform_angles`), and degrade the pictures.

    No pose is shown twice in training; those to validate and to test on are always the same.

    Args:
        points: torus, or a file of points.
        own_axis: the axis of a solid of revolution that looks the same when it is turned round; None for any other.
        axes: an order of `euler_to_matrix`: the solid is turned about them.
        camera: sees it.
        degrade: what becomes of the pictures; all of them, so as to be tested on what was asked for.
        samples: pictures of an epoch; a tenth as many to validate, and to test.
        batch_size: pictures a step over all processes.
        seed: of poses and degradation in training, with the epoch.
        split_seed: of those to validate and to test on.
    """

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
        check_number("data.samples", samples, 10)
        axis_numbers(axes)
        self.source, self.axes, self.camera, self.degrade = points, axes, camera, degrade
        self.own_axis = None if own_axis is None else torch.tensor(_checked(own_axis))
        self.points = read_points(points)
        check_in_front(self.points, camera, axes)
        if self.own_axis is not None and not _may_revolve(self.points, self.own_axis):
            raise InputError(
                f"data.points={points} is no solid of revolution about data.own_axis={self.own_axis.tolist()}: "
                "expected its axis, or data.own_axis=null"
            )
        self.count = {Split.TRAIN: samples, Split.VAL: samples // 10, Split.TEST: samples // 10}

    def spec(self) -> dict[str, Any]:
        """Return what a model must know of the data, and what tells a picture of it from others."""
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
                    f"this data has {given[shown]}{hint}"
                )

    def dataset(self, split: Split) -> Draws:
        """Return one of the three sets."""
        return Draws(self.count[split])

    def draw(self, rotation: Float[Tensor, "B 3 3"], shift: Float[Tensor, "B 2"]) -> Float[Tensor, "B 1 H W"]:
        """Return clean pictures, moved to the right and down by shares of their sides."""
        camera, points = self.camera, self.points.to(rotation)
        size = rotation.new_tensor([camera.width, camera.height])
        pictures = []
        for turn, moved in zip(rotation.split(AT_ONCE), (shift * size).split(AT_ONCE), strict=True):
            place, seen = project(points, turn, camera)
            place = place + moved[:, None]
            pictures.append(
                splat(place, seen.to(place), camera.height, camera.width, camera.sigma, camera.saturation)[:, None]
            )
        return torch.cat(pictures)

    def view(self, draws: Int[Tensor, "B"], split: Split) -> Views:
        """Make what a model sees, on the device, as a function of the draws."""
        seed = self.seed if split is Split.TRAIN else self.split_seed
        numbers = uniform((seed, split, Purpose.POSE), draws, len(self.axes))
        rotation = euler_to_matrix(uniform_angles(numbers, self.axes, self.own_axis), self.axes)
        degrading = uniform((seed, split, Purpose.DEGRADE), draws, NUMBERS)
        image = self.draw(rotation, self.degrade.displacement(degrading))
        noise = None
        if self.degrade.noise:
            noise = normal((seed, split, Purpose.NOISE), draws, image[0].numel()).view_as(image)
        return Views(draws % self.count[split], self.degrade.image(image, degrading, noise), rotation)


def _may_revolve(points: Float[Tensor, "N 3"], own_axis: Float[Tensor, "3"]) -> bool:
    """Say whether points lie about as wide in all directions across an axis, as they do if it is one of revolution."""
    along = F.normalize(own_axis, dim=0)
    across = points - (points @ along)[:, None] * along
    _, least, most = torch.linalg.eigvalsh(across.mT @ across).tolist()
    return least >= ROUND * most


def _checked(own_axis: list[float]) -> list[float]:
    known = len(own_axis) == 3 and all(isinstance(x, (int, float)) and abs(x) < 1e6 for x in own_axis)
    if not known or not any(own_axis):
        raise InputError(f"data.own_axis={own_axis}: expected three numbers, not all 0, or null")
    return [float(x) for x in own_axis]

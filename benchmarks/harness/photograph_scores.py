"""The scores of the photographs benchmark: every method reads the same test pictures, in the disc."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.photograph_methods import BATCH, NETWORK, WRONG_DEG, Angles, Method
from harness.timing import alternate
from stnrot.data.image_data import as_float
from stnrot.data.image_set import ImageSet
from stnrot.data.leak_views import LeakView, leak_columns, leak_views, worst_view
from stnrot.data.rng import Purpose, Split, bits
from stnrot.data.rotated import RotatedImages
from stnrot.geometry import inscribed_disc, rotate_bicubic, wrap

TIMED = 100  # pictures in a call
Scores = dict[str, float | None]


class Pictures(NamedTuple):
    """A batch of test pictures: upright, rotated in the five ways of the leak check, and their classes."""

    upright: Float[Tensor, "B C H W"]
    views: list[LeakView]
    label: Int[Tensor, "B"]


@dataclass(frozen=True)
class TestPictures:
    """The test pictures, evenly spaced in the set, at the angles that `evaluate.py` gives them."""

    data: RotatedImages
    count: int
    device: str

    @property
    def index(self) -> Int[Tensor, "N"]:
        """The places of the pictures in the set."""
        whole = len(self.data.splits.test)
        return torch.arange(0, whole, max(1, whole // self.count))

    def batches(self) -> Iterator[Pictures]:
        """Yield the pictures; outside the disc all are black."""
        for index in self.index.split(BATCH):
            image, label = self.upright(index)
            turns = bits((self.data.split_seed, Split.TEST, Purpose.QUARTER_TURNS), index, 1)[:, 0] % 4
            rotation = self.data.rotation_of(index, Split.TEST).to(self.device)
            views = leak_views(image, rotation, turns.to(self.device))
            hidden = [view._replace(image=self.data.hide_corners(view.image)) for view in views]
            yield Pictures(self.data.hide_corners(image), hidden, label)

    def upright(self, index: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B C H W"], Int[Tensor, "B"]]:
        """Return upright pictures with their corners, and their classes."""
        test = self.data.splits.test
        assert isinstance(test, ImageSet)
        assert test.label is not None
        return as_float(test.image[index].to(self.device)), test.label[index].to(self.device)


@torch.inference_mode()
def scores(methods: Mapping[str, Method], pictures: TestPictures) -> dict[str, Scores]:
    """Return for each method the accuracy, the errors of the angle, and how it treats upright pictures."""
    right = {name: [0, 0] for name in methods}
    errors: dict[str, list[list[Tensor]]] = {name: [] for name in methods}
    found: dict[str, list[Angles]] = {name: [] for name in methods}
    for batch in pictures.batches():
        turned = batch.views[0]
        still = torch.zeros_like(turned.angle)
        for name, method in methods.items():
            for k, (image, angle) in enumerate(((batch.upright, still), (turned.image, turned.angle))):
                right[name][k] += int((method.read(image, angle).argmax(1) == batch.label).sum())
            if method.find is not None:
                found[name].append(method.find(batch.upright))
                off = [wrap(method.find(view.image)[0] - view.angle).rad2deg() for view in batch.views]
                errors[name].append(off)
    count = len(pictures.index)
    upright, any_angle = ({name: 100 * each[k] / count for name, each in right.items()} for k in (0, 1))
    return {
        name: {
            "upright": upright[name],
            "any angle": any_angle[name],
            "below the network": upright[NETWORK] - any_angle[name],
            **_angle_scores(errors[name], found[name]),
            "min_confidence": method.min_confidence,
            "parameters": method.parameters,
            "core-minutes": method.core_minutes,
        }
        for name, method in methods.items()
    }


def _angle_scores(errors: list[list[Tensor]], upright: list[Angles]) -> Scores:
    if not errors:
        return dict.fromkeys(("within 45", "within 5", "median", "turned wrongly", "left"))
    worst = worst_view(leak_columns([torch.cat(view) for view in zip(*errors, strict=True)]))
    angle, stays = (torch.cat(each) for each in zip(*upright, strict=True))
    wrong = wrap(angle).abs().rad2deg() > WRONG_DEG
    return {
        "within 45": 100 * worst["within_45deg"],
        "within 5": 100 * worst["within_5deg"],
        "median": worst["median_deg"],
        "turned wrongly": 100 * float(wrong.float().mean()),
        "left": 100 * float(stays.float().mean()),
    }


@torch.inference_mode()
def by_angle(methods: Mapping[str, Method], pictures: TestPictures, step_deg: int) -> dict[str, list[float]]:
    """Return the accuracy in percent of each method at each angle of the input."""
    curves: dict[str, list[float]] = {name: [] for name in methods}
    for degrees in range(0, 360, step_deg):
        right = dict.fromkeys(methods, 0)
        for index in pictures.index.split(BATCH):
            upright, label = pictures.upright(index)
            rotation = torch.full((len(index),), math.radians(degrees), device=pictures.device)
            image = pictures.data.hide_corners(rotate_bicubic(upright, rotation))
            for name, method in methods.items():
                right[name] += int((method.read(image, -rotation).argmax(1) == label).sum())
        for name, count in right.items():
            curves[name].append(100 * count / len(pictures.index))
    return curves


@torch.inference_mode()
def milliseconds(methods: Mapping[str, Method], pictures: TestPictures, rounds: int) -> dict[str, float]:
    """Return the milliseconds that each method takes to read a picture, in batches of 100."""
    device, size = pictures.device, pictures.data.splits.test.shape
    image = torch.rand(TIMED, *size, device=device) * inscribed_disc(size[1:], torch.device(device))
    angle = torch.rand(TIMED, device=device)
    calls = {name: partial(method.read, image, angle) for name, method in methods.items()}
    times = alternate(calls, rounds, 1, 1, device)
    return {name: 1e3 * median(each) / TIMED for name, each in times.items()}

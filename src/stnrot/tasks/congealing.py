"""Angles for training images whose angles are not known: the first epochs teach those that congealing finds."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import Metric

from stnrot.data.image_data import ImageData
from stnrot.data.image_set import balanced_order
from stnrot.data.rng import Purpose, Split
from stnrot.geometry.congealing import congeal, rotation_onto
from stnrot.geometry.correlation import correlate
from stnrot.geometry.resampling import shrink

MOST_IMAGES = 3000  # of the training set that are congealed
LARGEST_SIDE = 32  # of these images, in pixels; larger ones are shrunk
AT_ONCE = 500  # images that are fetched together


class Confusion(Metric):
    """Count the samples of each class (row) by the class that is found."""

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum", persistent=True)  # a resumed run goes on

    def update(self, log_probability: Float[Tensor, "B K"], label: Int[Tensor, "B"]) -> None:
        """Add a batch."""
        self.counts.index_put_((label, log_probability.argmax(1)), torch.ones_like(label), accumulate=True)

    def compute(self) -> Int[Tensor, "K K"]:
        """Return the counts."""
        return self.counts


class Congealing(nn.Module):
    """The mean images of the classes, aligned with one another (`congeal`), and which of them are turned upside down.

    The upright is that of the means. An image is taught the angle at which it correlates most with the mean of its
    class. Two classes may lie on each other, one of them upside down, as 6 and 9 do, and are then hard to tell apart.
    Before the last epoch one class of the pair that the model confuses most often is turned by half a turn. It is the
    class that is less like all others in the common upright, and more like them upside down. If the pair is alike for
    another reason, the model turns the class back later.

    Args:
        epochs: how long these angles are taught. In the last epoch their weight falls to zero: from then on the model
            finds the angles by itself.
        classes: number of classes.
    """

    half_turn: Tensor

    def __init__(self, epochs: int, classes: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.means: Float[Tensor, "K C H W"] | None = None
        self.register_buffer("half_turn", torch.zeros(classes, dtype=torch.bool))
        self.confusion = Confusion(classes)

    def share(self, progress: float) -> float:
        """Return the weight of these angles after so many epochs, in [0, 1]."""
        return min(max(self.epochs - progress, 0.0), 1.0)

    def find(self, data: ImageData, device: torch.device) -> None:
        """Congeal images of the training set, of all classes equally many."""
        train = data.dataset(Split.TRAIN)
        assert train.label is not None
        chosen = balanced_order(train.label, (data.split_seed, Purpose.CONGEALED))[:MOST_IMAGES]
        images, labels = [], []
        for index in chosen.split(AT_ONCE):
            raw = data.transfer_batch_to_device(train.__getitems__(index), device, 0)
            image = data.view(raw, Split.TRAIN).image
            scale = min(LARGEST_SIDE / min(image.shape[-2:]), 1)
            height, width = (max(round(scale * side), 1) for side in image.shape[-2:])
            images.append(shrink(image, height, width))
            labels.append(raw.label)
        self.means = congeal(torch.cat(images), torch.cat(labels), len(self.half_turn))

    def angle(self, image: Float[Tensor, "B C H W"], label: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return the angles (radians) that turn images upright."""
        assert self.means is not None
        return rotation_onto(image, self.means[label]) + math.pi * self.half_turn[label]

    def count(self, log_probability: Float[Tensor, "B K"], label: Int[Tensor, "B"], progress: float) -> None:
        """Count which classes are confused, in the half epoch before the last epoch of congealing."""
        if 0.5 <= progress - (self.epochs - 2) < 1:
            self.confusion.update(log_probability, label)

    def separate(self) -> None:
        """Turn one of the two classes that were confused most often, if any were, by half a turn."""
        with self.confusion.sync_context():  # `compute` would warn in a run that has resumed after the last count
            both = (self.confusion.counts + self.confusion.counts.T).triu(1)
        self.confusion.reset()
        if both.any():
            pair = divmod(int(both.argmax()), len(both))
            self.half_turn[min(pair, key=lambda each: self._attachment(each, pair))] ^= True

    def _attachment(self, one: int, pair: tuple[int, int]) -> float:
        """Return how much more the mean of a class correlates with those of all others as it is than upside down."""
        assert self.means is not None
        turned = self.half_turn[:, None, None, None]
        means = torch.where(turned, self.means.rot90(2, (2, 3)), self.means)
        others = [each for each in range(len(means)) if each not in pair]
        both_ways = torch.tensor([0.0, math.pi], device=means.device).expand(len(others), 2)
        value, _, _ = correlate(means[others], means[one, None]).value_and_derivatives(both_ways)
        return float((value[:, 0] - value[:, 1]).sum())

"""Angles for training images whose angles are not known: the first epochs teach those that congealing finds."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from stnrot.alignment.pairs import shrink_square
from stnrot.data.datamodule import ShardedDataset
from stnrot.data.image_data import ImageData
from stnrot.data.image_set import balanced_order
from stnrot.data.rng import Purpose, Split
from stnrot.errors import InputError
from stnrot.geometry.congealing import congeal, rotation_onto
from stnrot.geometry.correlation import correlate

MOST_IMAGES = 3000  # of the training set that are congealed
LARGEST_SIDE = 32  # of images that are aligned, in pixels; larger ones are shrunk
LEAST_CONFUSED = 0.01  # share of the samples of two classes; if fewer are confused, neither class is turned


class Confusion(Metric):
    """Count the samples of each class (row) by the class that is found."""

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        self.add_state("counts", default=counts, dist_reduce_fx="sum")

    def update(self, log_probability: Float[Tensor, "B K"], label: Int[Tensor, "B"]) -> None:
        """Add a batch."""
        self.counts.index_put_((label, log_probability.argmax(1)), torch.ones_like(label), accumulate=True)

    def compute(self) -> Int[Tensor, "K K"]:
        """Return the counts."""
        return self.counts


class Congealing:
    """The angles that images get from the mean images of their classes.

    The means are aligned with one another (`congeal`), and their upright is taught. An image gets the angle at which it
    correlates most with the mean of its class.

    Two classes may lie on each other, one of them upside down, as 6 and 9 do, and are then hard to tell apart. So
    `separate` turns one class of the pair that the model confuses most often. It is the class that is less like all
    others as it is, and more like them upside down. If the pair is alike for another reason, the model turns the class
    back later.

    Args:
        epochs: how long these angles are taught. In the last epoch their weight falls to zero: from then on the model
            finds the angles by itself.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.means: Float[Tensor, "K C H W"] | None = None

    def share(self, progress: float) -> float:
        """Return the weight of these angles after so many epochs, in [0, 1]."""
        return min(max(self.epochs - progress, 0.0), 1.0)

    def counts(self, progress: float) -> bool:
        """Return whether confusions count after so many epochs: in the half epoch before the last epoch."""
        return 0.5 <= progress - (self.epochs - 2) < 1

    def find(self, data: ImageData, device: torch.device) -> None:
        """Congeal images of the training set, of all classes equally many if the set is not in shards.

        Raises:
            InputError: if there is no image of a class among them.
        """
        train, key = data.dataset(Split.TRAIN), (data.split_seed, Purpose.CONGEALED)
        assert train.label is not None
        # of a set in shards, a random order would fetch all shards
        order = train.order(key, len(train)) if isinstance(train, ShardedDataset) else balanced_order(train.label, key)
        chosen = order[:MOST_IMAGES]
        absent = set(train.label.unique().tolist()) - set(train.label[chosen].tolist())
        if absent:
            raise InputError(
                f"task.congeal_epochs={self.epochs}: expected images of every class among the {MOST_IMAGES:,} that are "
                f"congealed, found none of {len(absent)} classes; set task.congeal_epochs=0 task.angle_weight=0"
            )
        images, labels = [], []
        for index in chosen.split(data.batch_size):
            raw = data.transfer_batch_to_device(train.__getitems__(index), device, 0)
            images.append(_small(data.view(raw, Split.TRAIN).image))
            labels.append(raw.label)
        self.means = congeal(torch.cat(images), torch.cat(labels), data.spec()["classes"])

    def angle(self, image: Float[Tensor, "B C H W"], label: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return the angles (radians) that rotate images onto the means of their classes."""
        assert self.means is not None
        return rotation_onto(_small(image), self.means[label])[0]

    def separate(self, confused: Int[Tensor, "K K"]) -> None:
        """Turn one of the two classes that are confused most often by half a turn, if that is often enough.

        Args:
            confused: counts of the samples by their class and the class that is found.
        """
        assert self.means is not None
        both = (confused + confused.T).triu(1)
        pair = divmod(int(both.argmax()), len(both))
        if both.max() > LEAST_CONFUSED * confused[list(pair)].sum():
            turned = min(pair, key=lambda each: self._attachment(each, pair))
            self.means[turned] = self.means[turned].rot90(2, (1, 2))

    def _attachment(self, one: int, pair: tuple[int, int]) -> float:
        """Return how much more the mean of a class correlates with those of all others as it is than upside down."""
        assert self.means is not None
        others = [each for each in range(len(self.means)) if each not in pair]
        both_ways = torch.tensor([0.0, math.pi], device=self.means.device).expand(len(others), 2)
        value, _, _ = correlate(self.means[others], self.means[one, None]).value_and_derivatives(both_ways)
        return float((value[:, 0] - value[:, 1]).sum())


def _small(image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    return shrink_square(image, min(*image.shape[-2:], LARGEST_SIDE))

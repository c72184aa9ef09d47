"""The share of the samples whose class is found, over an epoch and all processes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


class Accuracy(Metric):
    """Compute the share of the samples whose class is the most probable one.

    `torchmetrics.classification` has this metric too, but its import brings scipy.signal and torchvision along.
    """

    full_state_update = False
    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, log_probability: Float[Tensor, "B K"], label: Int[Tensor, "B"]) -> None:
        """Add a batch."""
        self.correct = self.correct + (log_probability.argmax(1) == label).sum()
        self.count = self.count + len(label)

    def compute(self) -> Tensor:
        """Return the share."""
        return self.correct / self.count

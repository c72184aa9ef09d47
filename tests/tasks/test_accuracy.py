"""The share of correct classes, against torchmetrics."""

import torch
from torchmetrics.classification import MulticlassAccuracy

from stnrot.tasks.accuracy import Accuracy


def test_accuracy_is_that_of_torchmetrics() -> None:
    found, expected = Accuracy(), MulticlassAccuracy(7, average="micro")
    for size in (5, 1, 128, 3):
        log_probability, label = torch.randn(size, 7).log_softmax(1), torch.randint(7, (size,))
        found.update(log_probability, label)
        expected.update(log_probability, label)
    assert found.compute().equal(expected.compute())
    found.reset()
    found.update(torch.eye(7), torch.arange(7))
    assert found.compute() == 1
    assert not found.state_dict(), "checkpoints have no entry of a metric"

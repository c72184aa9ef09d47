import os
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from stnrot.data.sources.mnist import mnist, mnist_pooled
from stnrot.errors import InputError


@pytest.mark.parametrize("source", [partial(each, fit_validation=False) for each in (mnist, mnist_pooled)])
def test_missing_without_a_network_names_the_way_out(source, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(InputError, match=r"data\.root=.*could not be downloaded.*data=rotated_digits"):
        source(tmp_path / "nothing", 0)


@pytest.mark.slow
def test_protocols_on_the_real_set() -> None:
    root = Path(os.environ["STNROT_MNIST"])
    official = MNIST(str(root), train=False)
    splits = mnist(root, 0, fit_validation=False)
    assert [len(p) for p in (splits.train, splits.val, splits.test)] == [55_000, 5_000, 10_000]
    assert torch.equal(splits.test.image[:, 0], official.data)
    assert torch.equal(splits.test.label, official.targets)

    seen = [bytes(p) for part in (splits.train, splits.val) for p in part.image.flatten(1).numpy()]
    whole = mnist(root, 0, fit_validation=True)
    assert sorted(seen) == sorted(bytes(p) for p in whole.train.image.flatten(1).numpy())
    assert sorted(seen) == sorted(bytes(p) for p in MNIST(str(root), train=True).data.flatten(1).numpy())

    pooled = mnist_pooled(root, 0, fit_validation=False)
    parts = (pooled.train, pooled.val, pooled.test)
    assert [len(p) for p in parts] == [10_000, 2_000, 50_000]
    seen = [bytes(p) for part in parts for p in part.image.flatten(1).numpy()]
    assert len(set(seen)) > 61_990  # the 70,000 hold a few identical images

    whole = mnist_pooled(root, 0, fit_validation=True)
    assert torch.equal(whole.train.image, torch.cat((pooled.train.image, pooled.val.image)))
    assert torch.equal(whole.test.image, pooled.test.image)

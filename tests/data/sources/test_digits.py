"""The digits of scikit-learn, against its own reader."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torchvision.datasets.folder import IMG_EXTENSIONS as TORCHVISION

from stnrot.data.sources import digits
from stnrot.data.sources.folder_tree import IMG_EXTENSIONS


@pytest.mark.parametrize("known", [True, False])
def test_the_table_is_that_of_scikit_learn(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another release keeps the file elsewhere."""
    if not known:
        monkeypatch.setattr(digits, "find_spec", lambda name: None)
    expected = load_digits()
    assert np.array_equal(digits._table(), np.column_stack((expected.data, expected.target)))


def test_image_files_are_those_of_torchvision() -> None:
    assert IMG_EXTENSIONS == TORCHVISION

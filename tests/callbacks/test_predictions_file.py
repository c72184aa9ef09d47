"""The table of predictions, of a set that is as large as those of users."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import rows

from stnrot.callbacks.prediction_collector import PredictionRows
from stnrot.callbacks.predictions_file import PredictionsFile
from stnrot.data.image_set import Splits
from stnrot.data.sources.decoding import Decoding
from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.files import FileSet

COUNT = 20_000


class CountedNames(FileNames):
    """Names that count how often one is made."""

    made = 0

    def __getitem__(self, index):
        CountedNames.made += 1
        return super().__getitem__(index)


@pytest.mark.usefixtures("unchecked")  # the checks of annotations make names, too
def test_each_name_of_a_streamed_set_is_made_once(tmp_path: Path) -> None:
    decoding = Decoding(
        image_size=(32, 32), fit="crop", channels=1, max_pixels=100, on_bad_image="error", memory_gb=None
    )
    test = FileSet((CountedNames.of(f"{k}.png" for k in range(COUNT)),), decoding, torch.arange(COUNT) % 2)
    order = np.random.default_rng(0).permutation(COUNT)
    found = PredictionRows(order, order % 2, order % 2, np.ones(COUNT), None, None)
    splits = Splits(test, test, test, ("even", "odd"))
    trainer = SimpleNamespace(datamodule=SimpleNamespace(splits=splits))
    task = SimpleNamespace(angle_error=SimpleNamespace(relative=False))
    PredictionsFile(str(tmp_path)).finish(trainer, task, "test", found, [])
    assert CountedNames.made == COUNT
    table = rows(tmp_path / "predictions.csv")
    assert [row["file"] for row in table] == [f"{k}.png" for k in order]

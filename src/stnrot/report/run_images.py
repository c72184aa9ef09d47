"""The images of the test set of a run, built again from its configuration."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from stnrot.data.batch import Batch
from stnrot.data.image_data import ImageData
from stnrot.data.image_set import balanced_order
from stnrot.data.rng import Purpose, Split, permutation
from stnrot.errors import InputError, reason_of
from stnrot.report.predictions import Predictions
from stnrot.report.run_folder import Run
from stnrot.runs.allowed_targets import check_targets
from stnrot.runs.command_line import input_error
from stnrot.runs.config_checks import is_url

log = logging.getLogger(__name__)
ASK = "test it with evaluate.py trust={0}, which draws figures"
CLOSE = 0.01  # degrees, between the angles of the predictions and of the data; predictions.csv has four decimals


class RunImages:
    """The test set of a run.

    Args:
        data: the datamodule of the run.
    """

    def __init__(self, data: ImageData) -> None:
        self.data = data
        data.setup("test")

    @classmethod
    def open(cls, run: Run) -> "RunImages":
        """Build the data of a run, which may name only classes of stnrot.

        Raises:
            InputError: if the data cannot be read again.
        """
        config = dict(run.part("data"))
        if not config:
            raise InputError(
                "the configuration is not recorded, which this version of evaluate.py does; evaluate again"
            )
        if isinstance(root := config.get("root"), str):
            if is_url(root):
                raise InputError(f"data.root={root} is on a web server, which a report does not read")
            here = Path(root).expanduser()
            config["root"] = str(here if here.is_absolute() else run.started_in / here)
            if not Path(config["root"]).exists():  # before a source downloads it
                raise InputError(f"data.root={config['root']} does not exist")
        if isinstance(source := config.get("source"), dict) and "memory_gb" in source:
            config["source"] = source | {"memory_gb": 0}  # only the images that are shown are decoded
        check_targets(config, "data", (), ASK)
        try:
            data = instantiate(OmegaConf.create(config), _convert_="all")
            if not isinstance(data, ImageData):
                raise InputError(f"{type(data).__name__} has no images")
            return cls(data)
        except InstantiationException as error:
            raise InputError(input_error(error) or reason_of(error.__cause__ or error)) from error
        except OSError as error:
            raise InputError(reason_of(error)) from error

    def batch(self, found: Predictions, rows: Sequence[int]) -> Batch:
        """Return the images of some rows of the predictions, in their order, as the model has seen them.

        Raises:
            InputError: if an image cannot be read, or the data differ from those of the predictions.
        """
        index = torch.from_numpy(found.index[list(rows)])
        test = self.data.splits.test
        if len(index) and int(index.max()) >= len(test):
            raise InputError("the data of the run have changed since its test")
        batch = self.data.view(test.__getitems__(index), Split.TEST)
        if not torch.equal(batch.index, index):
            raise InputError("an image cannot be read any more")
        if batch.label is not None and found.true is not None:
            classes = self.data.splits.classes
            if [classes[k] for k in batch.label.tolist()] != [found.true[row] for row in rows]:
                raise InputError("the data of the run have changed since its test")
        if batch.angle is not None and found.angle_deg is not None:
            away = np.degrees(batch.angle.numpy()) - found.angle_deg[list(rows)]
            if (np.abs((away + 180) % 360 - 180) > CLOSE).any():
                raise InputError("the data of the run have changed since its test")
        return batch

    def sample(self, found: Predictions, count: int) -> list[int]:
        """Return rows of the predictions: the fixed sample, balanced over the classes, of the figures of the run."""
        test = self.data.splits.test
        key = (self.data.split_seed, Purpose.SHOWN)
        order = permutation(key, len(test)) if test.label is None else balanced_order(test.label, key)
        row_of = {index: row for row, index in enumerate(found.index.tolist())}
        return [row_of[index] for index in order.tolist() if index in row_of][:count]

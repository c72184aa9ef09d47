"""Check that a model finds the upright by the picture, not by the traces of sampling or compression."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from stnrot.callbacks.prediction_collector import gathered
from stnrot.data.batch import Batch
from stnrot.data.image_data import as_float
from stnrot.data.leak_views import leak_columns, leak_views, worst_view
from stnrot.data.rng import Purpose, Split, bits
from stnrot.data.rotated import RotatedImages
from stnrot.errors import InputError
from stnrot.geometry import wrap
from stnrot.runs.tables.columns import print_table, write_table
from stnrot.tasks.register import Register


class LeakCheck(L.Callback):
    """Test a model on the five views of `leak_views`, print a table, and write it to `leak.csv` in `folder`.

    Each row has the share of images whose angle is within 45 and within 5 degrees, the median error, and the share
    within 5 degrees modulo 90. A model that reads traces is exact modulo 90 degrees and fails on the views without
    these traces. So the smallest share and the largest median of the five views are logged, as metrics of the test:
    `leak_within_45deg`, `leak_within_5deg` and `leak_median_deg`.

    Raises:
        InputError: if the data have no known upright or the model does not find it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._errors: dict[str, list[Tensor]] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Check that model and data fit."""
        data, task = trainer.datamodule, pl_module
        stored = False
        if isinstance(data, RotatedImages):
            data.setup()
            stored = data.splits.turned
        if not isinstance(data, RotatedImages) or stored or data.max_angle_deg != 180:
            got = getattr(data, "max_angle_deg", None)
            shown = type(data).__name__ if got is None else f"data.max_angle_deg={got}"
            shown = "images that are stored rotated" if stored else shown
            raise InputError(
                "the leak check rotates upright images by any angle: expected data such as data=image_folder or "
                f"data=cifar10 with data.max_angle_deg=180, got {shown}"
            )
        if not isinstance(task, Register) or not task.model.learns_angle:
            raise InputError(
                "the leak check needs a model that finds the upright: expected a run of model=rot_stn, got "
                f"{type(task.model).__name__}"
            )
        if task.angle_error.relative:
            raise InputError(
                "the leak check compares with the true upright: expected a run that was trained with known angles, got "
                "one with task.angle_weight=0 or task.congeal_epochs, which has an upright of its own"
            )

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, *args: Any, **kwargs: Any
    ) -> None:
        """Predict for the five views of a batch."""
        data: RotatedImages = trainer.datamodule
        raw = data.splits.test.__getitems__(batch.index.cpu())
        image = as_float(raw.image.to(batch.image.device))
        index = raw.counter.to(image.device)
        quarters = bits((data.split_seed, Split.TEST, Purpose.QUARTER_TURNS), index, 1)[:, 0] % 4
        for name, shown, angle in leak_views(image, data.rotation_of(index, Split.TEST), quarters):
            view = Batch(index, data.hide_corners(shown), None, angle, None)
            with trainer.precision_plugin.test_step_context():
                found = pl_module(view).orientation
            self._errors.setdefault(name, []).append(wrap(found.angle[:, 0].float() - angle).rad2deg().cpu())

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Print and write the table, and log the worst values of the five views."""
        shares = gathered(self._errors)
        self._errors = {}
        errors = [torch.cat([each for share in shares for each in share[name]]) for name in shares[0]]
        columns = leak_columns(errors)
        pl_module.log_dict({f"test/leak_{name}": value for name, value in worst_view(columns).items()})
        if trainer.is_global_zero:
            names = list(shares[0])
            cells = {name: [f"{value:.3f}" for value in column] for name, column in columns.items()}
            print_table(f"leak check, {len(errors[0])} images", {"view": names} | cells, keys=1)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_table(self.folder / "leak.csv", {"view": names} | columns)

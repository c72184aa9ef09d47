"""Write the predictions of the test set to predictions.csv, one row a sample."""

from pathlib import Path
from typing import Any

import numpy as np

from stnrot.callbacks.prediction_collector import PredictionCollector, PredictionRows
from stnrot.runs.tables.columns import write_table


class PredictionsFile(PredictionCollector):
    """Write `predictions.csv` into `folder` at the end of the test.

    Angles are in degrees in [-180, 180); classes have their names. A column without values is left out. If the model
    was trained without known angles, the error has its circular mean subtracted (`angle_error_less_mean_deg`).
    """

    parts = ("test",)

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def finish(self, trainer: Any, task: Any, part: str, rows: PredictionRows, shown: list[Any]) -> None:
        """Write the table."""
        splits, relative = trainer.datamodule.splits, task.angle_error.relative
        columns: dict[str, Any] = {"index": rows.index}
        names = splits.test.names
        if names is not None:
            columns["file"] = [names[i] for i in rows.index]
        for name, column in (("class", rows.label), ("predicted_class", rows.predicted)):
            if column is not None and splits.classes:
                columns[name] = [splits.classes[i] for i in column]
        if rows.confidence is not None:
            columns["confidence"] = [f"{value:.6f}" for value in rows.confidence]
        for name, radians in (("angle_deg", rows.angle), ("predicted_angle_deg", rows.predicted_angle)):
            if radians is not None:
                columns[name] = [f"{value:.4f}" for value in (np.degrees(radians) + 180) % 360 - 180]
        error = rows.error(relative)
        if error is not None:
            name = "angle_error_less_mean_deg" if relative else "angle_error_deg"
            columns[name] = [f"{value:.4f}" for value in error]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_table(self.folder / "predictions.csv", columns)

"""The test in a file: a row a sample in predictions.csv."""

from pathlib import Path
from typing import Any

import numpy as np

from stnrot.callbacks.prediction_collector import PredictionCollector, Rows
from stnrot.runs.tables import write_table


class PredictionsFile(PredictionCollector):
    """Write into `folder` when the test ends."""

    parts = ("test",)

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def finish(self, trainer: Any, task: Any, part: str, rows: Rows) -> None:
        """Write the table; angles in degrees, classes by name. Relative errors are less their circular mean."""
        splits = trainer.datamodule.splits
        error = rows.error(task.angle_error.relative)
        columns: dict[str, Any] = {"index": rows.index}
        if splits.test.names is not None:
            columns["file"] = [splits.test.names[i] for i in rows.index]
        for name, column in (("class", rows.label), ("predicted_class", rows.predicted)):
            if column is not None and splits.classes:
                columns[name] = [splits.classes[i] for i in column]
        if rows.confidence is not None:
            columns["confidence"] = [f"{value:.6f}" for value in rows.confidence]
        for name, radians in (("angle_deg", rows.angle), ("predicted_angle_deg", rows.predicted_angle)):
            if radians is not None:
                columns[name] = [f"{value:.4f}" for value in (np.degrees(radians) + 180) % 360 - 180]
        if error is not None:
            name = "angle_error_less_mean_deg" if task.angle_error.relative else "angle_error_deg"
            columns[name] = [f"{value:.4f}" for value in error]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_table(self.folder / "predictions.csv", columns)

"""The predictions of a test, read from predictions.csv."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from stnrot.errors import reason_of
from stnrot.regular_file import check_regular
from stnrot.report.run_folder import Run

Numbers: TypeAlias = Float[np.ndarray, "N"]
ERROR, RELATIVE = "angle_error_deg", "angle_error_less_mean_deg"
NUMBERS = ("confidence", "angle_deg", "predicted_angle_deg", ERROR, RELATIVE)


@dataclass(frozen=True)
class Predictions:
    """One row a sample. What the model does not predict, or the data do not have, is None.

    Args:
        index: place of the sample in the test set.
        file: path of the image.
        true: true class.
        predicted: predicted class.
        confidence: probability of the predicted class.
        angle_deg: true angle in degrees.
        predicted_angle_deg: predicted angle in degrees.
        error_deg: signed error of the angle in degrees.
        relative: whether the circular mean of the errors has been subtracted.
    """

    index: Int[np.ndarray, "N"]
    file: Sequence[str] | None
    true: Sequence[str] | None
    predicted: Sequence[str] | None
    confidence: Numbers | None
    angle_deg: Numbers | None
    predicted_angle_deg: Numbers | None
    error_deg: Numbers | None
    relative: bool

    @property
    def right(self) -> Bool[np.ndarray, "N"] | None:
        """Whether the predicted class is the true class."""
        if self.true is None or self.predicted is None:
            return None
        return np.array([true == predicted for true, predicted in zip(self.true, self.predicted, strict=True)])

    @property
    def rotation_deg(self) -> Numbers | None:
        """The rotation of each input: the negative of its angle, which undoes it."""
        return None if self.angle_deg is None else -self.angle_deg


def read_predictions(run: Run) -> Predictions | str:
    """Read predictions.csv, or return the reason why it cannot be read."""
    path = run.folder / "predictions.csv"
    if not path.is_file():
        return "there is no predictions.csv"
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet writes a byte order mark
            rows = list(csv.DictReader(file))
        if not rows:
            return "predictions.csv has no rows"
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has more or fewer cells than the header")
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        if "index" not in columns:
            raise ValueError("expected a column index")
        numbers = {name: np.array(columns[name], np.float64) for name in NUMBERS if name in columns}
        if not all(np.isfinite(each).all() for each in numbers.values()):
            raise ValueError("a number is NaN or infinite")
        index = np.array(columns["index"], np.int64)
        if (index < 0).any():
            raise ValueError("an index is negative")
    except (OSError, ValueError, TypeError, OverflowError, csv.Error) as problem:
        return f"predictions.csv cannot be read: {reason_of(problem)}"
    return Predictions(
        index=index,
        file=columns.get("file"),
        true=columns.get("class"),
        predicted=columns.get("predicted_class"),
        confidence=numbers.get("confidence"),
        angle_deg=numbers.get("angle_deg"),
        predicted_angle_deg=numbers.get("predicted_angle_deg"),
        error_deg=numbers.get(ERROR, numbers.get(RELATIVE)),
        relative=RELATIVE in numbers,
    )

"""What a metric is called, its unit, and whether more of it is better."""

import math
import re
from dataclasses import dataclass

WORDS = {
    "nll": "negative log-likelihood of the class",
    "loss": "loss",
    "angle_loss": "loss of the angle",
    "accuracy": "accuracy",
    "defect": "largest entry of |R^T R - I|",
}
STATISTICS = {"mean": "mean", "median": "median", "p95": "95th percentile", "max": "largest"}
SUBJECTS = {
    "angle": "angle error",
    "angle_dispersion": "angle error less its circular mean",
    "axes": "error of the axes",
    "leak": "worst view of the leak check: angle error",
}
PARTS = {"val": "validation", "test": "test", "train": "training"}


@dataclass(frozen=True)
class Metric:
    """A metric by its name in metrics.json, such as test/angle_median_deg."""

    name: str

    @property
    def part(self) -> str:
        """The set that was measured: train, val or test."""
        return self.name.partition("/")[0]

    @property
    def short(self) -> str:
        """The name without the set."""
        return self.name.partition("/")[2]

    @property
    def label(self) -> str:
        """Words for the metric, without its unit."""
        if within := re.fullmatch(r"(\w+)_within_(\d+)deg", self.short):
            return f"{SUBJECTS.get(within[1], within[1])}, share within {within[2]}\N{DEGREE SIGN}"
        if angle := re.fullmatch(r"(\w+)_(mean|median|p95|max)_deg", self.short):
            return f"{SUBJECTS.get(angle[1], angle[1])}, {STATISTICS[angle[2]]}"
        return WORDS.get(self.short, self.short.replace("_", " "))

    @property
    def unit(self) -> str:
        """The unit, with which `text` writes a value: percent, degrees, nats or none."""
        if self.short == "accuracy" or "_within_" in self.short:
            return "%"
        if self.short.endswith("_deg"):
            return "\N{DEGREE SIGN}"
        return "nats" if self.short == "nll" else ""

    @property
    def more_is_better(self) -> bool | None:
        """Whether more is better; None if the name does not tell."""
        if self.unit == "%":
            return True
        return False if self.unit or self.short.endswith(("loss", "defect")) else None

    def scaled(self, value: float) -> float:
        """Return the value in the unit."""
        return 100 * value if self.unit == "%" else value

    def text(self, value: float) -> str:
        """Return the value with its unit: two decimals of percent and degrees, four digits of others."""
        shown = self.scaled(value)
        if not math.isfinite(shown):
            return str(shown)
        if self.unit == "%":
            return f"{shown:.2f} %"
        return f"{shown:.2f}{self.unit}" if self.unit == "\N{DEGREE SIGN}" else f"{shown:.4g} {self.unit}".strip()

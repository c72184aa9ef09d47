"""The metrics of the test in metrics.json, and what the tested epoch was chosen by."""

import json
from pathlib import Path
from typing import Any

import lightning as L


class MetricsFile(L.Callback):
    """Write them into `folder` when the test has ended: a job without the file did not finish.

    If the best epoch is that of a metric of the validation, its value there comes first: among several runs one chooses
    by it, and not by the test.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "metrics.json"

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            best: Any = trainer.checkpoint_callback
            chosen_by = getattr(best, "monitor", None) or ""  # Lightning's own, in evaluate.py, watches nothing
            metrics = {chosen_by: float(best.best_model_score)} if chosen_by.startswith("val/") else {}
            metrics |= {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("test/")}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(metrics, indent=2) + "\n")

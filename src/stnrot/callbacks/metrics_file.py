"""Write the metrics of the test, and the validation metric that chose the tested epoch, to metrics.json."""

import json
from pathlib import Path
from typing import Any

import lightning as L


class MetricsFile(L.Callback):
    """Write `metrics.json` into `folder` at the end of the test. A job without this file did not finish.

    If a validation metric chose the tested epoch, its value comes first. Compare runs by this value, not by the test.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "metrics.json"

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            best: Any = trainer.checkpoint_callback
            chosen_by = getattr(best, "monitor", None) or ""  # evaluate.py has Lightning's own, without
            metrics = {chosen_by: float(best.best_model_score)} if chosen_by.startswith("val/") else {}
            metrics |= {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("test/")}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(metrics, indent=2) + "\n")

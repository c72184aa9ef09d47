"""Write the metrics of the test, and the validation metric that chose the tested epoch, to metrics.json."""

import json
from pathlib import Path
from typing import Any

import lightning as L

from stnrot.runs.atomic_write import atomic_write


class MetricsFile(L.Callback):
    """Write `metrics.json` into `folder` at the end of the test. A job without this file did not finish.

    If a validation metric chose the tested epoch, its value comes first. Compare runs by this value, not by the test.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "metrics.json"

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Write the file after the test, also if the test has no batches (`trainer.limit_test_batches=0`)."""
        if stage == "test" and trainer.is_global_zero:
            best: Any = trainer.checkpoint_callback  # None without checkpoints
            chosen_by, score = getattr(best, "monitor", None) or "", getattr(best, "best_model_score", None)
            metrics = {} if score is None or not chosen_by.startswith("val/") else {chosen_by: float(score)}
            metrics |= {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("test/")}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as new:
                new.write_text(json.dumps(metrics, indent=2) + "\n")

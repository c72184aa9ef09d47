"""The metrics of the test in metrics.json."""

import json
from pathlib import Path
from typing import Any

import lightning as L


class MetricsFile(L.Callback):
    """Write them into `folder` when the test has ended: a job without the file did not finish."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "metrics.json"

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            metrics = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("test/")}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(metrics, indent=2) + "\n")

"""The best checkpoint, also of a run that is continued in another folder."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Bring the best checkpoint so far along when a run is resumed.

    Lightning forgets the score when the folder has changed, and the first epoch after the break would be
    the best one, whatever it was worth.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy the file here and take the score over; the other run's folder stays as it was."""
        best = Path(state_dict["best_model_path"])
        if self.dirpath != state_dict["dirpath"] and best.is_file():
            here = Path(str(self.dirpath)) / best.name
            if int(os.environ.get("LOCAL_RANK", "0")) == 0:  # one process of a node
                here.parent.mkdir(parents=True, exist_ok=True)
                beside = here.with_name(f".{here.name}.{os.getpid()}")
                shutil.copy2(best, beside)
                beside.replace(here)
            state_dict = state_dict | {
                "dirpath": self.dirpath,
                "best_model_path": str(here),
                "best_k_models": {str(here): state_dict["best_model_score"]},
                "kth_best_model_path": str(here),
                "last_model_path": "",
            }
        super().load_state_dict(state_dict)

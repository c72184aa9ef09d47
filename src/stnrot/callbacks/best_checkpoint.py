"""Keep the best checkpoint, also of a run that is resumed in another folder."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from stnrot.runs.atomic_write import atomic_write


class BestCheckpoint(ModelCheckpoint):
    """Keep the best checkpoint of a run and its score when the run is resumed in another folder.

    `ModelCheckpoint` drops the score if the folder has changed. The first epoch after the resume would then replace the
    best checkpoint, even if it is worse.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy the best checkpoint into this run's folder and keep its score; the other folder is not changed.

        If the run's own folder was moved or copied, it has the best checkpoint already. The one in the old place may be
        that of a run that has gone on there.
        """
        best = Path(state_dict["best_model_path"])
        here = Path(str(self.dirpath)) / best.name
        if self.dirpath != state_dict["dirpath"] and (best.is_file() or here.is_file()):
            if not here.is_file() and int(os.environ.get("LOCAL_RANK", "0")) == 0:  # one process of each node
                here.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(here) as new:
                    shutil.copy2(best, new)
            state_dict = state_dict | {
                "dirpath": self.dirpath,
                "best_model_path": str(here),
                "best_k_models": {str(here): state_dict["best_model_score"]},
                "kth_best_model_path": str(here),
                "last_model_path": "",
            }
        super().load_state_dict(state_dict)

"""`stnrot train`: the job of train.py, after an install without the repository."""

from stnrot.commands.job import Overrides, run_job

EXAMPLES = """
Examples:

- `stnrot train data=image_folder data.root=FOLDER` trains on your own images

- `stnrot train -m seed=1,2,3 model=rot_stn,cnn` trains every combination

- `stnrot train --config-dir my_configs experiment=mine` reads `my_configs/experiment/mine.yaml` too
"""


def train(overrides: Overrides = None) -> None:
    """Train one model, test its best checkpoint, and write figures, tables and checkpoints below outputs/train/.

    The same as `python train.py` in the repository: it takes all options of the configuration, and the flags of Hydra.
    `stnrot train --help` lists the choices, `stnrot train --cfg job` all keys with their values.
    """
    run_job("train", overrides or [])

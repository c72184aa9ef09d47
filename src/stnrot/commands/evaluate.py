"""`stnrot evaluate`: the job of evaluate.py, after an install without the repository."""

from stnrot.commands.job import Overrides, run_job

EXAMPLES = """
Examples:

- `stnrot evaluate ckpt=latest` tests the newest run

- `stnrot evaluate ckpt=my-model data=rotated_digits` tests a published model on the digits of scikit-learn
"""


def evaluate(overrides: Overrides = None) -> None:
    """Test a trained run, and write metrics.json, predictions.csv and figures below outputs/evaluate/.

    The same as `python evaluate.py` in the repository: it takes all options of the configuration, and the flags of
    Hydra. `stnrot evaluate --help` lists them.
    """
    run_job("evaluate", overrides or [])

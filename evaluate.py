"""Test a trained run, or an ensemble of runs: python evaluate.py ckpt=PATH|latest data=..."""

from stnrot.jobs.evaluate import command, evaluate

__all__ = ["evaluate"]

if __name__ == "__main__":
    command()

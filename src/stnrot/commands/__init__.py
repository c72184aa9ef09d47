"""The subcommands of `stnrot`, one file each, thin over the Python API: align, export, pose, predict, publish, study.

`trust` is an option that several of them have.

The files import torch and Optuna only when a command runs. So `stnrot --help` and shell completion are fast.
"""

"""The subcommands of `stnrot`, one file each, thin over the Python API: align, demo, evaluate, export, pose, predict,
publish, report, study, train, upright.

`trust` is an option that several of them have. `job` runs train and evaluate, whose options are those of Hydra.

The files import torch and Optuna only when a command runs. So `stnrot --help` and shell completion are fast.
"""

"""The jobs: `train` and `evaluate`, as `python train.py` and `stnrot train` run them, and `fit` for arrays.

Hydra composes the configuration of a job from the option files, see `stnrot.config_files`.
"""

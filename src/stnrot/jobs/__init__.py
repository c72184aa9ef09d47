"""The two jobs, as `python train.py` and `stnrot train` run them: `train`, and `evaluate`.

Hydra composes the configuration of a job from the option files, see `stnrot.config_files`.
"""

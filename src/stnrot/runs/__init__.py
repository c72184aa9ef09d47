"""Parts of a job that are neither model nor data.

- `checkpoints`, `atomic_write`, `moved_targets`, `find_checkpoints`: write checkpoints, read and find them.
- `checkpoint_file`, `allowed_targets`, `memory_limit`: what a checkpoint from anyone may hold, build and take.
- `resume`, `loop_state`, `log_position`, `stop_signals`, `run_lock`: which run resumes, where it stands, how it stops.
- `earlier_run`, `resumable`: refuse a job in the folder of another one, and a checkpoint that cannot be resumed.
- `processes`: several processes that are one job.
- `metrics_table`, `tensorboard_log`: logs that a resumed run continues.
- `publish`, `published`: a model in a folder that can be given away.
- `file_lock`: what only one process may write.
- `config_checks`, `trainer_options`: checks of the configuration.
- `trainer`: builds Lightning's trainer.
- `command_line`, `overrides`: error messages of one line; overrides that are typed, and those that are printed.
- `postponed_imports`: imports Lightning without packages that most jobs do not use.
- `precision`: what depends on the device.
- `tables`: tables on the screen and in files.
"""

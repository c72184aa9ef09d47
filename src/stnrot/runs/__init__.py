"""Parts of a job that are neither model nor data.

- `checkpoints`, `atomic_write`, `moved_targets`, `find_checkpoints`: write checkpoints, read and find them.
- `checkpoint_file`, `allowed_targets`, `memory_limit`: what a checkpoint from anyone may hold, build and take.
- `resume`, `loop_state`, `log_position`, `stop_signals`, `run_lock`: which run resumes, where it stands, how it stops.
- `earlier_run`, `resumable`: refuse a job in the folder of another one, and a checkpoint that cannot be resumed.
- `launched`, `launcher`, `meeting`, `one_folder`: who has started the processes of a job, and where they meet.
- `lost_process`, `slurm`: a process that was killed; a job that SLURM queues again.
- `metrics_table`, `tensorboard_log`: logs that a resumed run continues.
- `publish`, `published`: a model in a folder that can be given away.
- `file_lock`: what only one process may write.
- `config_checks`, `trainer_options`: checks of the configuration.
- `trainer`: builds Lightning's trainer.
- `command_line`, `overrides`: error messages of one line; overrides that are typed, and those that are printed.
- `postponed_imports`: imports Lightning without packages that most jobs do not use.
- `precision`, `sync_batch_norm`, `sharding`: what depends on the device and on the number of processes.
- `tables`, `multirun_table`: tables on the screen and in files; `growing_table`: one that is resumed.
- `share`, `merged_table`: a list that several machines work on, and the one table of theirs.
"""

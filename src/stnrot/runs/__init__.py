"""Parts of a job that are neither model nor data.

- `checkpoints`, `atomic_write`, `moved_targets`, `find_checkpoints`: write checkpoints, read and find them.
- `config_checks`, `command_line`: checks of the configuration, and error messages of one line.
- `precision`, `sync_batch_norm`: what depends on the device and on the number of processes.
- `tables`, `multirun_table`: tables on the screen and in files.
"""

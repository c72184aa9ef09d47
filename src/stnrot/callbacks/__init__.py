"""Callbacks of a job: figures, tables, checkpoints and checks. They use the predictions of the task."""

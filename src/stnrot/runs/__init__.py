"""Parts of a job that are neither model nor data: checkpoints, checks of options, precision, error lines, tables."""

"""What a job needs around its model: checkpoints, precision, error lines, tables."""

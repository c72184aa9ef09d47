"""Callbacks of a job: figures, tables, checkpoints and checks. They use the predictions of the task.

- `alignment_figures`, `pose_figures`, `rotation_figures`: figures after an epoch, one module a task. `image_grid` and
  `figures` draw them, and `save_figures` writes them.
- `predictions_file`, `metrics_file`, `environment`: predictions.csv, metrics.json and environment.json.
- `leak_check`: whether a model finds the upright by the picture, or by traces of the rotation.
- `prediction_collector`: the base of callbacks that need the predictions of a whole epoch.
- `best_checkpoint`, `last_checkpoint`, `run_config`: what is saved, and the configuration in it.
- `finite_numbers`: stops a run whose loss, gradient or weights are not finite. `bad_batch` saves the batch, and
  `half_precision` tells whether gradients are lost.
"""

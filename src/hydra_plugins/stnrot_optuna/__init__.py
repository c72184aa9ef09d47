"""A thin sweeper on current Optuna, until Hydra's own is released for it."""

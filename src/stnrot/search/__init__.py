"""Searches for hyperparameters: studies of Optuna that several processes work on, and that survive them."""

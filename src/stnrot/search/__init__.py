"""Hyperparameter search with Optuna. Several processes can share a study, and an interrupted search resumes."""

"""Hyperparameter search with Optuna. Several processes can share a study, and an interrupted search resumes.

- `config`, `space`, `conditional_spaces`: the options of a search, and what it searches.
- `setup`: checks the options and opens the study; `loop`: runs the trials.
- `study`, `trials`, `storage`: what is stored, and where.
- `reconnect`: waits for a database server that is out of reach; `journal`: journal files, also on shared disks.
- `heartbeat`: which trials are stale, and their retries; `pruning`: the callback in the job of a trial.
- `report`, `figures`: the report on a study.
- `study_table`, `multirun_only`: callbacks of Hydra.
"""

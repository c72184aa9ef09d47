"""Several processes that are one job, on one machine or on many.

- `launched`, `launcher`: who has started the processes; Lightning's start of the others.
- `meeting`, `one_folder`: the processes meet before they write anything, and use the folder of the first;
  `refused`: the first does not come.
- `lost_process`: a process that was killed ends the job.
- `slurm`: a job that SLURM stops is queued again.
- `sync_batch_norm`, `sharding`: batch norm over all processes; a model of which each holds a share.
"""

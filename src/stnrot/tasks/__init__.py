"""LightningModules: the loss and the metrics of each job."""

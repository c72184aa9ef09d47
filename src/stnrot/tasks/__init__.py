"""LightningModules: what is minimised and what is measured."""

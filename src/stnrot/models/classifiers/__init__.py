"""Classifiers; each takes images and returns logits."""

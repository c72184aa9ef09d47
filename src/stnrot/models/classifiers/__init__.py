"""Classifiers: networks that take images and return logits."""

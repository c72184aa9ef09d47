"""Layers for any network, not only of images: a rotation of R^d and its parametrisations."""

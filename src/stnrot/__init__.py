"""Rotation-only spatial transformer networks: learn to undo rotation."""

from stnrot.geometry import rotate

__all__ = ["rotate"]

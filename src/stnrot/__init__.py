"""Rotation-only spatial transformer networks: learn to undo rotation."""

from stnrot.geometry import rotate
from stnrot.inference import Aligner, Alignment, align

__all__ = ["Aligner", "Alignment", "align", "rotate"]

"""Rotation-only spatial transformer networks: learn to undo rotation."""

from stnrot.geometry import rotate
from stnrot.inference import Aligner, Alignment, align
from stnrot.models.rotation import Conjugate, Rotation

__all__ = ["Aligner", "Alignment", "Conjugate", "Rotation", "align", "rotate"]

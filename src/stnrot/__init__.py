"""Rotation-only spatial transformer networks: learn to undo rotation."""

from stnrot.geometry import rotate
from stnrot.inference import Aligner, Alignment, align
from stnrot.models.rotation import Conjugate, Rotation
from stnrot.pose import Pose, fit_pose

__all__ = ["Aligner", "Alignment", "Conjugate", "Pose", "Rotation", "align", "fit_pose", "rotate"]

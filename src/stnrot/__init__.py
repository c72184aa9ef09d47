"""Rotation-only spatial transformer networks: learn to undo rotation."""

from stnrot.alignment.aligner import Aligner, Alignment, align
from stnrot.geometry import rotate
from stnrot.layers.conjugate import Conjugate
from stnrot.layers.rotation import Rotation
from stnrot.pose.fit import Pose, fit_pose

__all__ = ["Aligner", "Alignment", "Conjugate", "Pose", "Rotation", "align", "fit_pose", "rotate"]

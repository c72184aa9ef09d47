"""Geometry as functions of tensors. These conventions hold everywhere in the project.

Angles
    are radians; a name that ends in `_deg` holds degrees. A positive angle turns the picture
    counter-clockwise as it is displayed (y down), as do `torch.rot90`, torchvision and kornia.
    `angle` always means: rotate `image` by it and it lines up with `reference`.

Pixels
    Rotation happens in pixel space about the centre of the pixel grid, so that a picture that is not
    square does not shear. Pictures are sampled with `align_corners=False`. What lies outside is zero.
    An original is rotated once: compose angles, never resample what was resampled.

Shapes
    `B` batch, `C H W` image, `K` hypotheses, `A` angle bins, `R` references (one, or one an image),
    `N` points, `d` dimension.
"""

from stnrot.geometry.angles import angular_distance, circular_mean, circular_peaks, upsample_log_density, wrap
from stnrot.geometry.correlation import AngularCorrelation, correlate
from stnrot.geometry.deform import Deform
from stnrot.geometry.householder import householder_rotation, householder_vectors, reflect
from stnrot.geometry.planar import (
    inscribed_disc,
    nearest_rotation,
    rotate,
    rotate_bicubic,
    rotation_theta,
    sample,
    sampling_grid,
    warp,
)
from stnrot.geometry.polar import to_polar
from stnrot.geometry.rotations import (
    cayley,
    exponential,
    newton_schulz,
    planar_rotation,
    project_rotation,
    qr_rotation,
    random_rotation,
    rotation_defect,
    skew,
)

__all__ = [
    "AngularCorrelation",
    "Deform",
    "angular_distance",
    "cayley",
    "circular_mean",
    "circular_peaks",
    "correlate",
    "exponential",
    "householder_rotation",
    "householder_vectors",
    "inscribed_disc",
    "nearest_rotation",
    "newton_schulz",
    "planar_rotation",
    "project_rotation",
    "qr_rotation",
    "random_rotation",
    "reflect",
    "rotate",
    "rotate_bicubic",
    "rotation_defect",
    "rotation_theta",
    "sample",
    "sampling_grid",
    "skew",
    "to_polar",
    "upsample_log_density",
    "warp",
    "wrap",
]

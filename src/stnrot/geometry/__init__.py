"""Geometry as functions of tensors. The following conventions hold everywhere in the project.

Angles
    Angles are in radians. A name that ends in `_deg` holds degrees. A positive angle rotates an image
    counter-clockwise as displayed (y down), as `torch.rot90`, torchvision and kornia do.
    `angle` always means: rotate `image` by it, and the image is aligned with `reference`.

Pixels
    An image rotates in pixel space, about the centre of the pixel grid. So an image that is not square does
    not shear. Sampling uses `align_corners=False`. Pixels outside the image are zero.
    Sample an original image only once: add up the angles, and do not resample a resampled image.

Shapes
    `B` batch, `C H W` image, `K` hypotheses, `A` angle bins, `R` references (one for all images, or one for each),
    `N` points, `d` dimension. `*b` stands for any number of dimensions; with `*#b` they are broadcast. Batches and
    sets of points may be empty.

Arguments
    Every function checks its arguments. If one does not fit, an `InputError` names it. In the signatures, `Count` is a
    whole number of at least 1, `Natural` one of at least 0, and `Axis` is 0, 1 or 2. `NonNegative` is a number of at
    least 0, `Positive` one of at least 1e-6. Integer and bool tensors are refused: convert them with `.float()`.

Precision
    Every function computes in the widest type of its arguments and at least in float32, also under autocast. Images,
    grids, angles on the circle and log-densities have the type of the argument. Matrices, Euler angles, projected
    points and rendered images are at least in float32. If the result depends on a NaN, it is NaN. Exception: at a NaN
    point, `sample` returns an arbitrary pixel if the mode is `nearest` or the padding is not `zeros`.

Modules
    - `angles`: arithmetic on the circle
    - `planar`: rotation and sampling of images
    - `points`: rotation of points and boxes
    - `fused_rotation`: rotation of images on a GPU by one kernel; needs Triton
    - `lanczos`: sampling by the Lanczos kernel
    - `polar`: sampling of images on circles
    - `correlation`: correlation of two images over the angle
    - `congealing`: alignment of many images with one another
    - `deform`: random deformations of images
    - `random_views`: random views of photographs that leave no traces of the upright
    - `photo`: random crops, mirror images and colours of photographs
    - `jpeg`: what the JPEG compression of an image loses
    - `rotations`: rotation matrices of R^d
    - `householder`: products of reflections
    - `reflection_blocks`, `reflection_product`: such products in blocks, and their application to points
    - `block_cayley`: the Cayley transform of many small matrices
    - `axis_matching`: comparison of rotations up to order and sign of the axes
    - `euler`: angles about the axes of R^3
    - `nearest_euler`: such angles that come nearest to a rotation or an axis
    - `symmetry`: poses as matrices that are equal for poses that look the same
    - `splat`: the image of a point set
    - `fourier`: Fourier transforms of real numbers, also of empty batches
    - `autograd`: tools for gradients written by hand
    - `resampling`: sampling of images on circles, and shrinking, by weights that are kept
    - `tails`: exponentials whose tails are zero where they do not count
    - `constants`: a cache for tensors that depend on sizes and options alone
"""

from stnrot.geometry.angles import angular_distance, circular_mean, circular_peaks, upsample_log_density, wrap
from stnrot.geometry.congealing import congeal, rotation_onto
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
from stnrot.geometry.points import (
    box_corners,
    oriented_boxes,
    oriented_corners,
    rotate_boxes,
    rotate_oriented_boxes,
    rotate_points,
)
from stnrot.geometry.polar import to_polar
from stnrot.geometry.random_views import RandomViews
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
    "RandomViews",
    "angular_distance",
    "box_corners",
    "cayley",
    "circular_mean",
    "circular_peaks",
    "congeal",
    "correlate",
    "exponential",
    "householder_rotation",
    "householder_vectors",
    "inscribed_disc",
    "nearest_rotation",
    "newton_schulz",
    "oriented_boxes",
    "oriented_corners",
    "planar_rotation",
    "project_rotation",
    "qr_rotation",
    "random_rotation",
    "reflect",
    "rotate",
    "rotate_bicubic",
    "rotate_boxes",
    "rotate_oriented_boxes",
    "rotate_points",
    "rotation_defect",
    "rotation_onto",
    "rotation_theta",
    "sample",
    "sampling_grid",
    "skew",
    "to_polar",
    "upsample_log_density",
    "warp",
    "wrap",
]

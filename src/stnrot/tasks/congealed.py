"""The angles of training images without known angles, for the first epochs, by congealing."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.data.image_data import ImageData
from stnrot.data.image_set import balanced_order
from stnrot.data.rng import Purpose, Split
from stnrot.geometry import resize  # TODO
from stnrot.geometry.congealing import congeal, rotation_onto

MOST_IMAGES = 3000
LARGEST_SIDE = 32  # in pixels; larger images are shrunk, which changes the angle by a fraction of a degree
AT_ONCE = 500

"""Compare rotations up to a signed permutation of the axes.

A function that is symmetric under signed permutations, such as `stnrot.layers.scaled_tanh`, determines a rotation only
up to one.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from stnrot.arguments import check_values, checked
from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32
from stnrot.geometry.constants import identity


@checked
def matched_axes(product: Float[Tensor, "d d"]) -> tuple[Int[Tensor, "d"], Float[Tensor, "d"]]:
    """Assign to each coordinate axis the row that is nearest to the axis or to its opposite, each row once.

    Source: H. Kuhn, The Hungarian method for the assignment problem, 1955.

    Returns:
        The row of each axis, and the sign: -1 if the row is nearer to the opposite of the axis, else 1.

    Raises:
        InputError: if an entry is infinite or NaN.
    """
    check_values("product", product)
    product = F.normalize(at_least_float32(product), dim=1)
    cosine = product.detach().abs().cpu().numpy()
    if not np.isfinite(cosine).all():
        raise InputError("product: expected finite numbers, got infinity or NaN")
    from scipy.optimize import linear_sum_assignment  # its import takes a fifth of the time of torch's

    rows, columns = linear_sum_assignment(-cosine)
    order = torch.from_numpy(rows)[torch.from_numpy(columns).argsort()].to(product.device)
    return order, torch.where(product[order].diagonal() < 0, -1.0, 1.0).to(product.dtype)


@checked
def axis_angles(product: Float[Tensor, "d d"]) -> Float[Tensor, "d"]:
    """Return the angle (radians) between each axis, or its opposite, and the row that is assigned to it.

    For the product R S^T these are the angles between R and S up to a signed permutation. The angle is computed from
    the chord, `2 asin(|a - b| / 2)`, which is exact where the cosine rounds to 1.

    >>> swapped = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    >>> axis_angles(swapped).tolist()
    [0.0, 0.0]
    """
    product = at_least_float32(product)
    order, sign = matched_axes(product)
    rows = F.normalize(product[order], dim=1) * sign[:, None]
    chord = torch.linalg.vector_norm(rows - identity(len(rows), rows.device, rows.dtype), dim=1)
    return 2 * (chord / 2).clamp(max=1).asin()

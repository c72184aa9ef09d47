"""Axes up to their order and sign: how far a rotation is from another that a symmetric function cannot tell apart."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def matched_axes(product: Float[Tensor, "d d"]) -> tuple[Int[Tensor, "d"], Float[Tensor, "d"]]:
    """Return for each axis the row of a matrix that lies nearest to it or its opposite, each row once, and the signs.

    It is an assignment problem: H. Kuhn, The Hungarian method for the assignment problem, 1955.
    """
    product = F.normalize(product, dim=1)
    rows, columns = linear_sum_assignment(-product.abs().cpu().numpy())
    order = torch.from_numpy(rows)[torch.from_numpy(columns).argsort()].to(product.device)
    return order, product[order].diagonal().sign()


def axis_angles(product: Float[Tensor, "d d"]) -> Float[Tensor, "d"]:
    """Return the angle (radians) between each axis, or its opposite, and the row that is matched with it.

    For R S^T it says how far R is from S up to a signed permutation. By the chord, `2 asin(|a - b| / 2)`, which is
    exact where the cosine rounds to 1.
    """
    order, sign = matched_axes(product)
    rows = F.normalize(product[order], dim=1) * sign[:, None]
    chord = torch.linalg.vector_norm(rows - torch.eye(len(rows), dtype=rows.dtype, device=rows.device), dim=1)
    return 2 * (chord / 2).clamp(max=1).asin()

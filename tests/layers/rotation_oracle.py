"""The matrix of a `Rotation` by the formula of its method, in float64, by numpy and scipy alone."""

import numpy as np
import scipy.linalg

from stnrot import Rotation


def matrix_of(layer: Rotation) -> np.ndarray:
    """Return R of the current weights."""
    held = {name: value.detach().cpu().double().numpy() for name, value in layer.map.state_dict().items()}
    weight, start, dim = held["weight"], held.get("start"), layer.dim
    identity = np.eye(dim)
    if layer.method == "householder":
        product = identity
        for v in weight + start:
            product = product @ (identity - 2 * np.outer(v, v) / (v @ v))
        return product * held["sign"]
    if layer.method == "angle":
        c, s = np.cos(start + weight), np.sin(start + weight)
        return np.array([[c, -s], [s, c]])
    if layer.method in ("cayley", "exp"):
        a = np.tril(weight, -1) - np.tril(weight, -1).T
        map_ = scipy.linalg.expm(a) if layer.method == "exp" else np.linalg.solve(identity - a / 2, identity + a / 2)
        return start @ map_
    if layer.method == "qr":
        q, r = np.linalg.qr(start + weight)
        q = q * np.sign(np.diag(r))
        q[:, -1] *= np.sign(np.linalg.det(q))
        return q
    if layer.method == "newton_schulz":
        u, _, vh = np.linalg.svd(weight)
        u[:, -1] *= np.sign(np.linalg.det(u @ vh))
        return u @ vh
    return weight

"""Constrain a weight of any module to be a rotation."""

from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stnrot.annotations import REAL, is_dense
from stnrot.arguments import checked, described
from stnrot.errors import InputError
from stnrot.geometry.autograd import full_precision
from stnrot.geometry.rotations import project_rotation
from stnrot.layers.maps import METHODS
from stnrot.layers.maps.base import FromStart

Module = TypeVar("Module", bound=nn.Module)


@checked
def rotational(
    module: Module, name: str = "weight", method: Literal["householder", "cayley", "exp", "qr"] = "householder"
) -> Module:
    """Constrain a square weight of a module to be a rotation, and return the module.

    A drop-in replacement for `torch.nn.utils.parametrizations.orthogonal`. In contrast to it, det = +1 always, the
    default method reaches every rotation, and modules in 16 bits are accepted. The weight starts at the rotation
    nearest to its present value. If you assign a matrix to the weight later, it becomes the rotation nearest to that
    matrix.

    It uses `torch.nn.utils.parametrize`: `parametrize.cached()` computes the rotation once for several uses,
    `parametrize.remove_parametrizations(module, name)` leaves the rotation as a plain parameter. The trained tensor is
    `module.parametrizations[name].original`. It has the same shape, is zero at the start, and weight decay pulls it
    towards the start. An optimizer that holds the weight already trains it.

    The rotation is computed at least in float32: max |R^T R - I| <= 1e-5. In a module of 16 bits the weight is this
    rotation rounded to 16 bits.

    Another module that shares the parameter would see the trained tensor instead of the rotation. To tie the weights of
    two modules a and b, call `rotational` for both, and then set
    `b.parametrizations[name] = a.parametrizations[name]`.

    Args:
        module: for example `nn.Linear(d, d)`, `nn.RNNCell` (name="weight_hh") or `nn.RNN` (name="weight_hh_l0").
        name: of the weight.
        method: `householder`, `cayley`, `exp` or `qr`; see `stnrot.layers.maps`.

    Raises:
        InputError: if an argument is not valid, or the weight is not a dense square matrix of real numbers.

    >>> from torch import nn
    >>> layer = rotational(nn.Linear(8, 8))
    >>> torch.allclose(layer.weight.T @ layer.weight, torch.eye(8), atol=1e-5), bool(torch.det(layer.weight) > 0)
    (True, True)
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module: expected a module, got {described(module)}; for a matrix take stnrot.Rotation")
    if parametrize.is_parametrized(module, name):
        raise InputError(f"name={name!r}: expected a plain parameter; call parametrize.remove_parametrizations first")
    own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
    if name not in own:
        listed = ", ".join(own) or "none"
        raise InputError(f"name={name!r}: expected a parameter of {type(module).__name__} ({listed})")
    weight = own[name]
    _check_weight(name, weight)
    shared = [key for key, each in module.named_parameters(remove_duplicate=False) if each is weight]
    if len(shared) > 1:
        raise InputError(
            f"name={name!r}: expected a parameter with one name, got {', '.join(shared)}; untie them first"
        )
    parametrize.register_parametrization(module, name, _Rotational(weight, method))
    return module


class _Rotational(nn.Module):
    """The parametrization: a map from the trained tensor, which takes the place of the weight of the map."""

    def __init__(self, weight: Tensor, method: str) -> None:
        super().__init__()
        self.dim = dim = len(weight)
        options = {"reflections": dim - dim % 2} if method == "householder" else {}
        with torch.device("cpu"):
            made = METHODS[method](torch.eye(dim, dtype=torch.float64), **options)
        assert isinstance(made, FromStart)
        self.map = made
        self.map.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
        del self.map.weight

    def forward(self, weight: Tensor) -> Tensor:
        with full_precision(weight):
            return self.map.matrix(weight).to(weight.dtype)

    @torch.no_grad()
    def right_inverse(self, matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
        _check_weight("weight", matrix)
        if len(matrix) != self.dim:
            raise InputError(f"weight: expected a matrix [{self.dim}, {self.dim}], got {described(matrix)}")
        if not matrix.is_meta:
            if not matrix.isfinite().all():
                raise InputError("weight: expected finite numbers; the nearest rotation does not exist")
            self.map.restart(project_rotation(matrix.double()))
        return torch.zeros_like(matrix)


def _check_weight(name: str, weight: Any) -> None:
    """Raise InputError unless a weight is a dense square matrix of real numbers."""
    if nn.parameter.is_lazy(weight):
        raise InputError(f"{name}: expected a weight with a shape; run the lazy module once first")
    square = is_dense(weight) and weight.dtype in REAL and weight.ndim == 2 and weight.shape[0] == weight.shape[1]
    if not square or len(weight) < 2:
        several = weight.ndim == 2 and weight.shape[0] in (3 * weight.shape[1], 4 * weight.shape[1])
        advice = "; the weight of nn.LSTM and nn.GRU is several matrices, so no rotation" if several else ""
        raise InputError(f"{name}: expected a square matrix [d, d] of real numbers, got {described(weight)}{advice}")

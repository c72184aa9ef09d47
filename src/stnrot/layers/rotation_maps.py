"""Ways to write a rotation of R^d by free parameters.

Every map has one parameter, `weight`, which is zero at the rotation that the map begins with, so that weight decay
pulls towards that rotation; of the last two it is the matrix itself. For N points and m reflections, in
multiplications and additions:

| map | formula | cost forward | reaches | guaranteed |
|---|---|---|---|---|
| `Angle` | [[cos, -sin], [sin, cos]], d = 2 | 8 N | all | det R = +1 and max abs(R^T R - I) <= 1e-5 |
| `Householder` | H_1 ... H_m D, H = I - 2 v v^T / v^T v | (4 N + 2 n) m d | all, by default m | the same |
| `Cayley` | R_0 (I - A/2)^-1 (I + A/2), A = L - L^T | 2 N d^2 + 9 d^3 | all but half turns from R_0 | the same |
| `Exponential` | R_0 exp(A) | 2 N d^2 + 30 d^3 or more | all | the same |
| `QR` | Q of R_0 + W = Q R, R_ii > 0 | 2 N d^2 + 5 d^3 | all; jumps where det(R_0 + W) = 0 | the same |
| `NewtonSchulz` | W, made a rotation after each update | 2 N d^2, an update 10 d^3 | all | the same |
| `Penalty` | W | 2 N d^2 | every matrix | nothing: it is no rotation |

D is a fixed diagonal of signs; the default m is d, or d - 1 if d is odd; n is 64, for 128 points or more and on a GPU
128. For many points `Householder` makes the matrix, which costs 2 N d^2 + (4 d + 2 n) m d. Backward costs at most about
twice as much.

Limits: the guarantee is for entries up to 1e15, of `Exponential` and `Cayley` up to some hundred: rounding grows with
them. The gradient of `QR` is infinite where R_0 + W is singular. `NewtonSchulz` writes into its weight when
it is used; in a compiled graph it cannot see whether it got there, and holds for updates that change no singular value
by more than a half. A layer made in float32 and then turned to float64 keeps R_0 as float32 has it: set
`torch.set_default_dtype` before it is made.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from stnrot.errors import InputError
from stnrot.geometry.autograd import at_least_float32, gradients
from stnrot.geometry.householder import SMALL, Blocks, block_size, blocks_of, householder_vectors, turn
from stnrot.geometry.rotations import (
    cayley_from,
    exponential,
    newton_schulz,
    newton_schulz_step,
    planar_rotation,
    qr_rotation,
    skew,
)

DENSE, MANY = 2, 11_000  # more points than these times d, and more numbers in them: it is cheaper to make the matrix
COMPILED_STEPS = 4  # of Newton and Schulz, each use: for updates that change no singular value by more than a half


class RotationMap(nn.Module, ABC):
    """A map from the weight to a matrix."""

    is_rotation = True

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.to(torch.get_default_dtype()))

    def kind(self, points: int) -> str | int:
        """Return what to make of the weight for so many points: the matrix."""
        return "matrix"

    @abstractmethod
    def shared(self, kind: str | int) -> Any:
        """Return what all calls of a kind have in common."""

    def turn(self, x: Tensor, shared: Any, inverse: bool) -> Tensor:
        """Return rows R x, or R^T x."""
        return x @ (shared if inverse else shared.mT)


class FromStart(RotationMap):
    """A map whose weight is zero at the rotation that it starts from, given in float64."""

    def __init__(self, start: Tensor) -> None:
        super().__init__(torch.zeros_like(start))
        self.register_buffer("start", start.to(torch.promote_types(self.weight.dtype, torch.float32)))
        self.start: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        start = self.start
        super()._apply(fn, recurse)
        if self.start.dtype.itemsize < 4:  # would make the start a rotation no more
            self.start = start.to(self.start.device)
        return self


class Angle(FromStart):
    """A learned angle, in the plane alone; in networks, M. Jaderberg et al., Spatial transformer networks, 2015."""

    def __init__(self, start: Tensor) -> None:
        super().__init__(torch.atan2(start[1, 0], start[0, 0]))

    def shared(self, kind: str | int) -> Tensor:
        """Return the matrix."""
        return reusable_graph(lambda weight: planar_rotation(self.start + weight), at_least_float32(self.weight))


class Householder(FromStart):
    """A product of reflections and a fixed diagonal of signs D: never forms the matrix for few points.

    Source: see `stnrot.geometry.householder`; in networks, Z. Mhammedi et al., Efficient orthogonal parametrisation of
    recurrent neural networks using Householder reflections, 2017.

    Args:
        start: as above.
        reflections: m, even; fewer than all begin with the identity.
    """

    def __init__(self, start: Tensor, reflections: int) -> None:
        vectors, sign = householder_vectors(start)
        if reflections < len(vectors):  # of the identity: each reflects an axis, and the sign reflects it back
            vectors, sign = vectors[:reflections], sign.clone()
            sign[reflections:] = 1
        super().__init__(vectors)
        self.register_buffer("sign", sign.to(torch.get_default_dtype()))
        self.sign: Tensor

    def _matrix(self, weight: Tensor) -> Tensor:
        identity = torch.eye(len(self.sign), device=weight.device, dtype=weight.dtype)
        return turn(identity, self._blocks(weight, block_size(len(identity), weight.is_cpu)), inverse=True) * self.sign

    def _blocks(self, weight: Tensor, size: int) -> Blocks:
        start = self.start
        return blocks_of(weight + start, size, start)

    def kind(self, points: int) -> str | int:
        """Return how many reflections a block has, or that so many points are better turned by the matrix."""
        if torch.compiler.is_compiling():  # for any number of points
            return SMALL
        dim = self.sign.shape[0]
        return "matrix" if points > DENSE * dim and points * dim > MANY else block_size(points, self.weight.is_cpu)

    def shared(self, kind: str | int) -> Blocks | Tensor:
        """Return the blocks, or the matrix."""
        weight = at_least_float32(self.weight)
        return reusable_graph(self._matrix, weight) if isinstance(kind, str) else self._blocks(weight, kind)

    def turn(self, x: Tensor, shared: Blocks | Tensor, inverse: bool) -> Tensor:
        """Return rows R x, or R^T x."""
        if isinstance(shared, Tensor):
            return super().turn(x, shared, inverse)
        return turn(x, shared, inverse) * self.sign if inverse else turn(x * self.sign, shared, inverse)


class Cayley(FromStart):
    """The Cayley transform of a skew matrix; K. Helfrich et al., Orthogonal recurrent networks, 2018."""

    def shared(self, kind: str | int) -> Tensor:
        """Return the matrix."""
        return cayley_from(self.start, at_least_float32(self.weight))


class Exponential(FromStart):
    """The exponential of a skew matrix; M. Lezcano-Casado and D. Martinez-Rubio, Cheap orthogonal constraints, 2019."""

    def shared(self, kind: str | int) -> Tensor:
        """Return the matrix."""
        return reusable_graph(lambda weight: self.start @ exponential(skew(weight)), at_least_float32(self.weight))


class QR(FromStart):
    """The Q of a free matrix, by Gram and Schmidt: see `qr_rotation`."""

    def shared(self, kind: str | int) -> Tensor:
        """Return the matrix."""
        return reusable_graph(lambda weight: qr_rotation(self.start + weight), at_least_float32(self.weight))


class NewtonSchulz(RotationMap):
    """A free matrix, made a rotation again before it is used after an update.

    To first order that leaves of the update its part along the rotations.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__(start)
        self.register_buffer("done", self.weight.detach().clone(), persistent=False)
        self.done: Tensor

    def shared(self, kind: str | int) -> Tensor:
        """Return the matrix, after it has been made a rotation if it changed."""
        if self.weight.dtype.itemsize < 4:
            raise InputError(
                f"method='newton_schulz' keeps its matrix in the weight: expected 32 bits, got {self.weight.dtype}; "
                "take another method, or leave this layer in float32"
            )
        if torch.compiler.is_compiling():  # where no number can be looked at, and each use makes a new matrix
            rotation = self.weight.detach()
            for _ in range(COMPILED_STEPS):
                rotation = newton_schulz_step(rotation)
            result = self.weight + (rotation - self.weight.detach())
            if not torch.compiler.is_exporting():  # what is exported is not trained
                with torch.no_grad():
                    self.weight.copy_(rotation)
            return result
        if self.done.device != self.weight.device or not torch.equal(self.weight, self.done):
            self.done = newton_schulz(self.weight).detach().clone()  # of a rotation it is the weight itself
            with torch.no_grad():
                self.weight.copy_(self.done)
        return self.weight


class Penalty(RotationMap):
    """A free matrix: not a rotation, but drawn to one by `|W^T W - I|^2` as a term of the loss.

    A. Brock et al., Neural photo editing with introspective adversarial networks, 2017.
    """

    is_rotation = False

    def shared(self, kind: str | int) -> Tensor:
        """Return the matrix."""
        return at_least_float32(self.weight)


class _Kept(Function):
    """A formula of the weight whose own graph outlives a backward pass, since several calls may share its result."""

    @staticmethod
    def forward(ctx: Any, formula: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
        ctx.formula = formula
        ctx.save_for_backward(weight)
        with torch.enable_grad():
            ctx.weight = weight.detach().requires_grad_()
            ctx.value = formula(ctx.weight)
        return ctx.value.detach()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        if torch.is_grad_enabled():
            return None, gradients(ctx.formula, ctx.saved_tensors, upstream)[0]
        return None, torch.autograd.grad(ctx.value, ctx.weight, upstream, retain_graph=True)[0]


def reusable_graph(formula: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Return the formula's value, differentiable as often as it is asked for."""
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and weight.requires_grad):
        return formula(weight)
    return _Kept.apply(formula, weight)

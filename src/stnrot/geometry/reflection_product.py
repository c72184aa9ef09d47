"""Apply blocks of reflections to points, with gradients written by hand."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from stnrot.geometry.autograd import full_precision, gradients, is_traced
from stnrot.geometry.constants import identity
from stnrot.geometry.reflection_blocks import Blocks, Part, Stack, split, triangle


def apply_blocks(x: Float[Tensor, "*b N d"], blocks: Blocks | Stack, inverse: bool) -> Float[Tensor, "*b N d"]:
    """Apply all blocks to the rows of x. The last block acts first, as in R z; with `inverse`, the first."""
    if torch.is_grad_enabled() and not is_traced(x):
        return (_ApplyBlocks if isinstance(blocks, Blocks) else _ApplyStack).apply(x, *blocks, inverse)
    if isinstance(blocks, Blocks):
        return _apply_parts(x, blocks.parts, inverse, blocks.sign)
    return _signed(_apply_stack(_signed(x, blocks.sign, not inverse), blocks, inverse)[0], blocks.sign, inverse)


def matrix_of(blocks: Blocks | Stack) -> Float[Tensor, "*b d d"]:
    """Return the matrix of the rotation."""
    v = blocks.vectors
    if isinstance(blocks, Blocks) and len(blocks.parts) == 1 and not is_traced(v):
        return _BlockMatrix.apply(v, blocks.sign, *blocks.parts[0])
    unit = identity(v.shape[-1], v.device, v.dtype)
    return apply_blocks(unit.expand(*v.shape[:-2], -1, -1), blocks, inverse=True)


def _signed(x: Tensor, sign: Tensor | None, here: bool) -> Tensor:
    return x * sign if here and sign is not None else x


def _apply_parts(x: Tensor, parts: list[Part], inverse: bool, sign: Tensor | None) -> Tensor:
    x = _signed(x, sign, not inverse)
    for v, s in parts if inverse else reversed(parts):
        x = _subtract_product(x, _solve(x, v, s, inverse), v)
    return _signed(x, sign, inverse)


def _solve(x: Tensor, v: Tensor, s: Tensor, inverse: bool) -> Tensor:
    """Return x V^T T if `inverse`, else x V^T T^T, computed in the type of S."""
    t = s if inverse else s.mT
    if s.dtype == x.dtype:
        return torch.linalg.solve_triangular(t, x @ v.mT, upper=inverse, left=False)
    return torch.linalg.solve_triangular(t, x.to(s.dtype) @ v.to(s.dtype).mT, upper=inverse, left=False).to(x.dtype)


def _subtract_product(x: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """Return x - b v."""
    return torch.addmm(x, b, v, alpha=-1) if b.ndim == 2 else torch.baddbmm(x, b, v, alpha=-1)


def _gradients(
    x: Tensor, vectors: Tensor, values: Tensor, size: int, inverse: bool, sign: Tensor | None, upstream: Tensor
) -> Any:
    """Return the gradients with respect to x and the vectors, with a graph, so that they can be differentiated again.

    Args:
        vectors: the tensor that receives the gradient.
        values: of the vectors in the forward pass; an update may have changed `vectors` since then.
        size: of a block.
    """

    def formula(x: Tensor, vectors: Tensor) -> Tensor:
        current = values + (vectors - vectors.detach())
        return _apply_parts(x, [(v, triangle(v, wide=True)[0]) for v in split(current, size)], inverse, sign)

    return gradients(formula, (x, vectors), upstream)


class _ApplyBlocks(Function):
    """`_apply_parts`, with a gradient that reuses results of the forward pass.

    For the inverse and one block, `b = x V^T T` and `y = x - b V`. Let g be the gradient with respect to y, and
    `p = g V^T T^T`. The gradient with respect to x is `h = g - p V`. The gradient with respect to V is the sum of
    `-b^T h - p^T x` and, through S, whose gradient is `b^T p`, of `tril(p^T b - b^T p) V`. For the rotation itself, T
    is transposed and tril is replaced by triu; the diagonal is 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, vectors: Tensor, sign: Tensor | None, parts: list[Part], inverse: bool) -> Tensor:
        ctx.vectors, ctx.parts, ctx.inverse, ctx.sign = vectors, parts, inverse, sign
        passed = [x]
        x = _signed(x, sign, not inverse)
        for v, s in parts if inverse else reversed(parts):
            b = _solve(x, v, s, inverse)
            passed += [b, x]
            x = _subtract_product(x, b, v)
        ctx.save_for_backward(*passed)
        return _signed(x, sign, inverse)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        z, *passed = ctx.saved_tensors
        parts, inverse, sign = ctx.parts, ctx.inverse, ctx.sign
        size = parts[0][0].shape[-2]
        if torch.is_grad_enabled():
            values = torch.cat([v for v, _ in parts], -2)
            return *_gradients(z, ctx.vectors, values, size, inverse, sign, g), None, None, None
        wanted = ctx.needs_input_grad[1]
        # One tensor for all blocks: for a large d, joining separate gradients costs as much as the products. It is made
        # by g.new_empty because a vectorised g has a dimension that vectors lack. If no gradient is wanted, the slices
        # of `vectors` are only placeholders and are not written to.
        grad_vectors = g.new_empty(ctx.vectors.shape) if wanted else ctx.vectors
        blocks = list(zip(parts, split(grad_vectors, size), strict=True))
        add = Tensor.addmm_ if g.ndim == 2 else Tensor.baddbmm_
        with full_precision(g):
            g = _signed(g, sign, inverse)
            for (v, s), grad_v in reversed(blocks) if inverse else blocks:
                x, b = passed.pop(), passed.pop()
                p = _solve(g, v, s, not inverse)
                h = _subtract_product(g, p, v)
                if wanted:
                    w = p.mT @ b
                    w = (w - w.mT).tril_() if inverse else (w - w.mT).triu_()
                    add(grad_v, w, v, beta=0)
                    add(add(grad_v, b.mT, h, alpha=-1), p.mT, x, alpha=-1)
                g = h
            g = _signed(g, sign, not inverse)
        return g, grad_vectors if wanted else None, None, None, None


class _BlockMatrix(Function):
    """The matrix of one block, `(I - V^T W) D` with W = T V and D = diag(sign).

    Let G be the gradient with respect to the matrix without D, and `A = T^T V G`. The gradient with respect to V is the
    sum of `-W G^T - A` and, through S, whose gradient is K = A W^T, of `(triu(K) + triu(K, 1)^T) V`.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, sign: Tensor | None, v: Tensor, s: Tensor) -> Tensor:
        w = torch.linalg.solve_triangular(s, v.to(s.dtype), upper=True).to(v.dtype)
        ctx.vectors, ctx.sign, ctx.v, ctx.s = vectors, sign, v, s
        ctx.save_for_backward(w)
        diagonal = torch.diag(v.new_ones(v.shape[-1]) if sign is None else sign.to(v.dtype))
        return _subtract_product(diagonal, v.mT, _signed(w, sign, True))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (w,) = ctx.saved_tensors
        v, s, sign = ctx.v, ctx.s, ctx.sign
        if torch.is_grad_enabled():
            unit = identity(v.shape[-1], v.device, v.dtype).expand(*v.shape[:-2], -1, -1)
            return _gradients(unit, ctx.vectors, v, v.shape[-2], True, sign, g)[1], None, None, None
        with full_precision(g):
            g = _signed(g, sign, True)
            a = torch.linalg.solve_triangular(s.mT, v.to(s.dtype), upper=False).to(v.dtype) @ g
            k = a @ w.mT
            add = torch.addmm if g.ndim == 2 else torch.baddbmm
            return add(add(a, w, g.mT), k.triu() + k.triu(1).mT, v, beta=-1), None, None, None


def _apply_stack(x: Tensor, stack: Stack, inverse: bool) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Apply the blocks of a stack; also return x before each block and its product q, by the number of the block.

    A block is `q = x V^T`, `x - q T V` for the inverse and `q = x (T V)^T`, `x - q V` for the rotation.
    """
    passed, products = [], []
    left, right = (stack.v, stack.w) if inverse else (stack.w, stack.v)
    order = range(len(stack.v)) if inverse else reversed(range(len(stack.v)))
    for k in order:
        q = x @ left[k].mT
        passed.append(x)
        products.append(q)
        x = _subtract_product(x, q, right[k])
    return (x, passed, products) if inverse else (x, passed[::-1], products[::-1])


class _ApplyStack(Function):
    """`_apply_stack`, with the gradient of `_ApplyBlocks`. Products that no block waits for run for all blocks at once.

    For the inverse, q in the forward pass is `x V^T`, so `b = q T`. In the backward pass, a block of the rotation acts
    on g: there q is p. For the rotation, the two change places.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, vectors: Tensor, sign: Tensor | None, v: Tensor, t: Tensor, w: Tensor, inverse: bool
    ) -> Tensor:
        ctx.stack, ctx.inverse = Stack(vectors, sign, v, t, w), inverse
        y, passed, products = _apply_stack(_signed(x, sign, not inverse), ctx.stack, inverse)
        ctx.save_for_backward(x, *passed, *products)
        return _signed(y, sign, inverse)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        z, *saved = ctx.saved_tensors
        stack, inverse, sign = ctx.stack, ctx.inverse, ctx.stack.sign
        count, size = stack.vectors.shape[-2], stack.v.shape[-2]
        if torch.is_grad_enabled():
            values = stack.v.movedim(0, -3).flatten(-3, -2)[..., :count, :]
            return *_gradients(z, stack.vectors, values, size, inverse, sign, g), *[None] * 5
        with full_precision(g):
            g, slopes, products = _apply_stack(_signed(g, sign, inverse), stack, not inverse)
            grad_vectors = None
            if ctx.needs_input_grad[1]:
                x, q = torch.stack(saved[: len(slopes)]), torch.stack(saved[len(slopes) :])
                h = torch.stack([*slopes[1:], g] if not inverse else [g, *slopes[:-1]])
                p = torch.stack(products)
                b, p = (q @ stack.t, p) if inverse else (q, p @ stack.t)
                w = p.mT @ b
                w = (w - w.mT).tril() if inverse else (w - w.mT).triu()
                grad = w @ stack.v - b.mT @ h - p.mT @ x
                grad_vectors = grad.movedim(0, -3).flatten(-3, -2)[..., :count, :]
        return _signed(g, sign, not inverse), grad_vectors, *[None] * 5

"""Exponentials without faint tails: torch's values and derivatives, except where a tail is zero."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stnrot.geometry import tails

PAIRS: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = [
    (lambda x: tails.log_softmax(x, -1), lambda x: x.log_softmax(-1)),
    (lambda x: tails.logsumexp(x, -1), lambda x: x.logsumexp(-1)),
    (tails.exp, torch.exp),
    (tails.gaussian, lambda x: torch.exp(-x.square() / 2)),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_derivatives_of_every_kind_are_torchs(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor]
) -> None:
    x, along = -4 * torch.rand(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    results = []
    for function in (ours, theirs):
        each = [function(x), *torch.func.jvp(function, (x,), (along,)), torch.func.jacrev(function)(x)]
        each += [torch.func.jacfwd(function)(x), torch.func.hessian(lambda x, f=function: f(x).sin().sum())(x)]
        results.append([*each, torch.func.vmap(torch.func.hessian(function))(x)])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tail_is_zero_and_never_subnormal(dtype: torch.dtype) -> None:
    x = -torch.linspace(0, 120, 1201, dtype=dtype)
    share = torch.zeros(2, dtype=dtype).put(torch.tensor([1]), torch.tensor([-95.0], dtype=dtype)).requires_grad_()
    (slope,) = torch.autograd.grad(tails.logsumexp(share, 0), share)
    for tail in (tails.exp(x), tails.gaussian(x), slope):
        assert tail[-1] == 0
        assert not ((tail > 0) & (tail < torch.finfo(dtype).tiny)).any()
    assert tails.gaussian(torch.tensor(math.nan)).isnan()
    assert tails.exp(torch.tensor(math.nan)).isnan()


def test_the_gradient_of_infinite_numbers() -> None:
    x = torch.tensor([[math.inf, 1], [-math.inf, 1], [-math.inf, -math.inf]], requires_grad=True)
    (slope,) = torch.autograd.grad(tails.logsumexp(x, 1).sum(), x)
    torch.testing.assert_close(slope, torch.tensor([[math.nan, 0], [0, 1], [0, 0]]), equal_nan=True)

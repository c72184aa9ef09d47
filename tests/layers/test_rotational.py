"""A weight that is a rotation: its guarantees beside those of torch's `orthogonal`, and the tools of `parametrize`."""

import copy
import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation as ScipyRotation
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal

from stnrot import InputError, rotational
from stnrot.geometry import random_rotation

METHODS = ("householder", "cayley", "exp", "qr")


def defects(weight: Tensor) -> tuple[float, float]:
    """Return max |R^T R - I| and |det R - 1|, in float64."""
    wide = weight.detach().double()
    return float((wide.mT @ wide - torch.eye(len(wide))).abs().max()), float((torch.det(wide) - 1).abs())


def train(module: nn.Module, name: str, steps: int, lr: float = 0.03) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        weight = getattr(module, name)
        (weight * torch.randn_like(weight)).sum().backward()
        optimizer.step()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dim", [2, 3, 8, 17])
def test_is_a_rotation_at_the_start_and_in_training(dim: int, method: str) -> None:
    torch.manual_seed(dim)
    for _ in range(5):
        layer = nn.Linear(dim, dim)
        before = layer.weight.detach().clone()
        weight, bias = layer.weight, layer.bias
        assert rotational(layer, method=method) is layer
        assert max(defects(layer.weight)) <= 1e-5
        assert layer.parametrizations.weight.original is weight  # an optimizer that holds it trains it
        assert layer.parametrizations.weight.original.shape == (dim, dim)
        assert layer.bias is bias
        u, _, vh = np.linalg.svd(before.double().numpy())
        u[:, -1] *= np.linalg.det(u @ vh)
        np.testing.assert_allclose(layer.weight.detach().numpy(), u @ vh, rtol=0, atol=2e-5)
    train(layer, "weight", 200)
    assert not np.allclose(layer.weight.detach().numpy(), u @ vh, atol=1e-2)
    assert max(defects(layer.weight)) <= 1e-5


def test_starts_at_scipys_nearest_rotation_for_a_reflection() -> None:
    reflection = (
        torch.from_numpy(ScipyRotation.random(None, np.random.default_rng(0)).as_matrix())
        @ torch.diag(torch.tensor([3.0, 2, -1])).double()
    )
    nearest, _ = ScipyRotation.align_vectors(reflection.T.numpy(), np.eye(3))
    layer = nn.Linear(3, 3).double()
    layer.weight.data.copy_(reflection)
    theirs = orthogonal(copy.deepcopy(layer))
    assert torch.det(theirs.weight) < 0  # torch keeps the reflection
    np.testing.assert_allclose(rotational(layer).weight.detach().numpy(), nearest.as_matrix(), atol=1e-12)


def test_recurrent_modules_use_the_rotation() -> None:
    cell, x, h = nn.RNNCell(4, 5), torch.randn(3, 2, 4), torch.randn(2, 5)
    rotational(cell, "weight_hh")
    assert max(defects(cell.weight_hh)) <= 1e-5
    expected = torch.tanh(x[0] @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh)
    torch.testing.assert_close(cell(x[0], h), expected)
    net = rotational(nn.RNN(4, 5), "weight_hh_l0")
    for _ in range(2):
        state = h
        for each in x:
            state = torch.tanh(each @ net.weight_ih_l0.T + net.bias_ih_l0 + state @ net.weight_hh_l0.T + net.bias_hh_l0)
        found = net(x, h[None])[1][0]
        torch.testing.assert_close(found, state)
        found.sum().backward()
        torch.optim.SGD(net.parameters(), lr=0.5).step()
        assert max(defects(net.weight_hh_l0)) <= 1e-5
    assert net.parametrizations.weight_hh_l0.original.grad.abs().max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_assigning_caching_and_removing(method: str) -> None:
    layer = rotational(nn.Linear(5, 5), method=method)
    parameter = layer.parametrizations.weight.original
    train(layer, "weight", 5)
    rotation = random_rotation(5).float()
    layer.weight = rotation
    torch.testing.assert_close(layer.weight, rotation, rtol=0, atol=1e-6)
    assert layer.parametrizations.weight.original is parameter
    with parametrize.cached():
        assert layer.weight is layer.weight
    train(layer, "weight", 5)
    trained = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert layer.weight is parameter
    torch.testing.assert_close(layer.weight.detach(), trained)
    assert max(defects(layer.weight)) <= 1e-5
    with pytest.raises(InputError, match="weight: expected finite numbers"):
        rotational(layer).weight = torch.full((5, 5), torch.nan)
    with pytest.raises(InputError, match=r"weight: expected a matrix \[5, 5\], got torch.float32 of shape \[4, 4\]"):
        layer.weight = torch.eye(4)


@pytest.mark.parametrize("method", METHODS)
def test_copies_and_checkpoints(method: str) -> None:
    layer = rotational(nn.Linear(5, 5), method=method)
    train(layer, "weight", 5)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = rotational(nn.Linear(5, 5), method=method)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(layer)
    for each in (loaded, copied):
        assert torch.equal(each.weight, layer.weight)
    train(copied, "weight", 3)
    assert not torch.equal(copied.weight, layer.weight)
    assert [key for key, _ in layer.named_parameters()] == ["bias", "parametrizations.weight.original"]


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_that_of_finite_differences(method: str) -> None:
    layer = rotational(nn.Linear(3, 3).double(), method=method)
    original = layer.parametrizations.weight[0]
    weight = 0.3 * torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(original, (weight,))
    torch.autograd.gradgradcheck(original, (weight,))
    assert max(defects(layer.weight)) < 1e-13


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("before", [False, True])
def test_modules_in_sixteen_bits(dtype: torch.dtype, before: bool) -> None:
    """The weight is the rotation, computed in float32, and rounded."""
    layer = rotational(nn.Linear(8, 8).to(dtype)) if before else rotational(nn.Linear(8, 8)).to(dtype)
    for _ in range(2):
        assert layer.weight.dtype == dtype
        assert defects(layer.weight)[0] < 2e-2
        wide = layer.parametrizations.weight[0].map.matrix(layer.parametrizations.weight.original)
        assert max(defects(wide)) <= 1e-5
        torch.testing.assert_close(wide.to(dtype), layer.weight)
        layer(torch.randn(3, 8, dtype=dtype)).sum().backward()
        torch.optim.SGD(layer.parameters(), lr=0.1).step()


def test_autocast_keeps_the_rotation() -> None:
    layer = rotational(nn.Linear(8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert max(defects(layer.weight)) <= 1e-5
        assert layer(torch.randn(2, 8)).dtype == torch.bfloat16


def test_tied_weights() -> None:
    a, b = rotational(nn.Linear(4, 4, bias=False)), rotational(nn.Linear(4, 4, bias=False))
    b.parametrizations["weight"] = a.parametrizations["weight"]
    both = nn.Sequential(a, nn.Tanh(), b)
    assert len(list(both.parameters())) == 1
    both(torch.randn(3, 4)).sum().backward()
    torch.optim.SGD(both.parameters(), lr=0.5).step()
    for each in (both, copy.deepcopy(both)):
        assert torch.equal(each[0].weight, each[2].weight)
        assert max(defects(each[2].weight)) <= 1e-5
    same = nn.Module()
    same.weight = same.other = nn.Parameter(torch.eye(3))
    with pytest.raises(InputError, match="expected a parameter with one name, got weight, other; untie them first"):
        rotational(same)


def test_a_frozen_weight_and_another_device() -> None:
    layer = nn.Linear(4, 4).requires_grad_(False)
    assert not rotational(layer).weight.requires_grad
    with torch.device("meta"):
        made = rotational(nn.Linear(4, 4))
    assert made.weight.is_meta
    made.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(made.weight, layer.weight)


def test_bad_arguments_are_one_line(printed: Callable[[str], list[str]]) -> None:
    code = """
import torch
from torch import nn
from stnrot import rotational

done = rotational(nn.Linear(3, 3))
for arguments in [(torch.eye(3),), (nn.Linear(3, 3), 1), (nn.Linear(3, 3), "weights"), (nn.ReLU(),), (done,),
                  (nn.Linear(3, 3), "weight", "svd"), (nn.Linear(3, 4),), (nn.LSTM(3, 3), "weight_hh_l0"),
                  (nn.Conv2d(3, 3, 3),), (nn.Bilinear(3, 3, 3),), (nn.Linear(3, 3), "bias"), (nn.Linear(1, 1),),
                  (nn.Linear(3, 3, dtype=torch.complex64),), (nn.LazyLinear(3),)]:
    try:
        rotational(*arguments)
    except ValueError as error:
        print(error)
"""
    several = "; the weight of nn.LSTM and nn.GRU is several matrices, so no rotation"
    square = "expected a square matrix [d, d] of real numbers, got torch"
    assert printed(code) == [
        "module: expected a module, got torch.float32 of shape [3, 3]; for a matrix take stnrot.Rotation",
        "name: expected text, got 1",
        "name='weights': expected a parameter of Linear (weight, bias)",
        "name='weight': expected a parameter of ReLU (none)",
        "name='weight': expected a plain parameter; call parametrize.remove_parametrizations first",
        "method: expected one of householder, cayley, exp, qr, got 'svd'",
        f"weight: {square}.float32 of shape [4, 3]",
        f"weight_hh_l0: {square}.float32 of shape [12, 3]{several}",
        f"weight: {square}.float32 of shape [3, 3, 3, 3]",
        f"weight: {square}.float32 of shape [3, 3, 3]",
        f"bias: {square}.float32 of shape [3]",
        f"weight: {square}.float32 of shape [1, 1]",
        f"weight: {square}.complex64 of shape [3, 3]",
        "weight: expected a weight with a shape; run the lazy module once first",
    ]


@pytest.mark.slow
def test_compiles() -> None:
    """Run in a separate process: the run-time shape checks of pytest would break the graph."""
    code = """
import torch
from torch import nn
from stnrot import rotational

layer, z = rotational(nn.Linear(5, 5)), torch.randn(3, 5)
compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
for _ in range(3):
    torch.testing.assert_close(compiled(z), layer(z))
    optimizer.zero_grad()
    compiled(z).pow(3).sum().backward()
    found = layer.parametrizations.weight.original.grad.clone()
    optimizer.zero_grad()
    layer(z).pow(3).sum().backward()
    torch.testing.assert_close(found, layer.parametrizations.weight.original.grad, rtol=1e-4, atol=1e-4)
    optimizer.step()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)

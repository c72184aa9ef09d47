"""Blocks of rotations: compared with numpy's Cayley transform, and used for fine-tuning."""

import copy
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from stnrot import BlockRotation, InputError


def made(dim: int, block: int, size: float = 0.1) -> BlockRotation:
    layer = BlockRotation(dim, block)
    nn.init.normal_(layer.weight, std=size)
    return layer


def matrix_of(layer: BlockRotation) -> np.ndarray:
    """Return the whole matrix, in float64."""
    block, weight = layer.block, layer.weight.detach().cpu().double().numpy()
    whole = np.zeros((layer.dim, layer.dim))
    for number, entries in enumerate(weight):
        upper = np.zeros((block, block))
        upper[np.triu_indices(block, 1)] = entries
        half = (upper.T - upper) / 2
        place = slice(number * block, (number + 1) * block)
        whole[place, place] = np.linalg.solve(np.eye(block) - half, np.eye(block) + half)
    return whole


def defect(layer: BlockRotation) -> float:
    wide = layer.matrix().detach().double()
    return float((wide.mT @ wide - torch.eye(layer.block)).abs().max())


@pytest.mark.parametrize("size", [0, 1e-20, 1e-3, 0.03, 0.1, 0.3, 1, 3, 100])
@pytest.mark.parametrize(("dim", "block"), [(4, 2), (15, 3), (15, 5), (96, 32), (160, 80)])
def test_is_numpys_cayley_transform(dim: int, block: int, size: float) -> None:
    torch.manual_seed(dim)
    layer = made(dim, block, size)
    matrix, z = matrix_of(layer), torch.randn(7, dim)
    assert defect(layer) <= 1e-6
    assert layer.defect() == pytest.approx(defect(layer), rel=1e-3, abs=1e-7)
    atol = 3e-5 * max(1, size)  # the Cayley transform of large weights amplifies their rounding
    for call, expected in ((layer, matrix.T), (layer.inverse, matrix)):
        np.testing.assert_allclose(call(z).detach().numpy(), z.double().numpy() @ expected, rtol=0, atol=atol)
        with torch.no_grad():
            np.testing.assert_allclose(call(z).numpy(), z.double().numpy() @ expected, rtol=0, atol=atol)
    np.testing.assert_allclose(torch.block_diag(*layer.matrix()).detach().numpy(), matrix, rtol=0, atol=atol)
    wide = copy.deepcopy(layer).double()
    wide_atol = 1e-12 * max(1, size)
    np.testing.assert_allclose(wide(z.double()).detach().numpy(), z.double().numpy() @ matrix.T, atol=wide_atol)
    assert defect(wide) < 1e-13 * max(1, size)


def test_starts_at_the_identity() -> None:
    layer, z = BlockRotation(64, 16), torch.randn(5, 64)
    assert torch.equal(layer(z), z)
    assert torch.equal(layer.matrix(), torch.eye(16).expand(4, -1, -1))
    assert layer.weight.shape == (4, 120)


@pytest.mark.parametrize("size", [0.1, 1, 30])
def test_gradients_are_those_of_finite_differences(size: float) -> None:
    layer = made(8, 4, size).double()
    z = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    weight = layer.weight.detach().clone().requires_grad_()

    def function(z: Tensor, weight: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight}, (z,))

    gradcheck(function, (z, weight))
    gradgradcheck(function, (z, weight))
    plain = torch.autograd.grad(function(z, weight).pow(3).sum(), (z, weight))
    graph = torch.autograd.grad(function(z, weight).pow(3).sum(), (z, weight), create_graph=True)
    torch.testing.assert_close(graph, plain)
    jacobian = torch.autograd.functional.jacobian(lambda w: function(z, w), weight, vectorize=True)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(lambda w: function(z, w), weight))


@pytest.mark.parametrize("bf16", [False, True])
def test_stays_a_rotation_in_training(bf16: bool) -> None:
    torch.manual_seed(0)
    layer = BlockRotation(64, 16)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    wanted = torch.randn(64, 64)
    for _ in range(100):
        z = torch.randn(8, 64)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = (layer(z) * (z @ wanted)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert layer.weight.abs().max() > 1
    assert defect(layer) <= 1e-6
    assert torch.linalg.slogdet(layer.matrix().double()).sign.tolist() == [1] * 4
    torch.testing.assert_close(layer.inverse(layer(z)), z)


def test_finds_a_hidden_rotation_of_each_block() -> None:
    torch.manual_seed(0)
    hidden, layer, z = made(24, 8, 0.3), BlockRotation(24, 8), torch.randn(100, 24)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(z) - hidden(z).detach()).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight, hidden.weight, rtol=0, atol=1e-3)


def test_merges_into_the_weight_of_a_linear_layer() -> None:
    rotation, linear, z = made(96, 32), nn.Linear(96, 10), torch.randn(4, 96)
    expected = linear(rotation(z))
    with torch.no_grad():
        linear.weight.copy_(rotation.inverse(linear.weight))
    torch.testing.assert_close(linear(z), expected)


def test_weights_of_the_published_formula_are_half_as_large() -> None:
    """Rows times (I + Q) (I - Q)^-1, with the parameters of Q above the diagonal, row after row."""
    layer, z = BlockRotation(8, 4), torch.randn(5, 8)
    oft_r = 0.3 * torch.randn(2, 6)
    rows, columns = torch.triu_indices(4, 4, 1)
    q = torch.zeros(2, 4, 4)
    q[:, rows, columns] = oft_r
    q = q - q.mT
    r = (torch.eye(4) + q) @ torch.linalg.inv(torch.eye(4) - q)
    layer.weight.data = 2 * oft_r
    torch.testing.assert_close(layer(z), torch.einsum("...rk,rkc->...rc", z.view(5, 2, 4), r).reshape(5, 8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_and_shapes(dtype: torch.dtype) -> None:
    layer = made(12, 4)
    z = torch.randn(2, 12, 3).mT.to(dtype)  # strides that are not contiguous
    y = layer(z)
    assert (y.shape, y.dtype) == (z.shape, dtype)
    torch.testing.assert_close(y.double(), z.double() @ torch.from_numpy(matrix_of(layer)).T, rtol=1e-2, atol=3e-2)
    assert layer(z[0, 0]).shape == (12,)
    assert layer(z[:0]).shape == (0, 3, 12)
    coarse = copy.deepcopy(layer).to(dtype)
    assert coarse(z).dtype == dtype
    assert defect(coarse) <= 1e-6
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(z.float()).dtype == torch.float32
        torch.testing.assert_close(layer.matrix(), layer.matrix().float())


def test_nan_and_infinity_stay_in_their_block() -> None:
    for value in (torch.nan, torch.inf):
        layer = made(12, 4)
        layer.weight.data[1, 2] = value
        y = layer(torch.ones(3, 12))
        assert y[:, :4].isfinite().all()
        assert y[:, 8:].isfinite().all()
        assert value == torch.inf or y[:, 4:8].isnan().all()


def test_copies_checkpoints_and_devices() -> None:
    layer, z = made(12, 4), torch.randn(3, 12)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    with torch.device("meta"):
        other = BlockRotation(12, 4)
    assert other(z.to("meta")).is_meta
    other.load_state_dict(torch.load(file, weights_only=True), assign=True)
    for each in (other, copy.deepcopy(layer)):
        assert torch.equal(each(z), layer(z))
    with torch.inference_mode():
        layer(z)
    layer(z).sum().backward()
    y = layer(z)
    layer.weight.data.add_(1)
    assert not torch.allclose(layer(z), y, atol=1e-3)
    torch.testing.assert_close(layer(z).double(), z.double() @ torch.from_numpy(matrix_of(layer)).T, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 4), "dim=10: expected a multiple of block=4; set block to a divisor of dim"),
        ((8, 1), "block=1: expected a whole number of at least 2"),
        ((True, 2), "dim=True: expected a whole number of at least 2"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BlockRotation(*arguments)


@pytest.mark.parametrize("z", [torch.zeros(5, 4), torch.zeros(5, 12).int(), torch.zeros(5, 12, device="meta")])
def test_bad_points_are_refused(z: Tensor) -> None:
    layer = BlockRotation(12, 4)
    for function in (layer, layer.inverse):
        with pytest.raises(InputError, match=r"^z: expected a dense tensor \[\*n, 12\] of real numbers on cpu, got"):
            function(z)


@pytest.mark.slow
def test_compiles_and_exports_whole() -> None:
    """Run in a separate process: the run-time shape checks of pytest would break the graph."""
    code = """
import torch
from stnrot import BlockRotation

layer, z = BlockRotation(12, 4), torch.randn(5, 12)
torch.nn.init.normal_(layer.weight, std=0.3)
compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
gradients = []
for function in (layer, compiled):
    layer.zero_grad()
    function(z).pow(3).sum().backward()
    gradients.append(layer.weight.grad.clone())
torch.testing.assert_close(compiled(z), layer(z))
torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
exported = torch.export.export(layer, (z,), dynamic_shapes=({0: torch.export.Dim("rows", min=2, max=4096)},)).module()
more = torch.randn(300, 12)
torch.testing.assert_close(exported(more), layer(more), rtol=1e-4, atol=1e-5)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_many_products_and_the_inverse_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made(64, 32, 0.5).double()
    products = layer.matrix()
    monkeypatch.setattr("stnrot.geometry.block_cayley.BOUND", -1.0)
    torch.testing.assert_close(products, layer.matrix(), rtol=0, atol=1e-13)

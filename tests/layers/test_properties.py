"""The layers over shapes, dtypes, strides and values: the answer of numpy in float64, or one InputError."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from layers.rotation_oracle import matrix_of
from property import property_test
from torch import Tensor

from stnrot import Conjugate, InputError, Rotation
from stnrot.layers.scaled_tanh import ScaledTanh

METHODS = ("householder", "cayley", "exp", "qr", "newton_schulz", "penalty", "angle")
FLOATS = {
    torch.float64: 1e-5,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 4e-2,
}  # relative to the largest
OTHERS = [torch.uint8, torch.int16, torch.int64, torch.bool, torch.complex64]
STRIDES = ("contiguous", "transposed", "every second", "expanded", "reversed dimensions")

dims = st.integers(2, 9)
leading = st.lists(st.integers(0, 4), max_size=3).map(tuple)
seeds = st.integers(0, 2**31)
floats = st.sampled_from(list(FLOATS))
strides = st.sampled_from(STRIDES)


def points(shape: tuple[int, ...], dtype: torch.dtype, strides: str) -> Tensor:
    """Return a tensor of this shape and dtype, laid out in memory in one of several ways."""
    if strides == "expanded":
        z = torch.randn(shape[-1:]).expand(shape)
    elif strides == "transposed" and len(shape) > 1:
        z = torch.randn(*shape[:-2], shape[-1], shape[-2]).mT
    elif strides == "reversed dimensions":
        z = torch.randn(shape[::-1]).permute(*reversed(range(len(shape))))
    elif strides == "every second":
        z = torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]
    else:
        z = torch.randn(shape)
    if dtype in (torch.float32, torch.bool):
        return z if dtype == torch.float32 else z > 0
    return z.to(dtype)


def wide(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def close(found: Tensor, expected: np.ndarray, like: Tensor) -> None:
    """Check shape, dtype and values."""
    assert found.shape == like.shape
    assert found.dtype == like.dtype
    atol = FLOATS[like.dtype] * max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(wide(found), expected, rtol=0, atol=atol)


def layer_of(method: str, dim: int, init: str, centred: bool) -> Rotation:
    dim = 2 if method == "angle" else dim
    layer = Rotation(dim, method, init=init, center=torch.randn(dim) if centred else None)
    with torch.no_grad():
        layer.map.weight.add_(0.2 * torch.randn_like(layer.map.weight))
        layer.matrix()
    return layer


@pytest.mark.parametrize("method", METHODS)
@property_test(
    dim=dims,
    shape=leading,
    dtype=floats,
    strides=strides,
    seed=seeds,
    init=st.sampled_from(["identity", "haar"]),
    centred=st.booleans(),
)
def test_rotation_is_its_matrix(
    method: str, dim: int, shape: tuple[int, ...], dtype: torch.dtype, strides: str, seed: int, init: str, centred: bool
) -> None:
    torch.manual_seed(seed)
    layer = layer_of(method, dim, init, centred)
    z = points((*shape, layer.dim), dtype, strides).requires_grad_()
    matrix = matrix_of(layer)
    center = 0 if layer.center is None else wide(layer.center)
    atol = 1e-4 if method == "exp" else 1e-5  # torch.linalg.matrix_exp has errors of 5e-5 in float32
    np.testing.assert_allclose(wide(layer.matrix()), matrix, rtol=0, atol=atol)
    matrix = wide(layer.matrix())
    for function, r in ((layer, matrix), (layer.inverse, matrix.T)):
        y = function(z)
        close(y, (wide(z) - center) @ r.T + center, z)
        upstream = torch.randn_like(y)
        (slope,) = torch.autograd.grad(y, z, upstream)
        close(slope, wide(upstream) @ r, z)
    if method != "penalty":
        assert layer.defect() <= 1e-5
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        with torch.no_grad():
            z = z.double()
            close(layer.inverse(layer(z)), wide(z), z)
    curve = Conjugate(torch.tanh, layer)
    close(
        curve(z),
        np.tanh((wide(z) - center) @ matrix.T + center) @ matrix - center @ matrix + center
        if centred
        else np.tanh(wide(z) @ matrix.T) @ matrix,
        z,
    )


@property_test(dim=st.integers(1, 9), shape=leading, dtype=floats, strides=strides, seed=seeds)
def test_scaled_tanh_is_its_formula(
    dim: int, shape: tuple[int, ...], dtype: torch.dtype, strides: str, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = ScaledTanh(dim)
    torch.nn.init.normal_(layer.log_height)
    z = points((*shape, dim), dtype, strides)
    close(layer(z), np.exp(wide(layer.log_height)) * np.tanh(wide(z)), z)


@property_test(
    dim=dims,
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    last=st.integers(0, 9),
    dtype=st.sampled_from([*FLOATS, *OTHERS]),
    strides=strides,
    device=st.sampled_from(["cpu", "meta"]),
)
def test_a_wrong_tensor_is_one_line(
    dim: int, shape: tuple[int, ...], last: int, dtype: torch.dtype, strides: str, device: str
) -> None:
    z = points((*shape, last), dtype, strides).to(device)
    fits = last == dim and dtype in FLOATS and device == "cpu"
    for layer in (Rotation(dim), Rotation(dim).inverse, Conjugate(torch.tanh, Rotation(dim)), ScaledTanh(dim)):
        if fits:
            assert layer(z).shape == z.shape
            continue
        with pytest.raises(
            InputError, match=rf"^z: expected a dense tensor \[\*n, {dim}\] of real numbers on cpu, got"
        ) as e:
            layer(z)
        assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize("method", METHODS)
@property_test(
    dim=dims, rows=st.integers(1, 5), value=st.sampled_from([np.nan, np.inf, -np.inf]), dtype=floats, seed=seeds
)
def test_nan_stays_in_its_row(method: str, dim: int, rows: int, value: float, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    layer = layer_of(method, dim, "haar", centred=False)
    z = torch.randn(rows, layer.dim).to(dtype)
    z[0, seed % layer.dim] = value
    for function in (layer, layer.inverse, Conjugate(torch.tanh, layer)):
        y = function(z)
        assert y[1:].isfinite().all()
        if function is not layer and function != layer.inverse:
            continue  # tanh makes infinity finite
        assert not y[0].isfinite().all()

"""`inverse` belongs to the current weights, whatever has changed them; `Conjugate` computes them once."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from layers.rotation_oracle import matrix_of
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from stnrot import Conjugate, Rotation

METHODS = ("householder", "cayley", "exp", "qr", "newton_schulz", "penalty", "angle")


def made(method: str) -> Rotation:
    return Rotation(2 if method == "angle" else 6, method, init="haar")


def close(found: Tensor, expected: np.ndarray, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=0, atol=atol)


def new_weight(layer: Rotation) -> Tensor:
    return layer.map.weight.detach() + 0.3 * torch.randn_like(layer.map.weight)


def copy_data(layer: Rotation) -> None:
    layer.map.weight.data.copy_(new_weight(layer))


def replace_data(layer: Rotation) -> None:
    layer.map.weight.data = new_weight(layer)


def replace_parameter(layer: Rotation) -> None:
    layer.map.weight = nn.Parameter(new_weight(layer))


def through_numpy(layer: Rotation) -> None:
    layer.map.weight.detach().numpy()[...] = new_weight(layer).numpy()


def fused_step(layer: Rotation) -> None:
    layer.map.weight.grad = torch.randn_like(layer.map.weight)
    torch.optim.Adam(layer.parameters(), lr=0.3, fused=True).step()


def load(layer: Rotation) -> None:
    layer.load_state_dict(Rotation(layer.dim, layer.method, init="haar").state_dict())


def exponential_average(layer: Rotation) -> None:
    averaged = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for _ in range(3):
        other = copy.deepcopy(layer)
        copy_data(other)
        averaged.update_parameters(other)
    for mine, mean in zip(layer.parameters(), averaged.module.parameters(), strict=True):
        mine.data.copy_(mean)


CHANGES = (copy_data, replace_data, replace_parameter, through_numpy, fused_step, load, exponential_average)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", METHODS)
def test_inverse_is_that_of_the_current_weights(method: str, change: Callable[[Rotation], None]) -> None:
    layer = made(method)
    y = layer(torch.randn(4, layer.dim))  # held, with its graph
    change(layer)
    expected = matrix_of(layer)
    close(layer.inverse(y), y.detach().double().numpy() @ expected)
    z = torch.randn(4, layer.dim)
    close(layer(z), z.double().numpy() @ expected.T)
    if method != "penalty":
        close(layer.inverse(layer(z)), z.double().numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_inverse_sees_another_dtype(method: str, dtype: torch.dtype) -> None:
    if method == "newton_schulz" and dtype == torch.bfloat16:
        pytest.skip("keeps its matrix in the weight, so 16 bits are refused")
    layer = made(method)
    y = layer(torch.randn(4, layer.dim))
    layer.to(dtype)
    close(layer.inverse(y.double()), y.detach().double().numpy() @ matrix_of(layer), 1e-5)


@pytest.mark.parametrize("average", [{}, {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}])
@pytest.mark.parametrize("method", METHODS)
def test_an_averaged_model_rotates_by_the_averaged_weights(method: str, average: dict[str, Any]) -> None:
    layer = made(method)
    averaged = AveragedModel(layer, **average)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    z = torch.randn(8, layer.dim)
    for _ in range(3):
        optimizer.zero_grad()
        layer(z).mul(torch.arange(layer.dim)).sum().backward()
        optimizer.step()
        averaged.update_parameters(layer)
        y = averaged(z)
        close(averaged.module.inverse(y), y.detach().double().numpy() @ matrix_of(averaged.module))


@pytest.mark.parametrize("method", METHODS)
def test_conjugate_prepares_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Conjugate(torch.tanh, made(method))
    seen, prepare = [], model.rotation.map.prepare
    monkeypatch.setattr(model.rotation.map, "prepare", lambda kind: (seen.append(kind), prepare(kind))[1])
    z = torch.randn(3, model.rotation.dim)
    model(z).sum().backward()
    assert len(seen) == 1
    with torch.no_grad():
        model(z)
    assert len(seen) == 2
    model.rotation.inverse(model.rotation(z))
    assert len(seen) == 4
    prepared = model.rotation.prepare(z)
    y = model.rotation.inverse(model.rotation(z, prepared=prepared).tanh(), prepared=prepared)
    assert len(seen) == 5
    torch.testing.assert_close(y, model(z))


@pytest.mark.parametrize("method", METHODS)
def test_conjugate_is_its_formula_with_its_gradients(method: str) -> None:
    model = Conjugate(torch.tanh, made(method))
    copy_data(model.rotation)
    z = torch.randn(5, model.rotation.dim, requires_grad=True)
    matrix = matrix_of(model.rotation)
    close(model(z), np.tanh(z.detach().double().numpy() @ matrix.T) @ matrix)
    apart = model.rotation.inverse(model.rotation(z).tanh())
    inputs = (z, model.rotation.map.weight)
    alone = torch.autograd.grad(apart.pow(3).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(model(z).pow(3).sum(), inputs), alone, rtol=1e-4, atol=1e-4)
    kept = checkpoint(model, z, use_reentrant=False).pow(3).sum()
    torch.testing.assert_close(torch.autograd.grad(kept, inputs), alone, rtol=1e-4, atol=1e-4)
    only_inverse = checkpoint(model.rotation.inverse, model.rotation(z).tanh(), use_reentrant=False).pow(3).sum()
    torch.testing.assert_close(torch.autograd.grad(only_inverse, inputs), alone, rtol=1e-4, atol=1e-4)


def test_hooks_of_the_rotation_run_in_a_conjugate() -> None:
    model = Conjugate(torch.tanh, made("householder"))
    z, seen = torch.randn(4, 6), []
    model.rotation.register_forward_hook(lambda module, args, result: seen.append((args, result)))
    model(z)
    ((args, result),) = seen
    assert len(args) == 1
    assert args[0] is z
    torch.testing.assert_close(result, model.rotation(z))
    twice = copy.deepcopy(model)
    twice.rotation.register_forward_pre_hook(lambda module, args: 2 * args[0])
    torch.testing.assert_close(twice(z), model(2 * z))


def test_a_conjugate_trains_under_ddp() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = Conjugate(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), made("householder"))
        alone = copy.deepcopy(model)
        parallel = DistributedDataParallel(model)
        z = torch.randn(4, 6)
        for each in (parallel, alone):
            each(z).square().sum().backward()
        for mine, other in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)
    finally:
        dist.destroy_process_group()


def test_an_import_hooks_nothing_into_optimizers() -> None:
    from torch.optim import optimizer

    assert not [hook for hook in optimizer._global_optimizer_post_hooks.values() if "stnrot" in hook.__module__]

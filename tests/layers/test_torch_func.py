"""The rotation layers under `torch.func` and in a trace: the results are those of a loop and of plain calls."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from stnrot import BlockRotation, Rotation, rotational

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "block": partial(BlockRotation, 8, 4),
    **{name: partial(Rotation, 8, method=name, init="haar") for name in ("householder", "cayley", "exp", "qr")},
    "few reflections": partial(Rotation, 8, reflections=2),
    "rotational": lambda: rotational(nn.Linear(8, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_sample_ensembles_and_forward_derivatives(name: str) -> None:
    layer = LAYERS[name]().double()
    for each in layer.parameters():
        nn.init.normal_(each, std=0.3)
    weights = {key: each.detach() for key, each in layer.named_parameters()}
    z = torch.randn(3, 8, dtype=torch.float64)

    def loss(weights: dict[str, Tensor], z: Tensor) -> Tensor:
        return functional_call(layer, weights, (z,)).pow(3).sum()

    by_hand = []
    for row in z:
        layer.zero_grad()
        layer(row[None]).pow(3).sum().backward()
        by_hand.append({key: each.grad.clone() for key, each in layer.named_parameters()})
    by_sample = vmap(grad(loss), (None, 0))(weights, z[:, None])
    loop = {key: torch.stack([each[key] for each in by_hand]) for key in weights}
    torch.testing.assert_close(by_sample, loop, rtol=0, atol=1e-5)  # the start is a rotation in float32

    along = {key: torch.randn_like(each) for key, each in weights.items()}
    _, slope = jvp(partial(loss, z=z), (weights,), (along,))
    torch.testing.assert_close(slope, sum((by_sample[key].sum(0) * along[key]).sum() for key in weights))

    stacked = {key: torch.stack((each, each + along[key])) for key, each in weights.items()}
    members = [loss({key: each[k] for key, each in stacked.items()}, z) for k in range(2)]
    torch.testing.assert_close(vmap(loss, (0, None))(stacked, z), torch.stack(members))


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and warns of each size
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", LAYERS)
def test_a_trace_computes_with_later_weights(name: str) -> None:
    layer = LAYERS[name]()
    traced = torch.jit.trace(layer, torch.randn(5, 8))
    for each in layer.parameters():
        nn.init.normal_(each)
    z = torch.randn(5, 8)
    torch.testing.assert_close(traced(z), layer(z), rtol=0, atol=1e-5)

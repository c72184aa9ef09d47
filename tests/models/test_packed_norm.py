"""The batch norm of few channels equals torch's."""

import copy

import pytest
import torch
from torch import Tensor, nn

from stnrot.models import packed_norm as module
from stnrot.models.packed_norm import packed_norm


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.3).double()
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    return norm


def maps(*shape: int) -> Tensor:
    return (3 + 2 * torch.randn(shape, dtype=torch.float64)).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(4, 8, 6, 10), (3, 2, 4, 4), (2, 5, 3, 8), (2, 8, 3, 3), (2, 1, 4, 6), (0, 4, 6, 6)])
def test_it_equals_torch_with_gradients_and_statistics(shape: tuple[int, ...]) -> None:
    ours = norm_of(shape[1])
    theirs = copy.deepcopy(ours)
    inputs = [maps(*shape)]
    inputs.append(inputs[0].clone())
    upstream = maps(*shape)
    for _ in range(2):
        for x in inputs:
            x.requires_grad_().grad = None
        results = [packed_norm(ours, inputs[0]), theirs(inputs[1])]
        torch.testing.assert_close(*results)
        for result in results:
            result.backward(upstream)
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_pixels_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they can be; a wide norm, a copy of another class and other layouts run as they are."""
    calls: list[int] = []
    packed = module._packed
    monkeypatch.setattr(module, "_packed", lambda x, parts: calls.append(parts) or packed(x, parts))
    packed_norm(norm_of(8), maps(4, 8, 6, 10))
    assert calls == [8]

    class Own(nn.BatchNorm2d):
        pass

    packed_norm(norm_of(16), maps(4, 16, 6, 10))
    packed_norm(Own(8).double(), maps(4, 8, 6, 10))
    packed_norm(norm_of(8), maps(4, 8, 6, 10).contiguous())
    packed_norm(nn.BatchNorm2d(8, momentum=None).double(), maps(4, 8, 6, 10))
    assert calls == [8]


def test_the_gradient_of_the_gradient_is_torchs() -> None:
    ours = norm_of(8)
    theirs = copy.deepcopy(ours)
    found = []
    torch.manual_seed(0)
    x, upstream = maps(2, 8, 4, 4), maps(2, 8, 4, 4)
    for apply, norm in ((packed_norm, ours), (nn.Module.__call__, theirs)):
        image = x.clone().requires_grad_()
        slope = torch.autograd.grad((apply(norm, image).sin() * upstream).sum(), image, create_graph=True)[0]
        slope.square().sum().backward()
        found.append([image.grad, norm.weight.grad])
    torch.testing.assert_close(*found)


def test_in_16_bits_it_is_as_exact_as_torch() -> None:
    exact, norm = norm_of(8), norm_of(8).float()
    norm.load_state_dict(exact.state_dict())
    x, upstream = maps(16, 8, 16, 20).bfloat16(), maps(16, 8, 16, 20).bfloat16()
    errors = []
    reference = x.double().requires_grad_()
    output = exact(reference)
    output.backward(upstream.double())
    for apply in (packed_norm, nn.Module.__call__):
        image = x.clone(memory_format=torch.preserve_format).requires_grad_()
        found = apply(copy.deepcopy(norm), image)
        found.backward(upstream)
        errors.append([(found - output).abs().mean(), (image.grad - reference.grad).abs().mean()])
    assert all(ours < 1.5 * theirs for ours, theirs in zip(*errors, strict=True))


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_the_gradient_of_the_gradient_with_a_frozen_input(frozen: int) -> None:
    ours = norm_of(8)
    theirs = copy.deepcopy(ours)
    x, upstream = maps(2, 8, 4, 4), maps(2, 8, 4, 4)
    found = []
    for apply, norm in ((packed_norm, ours), (nn.Module.__call__, theirs)):
        inputs = [x.clone(), norm.weight, norm.bias]
        for k, each in enumerate(inputs):
            each.requires_grad_(k != frozen)
        free = [each for each in inputs if each.requires_grad]
        slopes = torch.autograd.grad((apply(norm, inputs[0]).sin() * upstream).sum(), free, create_graph=True)
        found.append(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), free))
    torch.testing.assert_close(*found)


def test_a_norm_of_bfloat16_weights_is_as_exact_as_torch() -> None:
    exact = norm_of(8)
    norms = [copy.deepcopy(exact).bfloat16() for _ in range(2)]
    exact.load_state_dict(norms[0].state_dict())
    x = maps(16, 8, 16, 20).bfloat16()
    expected = exact(x.double())
    ours, theirs = (apply(norm, x) for apply, norm in zip((packed_norm, nn.Module.__call__), norms, strict=True))
    assert ours.dtype == theirs.dtype
    assert (ours - expected).abs().mean() < 1.5 * (theirs - expected).abs().mean()
    for name, value in norms[0].state_dict().items():
        torch.testing.assert_close(value, norms[1].state_dict()[name], rtol=2e-2, atol=2e-2)

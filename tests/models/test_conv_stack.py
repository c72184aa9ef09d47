"""The stack of convolutions equals torch's modules one after the other."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import orthogonal

from stnrot.models.classifiers.conv import ConvClassifier
from stnrot.models.conv_stack import ConvStack, HalvingMaxPool2d, PooledConv2d
from stnrot.runs.processes.sync_batch_norm import BatchNormSync


def randomised(net: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights of a trained network."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values)
            nn.init.uniform_(module.running_var, 0.1, 3)
    return net.double()


def built() -> ConvStack:
    stack = ConvStack(
        nn.Conv2d(3, 8, 3, padding=(1, 0), bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        PooledConv2d(8, 6),
        nn.BatchNorm2d(6, eps=0.1),
        nn.ELU(),
        nn.Conv2d(6, 4, 3, stride=2, dilation=2, groups=2),
        nn.BatchNorm2d(4),
    )
    randomised(stack)
    return stack


def one_by_one(stack: ConvStack, image: Tensor) -> Tensor:
    return nn.Sequential(*stack)(image)


@pytest.mark.parametrize("training", [True, False])
def test_the_stack_equals_its_modules_with_gradients(training: bool) -> None:
    stack = built().train(training)
    plain = copy.deepcopy(stack)
    image = torch.rand(2, 3, 20, 24, dtype=torch.float64)
    inputs = [image.clone().requires_grad_() for _ in range(2)]
    results = [stack(inputs[0]), one_by_one(plain, inputs[1])]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close([p.grad for p in stack.parameters()], [p.grad for p in plain.parameters()])
    torch.testing.assert_close(stack.state_dict(), plain.state_dict())


def test_the_fold_uses_the_present_weights() -> None:
    stack, image = built().eval(), torch.rand(2, 3, 20, 24, dtype=torch.float64)
    stack(image)
    stack.load_state_dict(built().state_dict())
    torch.testing.assert_close(stack(image), one_by_one(stack, image))
    stack.train()(image)  # moves the running statistics
    torch.testing.assert_close(stack.eval()(image), one_by_one(stack, image))
    copied = copy.deepcopy(stack)
    nn.init.zeros_(stack[1].weight)
    torch.testing.assert_close(copied(image), one_by_one(copied, image))
    stack.train()
    stack[1].eval()  # one batch norm is frozen
    plain = copy.deepcopy(stack)
    results = [stack(image), one_by_one(plain, image)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    torch.testing.assert_close([p.grad for p in stack.parameters()], [p.grad for p in plain.parameters()])


def test_batch_norm_runs_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, image = built(), torch.rand(2, 3, 20, 24, dtype=torch.float64)
    BatchNormSync().apply(stack)
    ran: list[nn.Module] = []
    called = nn.Module.__call__
    monkeypatch.setattr(nn.Module, "__call__", lambda module, *x: ran.append(module) or called(module, *x))
    stack(image)
    assert ran[1:] == list(stack)
    ran.clear()
    stack.eval()(image)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in ran)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
@pytest.mark.parametrize("place", [3, 4])
def test_hooks_run(place: int, kind: str, training: bool) -> None:
    stack = built().to(memory_format=torch.channels_last).train(training)
    image = torch.rand(2, 3, 20, 24, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    calls: list[nn.Module] = []
    getattr(stack[place], f"register_{kind}_hook")(lambda module, *_: calls.append(module))
    stack(image).sum().backward()
    assert calls == [stack[place]]


def test_weights_that_a_hook_computes_are_up_to_date() -> None:
    """`torch.nn.utils.prune` and the old weight norm compute the weight in a hook before the convolution."""
    stack, image = built(), torch.rand(2, 3, 20, 24, dtype=torch.float64)
    prune.random_unstructured(stack[0], "weight", 0.5)
    orthogonal(stack[6], "weight")  # a class of its own, and folded
    stack.eval()
    nn.init.normal_(stack[0].weight_orig)
    nn.init.normal_(stack[6].parametrizations.weight.original)
    torch.testing.assert_close(stack(image), one_by_one(stack, image))


def test_other_modules_are_called() -> None:
    """A batch norm without weights or statistics, a convolution with a border, and modules that compute otherwise."""

    class Doubled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    replaced = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)]
    for each in replaced:
        each.forward = partial(torch.mul, 3)  # type: ignore[method-assign]
    image = torch.rand(2, 3, 20, 24, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    no_bias = nn.BatchNorm2d(4)
    no_bias.bias = None
    for conv, norm in (
        (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
        (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        (nn.Conv2d(3, 4, 3), no_bias),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4)),
        (Doubled(3, 4, 3), nn.BatchNorm2d(4)),
        (replaced[0], nn.BatchNorm2d(3)),
        (nn.Conv2d(3, 4, 3), replaced[1]),
    ):
        stack = ConvStack(conv, norm).double().to(memory_format=torch.channels_last)
        for training in (True, False):
            plain = copy.deepcopy(stack.train(training))
            torch.testing.assert_close(stack(image), one_by_one(plain, image))
            torch.testing.assert_close(stack.state_dict(), plain.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_gradients_by_torch_func(training: bool) -> None:
    stack = built().to(memory_format=torch.channels_last).train(training)
    image = torch.rand(2, 3, 20, 24, dtype=torch.float64).contiguous(memory_format=torch.channels_last)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(stack, (parameters, buffers), (image,)).square().sum()

    parameters = {name: value.detach() for name, value in stack.named_parameters()}
    buffers = {name: value.clone() for name, value in stack.named_buffers()}
    found = torch.func.grad(loss)(parameters, buffers)
    one_by_one(stack, image).square().sum().backward()
    torch.testing.assert_close(found, {name: each.grad for name, each in stack.named_parameters()})


def test_in_16_bits_the_fold_is_as_close_as_the_modules() -> None:
    stack, image = built().eval(), torch.rand(2, 3, 20, 24, dtype=torch.float64)
    exact = one_by_one(stack, image)
    stack, image = stack.to(torch.bfloat16), image.to(torch.bfloat16)
    ours, plain = ((each - exact).abs().mean() for each in (stack(image), one_by_one(stack, image)))
    assert ours < 1.5 * plain


def test_the_fold_compiles_and_exports() -> None:
    stack, image = built().eval(), torch.rand(2, 3, 20, 24, dtype=torch.float64)
    expected = one_by_one(stack, image)
    torch.testing.assert_close(torch.compile(stack, backend="eager", fullgraph=True)(image), expected)
    torch.testing.assert_close(torch.export.export(stack, (image,)).module()(image), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 9, 14), (2, 2, 7, 5)])
def test_the_classifier_is_unshuffle_convolution_norm_relu_pooling(shape: tuple[int, ...], training: bool) -> None:
    ours = ConvClassifier(shape[1], 5, 4).train(training)
    randomised(ours)
    theirs = copy.deepcopy(ours)
    images = [torch.rand(shape, dtype=torch.float64).requires_grad_()]
    images.append(images[0].detach().clone().requires_grad_())
    convs, norms = (
        [each for each in theirs.modules() if isinstance(each, kind)] for kind in (nn.Conv2d, nn.BatchNorm2d)
    )
    x = F.pixel_unshuffle(F.pad(images[1], (0, shape[3] % 2, 0, shape[2] % 2)), 2)
    for k, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        x = norm(conv(x)).relu()
        x = F.max_pool2d(x, 2, ceil_mode=True) if k == 1 else x
    results = [ours(images[0]), theirs.linear(x.amax((2, 3)))]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad)
    torch.testing.assert_close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


@pytest.mark.parametrize("size", [(14, 14), (7, 6), (6, 7), (2, 2), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_max_pooling_equals_torchs(size: tuple[int, int], dtype: torch.dtype) -> None:
    """In inference and in training, with NaN and infinities."""
    pool, image = HalvingMaxPool2d(), torch.randn(2, 8, *size, dtype=dtype)
    image[0, 0, 0, 0], image[0, 1, -1, -1], image[0, 2, 0, -1] = math.nan, math.inf, -math.inf
    for x in (image, image.contiguous(memory_format=torch.channels_last)):
        expected = F.max_pool2d(x, 2, ceil_mode=True)
        torch.testing.assert_close(pool(x), expected, rtol=0, atol=0, equal_nan=True)
        with torch.inference_mode():
            found = pool(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        assert found.is_contiguous(memory_format=torch.channels_last) or x is image

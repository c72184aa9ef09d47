"""The stack of convolutions equals torch's modules one after the other."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stnrot.models.classifiers.conv import ConvClassifier
from stnrot.models.conv_stack import ConvStack, PooledConv2d
from stnrot.runs.sync_batch_norm import BatchNormSync


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
    torch.testing.assert_close(stack(image), one_by_one(plain, image))


def test_batch_norm_runs_in_training_alone() -> None:
    stack, image = built(), torch.rand(2, 3, 20, 24, dtype=torch.float64)
    BatchNormSync().apply(stack)
    ran: list[nn.Module] = []
    for module in stack:
        module.register_forward_hook(lambda module, *_: ran.append(module))
    stack(image)
    assert ran == list(stack)
    ran.clear()
    stack.eval()(image)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in ran)


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

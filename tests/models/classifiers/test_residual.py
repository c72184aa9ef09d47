"""The residual classifier against torchvision's block of ResNet."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock

from stnrot.errors import InputError
from stnrot.models.classifiers.residual import ResidualClassifier


def block_of(ours: nn.Module, width: int) -> BasicBlock:
    """Return torchvision's block with the weights of one of ours."""
    theirs = BasicBlock(width, width).double()
    conv1, norm1, _, conv2, norm2 = ours.stack
    for name, module in (("conv1", conv1), ("bn1", norm1), ("conv2", conv2), ("bn2", norm2)):
        getattr(theirs, name).load_state_dict(module.state_dict())
    return theirs


@pytest.mark.parametrize("training", [True, False])
def test_it_is_made_of_blocks_of_resnet(training: bool) -> None:
    torch.manual_seed(0)
    ours = ResidualClassifier(2, 5, 4, 0.0).double()
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after a training
            for each in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(each)
            nn.init.uniform_(module.running_var, 0.5, 2)
    conv1, norm1, _, first, _, conv2, norm2, _, second, third, *_ = ours.stack
    blocks = [block_of(each, width).train(training) for each, width in ((first, 4), (second, 8), (third, 8))]
    ours.train(training)
    image = torch.rand(6, 2, 9, 14, dtype=torch.float64)
    x = F.pixel_unshuffle(F.pad(image, (0, 0, 0, 1)), 2)
    copies = [nn.BatchNorm2d(4).double(), nn.BatchNorm2d(8).double()]
    for copy, norm in zip(copies, (norm1, norm2), strict=True):
        copy.load_state_dict(norm.state_dict())
        copy.train(training)
    x = F.max_pool2d(blocks[0](copies[0](conv1(x)).relu()), 2, ceil_mode=True)
    x = blocks[2](blocks[1](copies[1](conv2(x)).relu())).amax((2, 3))
    torch.testing.assert_close(ours(image), F.linear(x, ours.linear.weight, ours.linear.bias))


def test_a_new_block_changes_nothing() -> None:
    block = ResidualClassifier(1, 3, 4, 0.3).stack[3]
    maps = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(maps), maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 3, 4, 0.3), "channels=0"), ((1, 3, 0, 0.3), "width=0"), ((1, 3, 4, 1.0), "dropout=1.0: expected a number")],
)
def test_bad_arguments_are_one_line(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResidualClassifier(*arguments)

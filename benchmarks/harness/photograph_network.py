"""The network of the photographs benchmark: a small CNN for 32 x 32 pixels, and its training."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from stnrot.data.image_data import as_float
from stnrot.geometry import inscribed_disc, rotate_bicubic

WIDTHS = (48, 128, 128)  # 43 million multiply-adds a picture
BATCH = 128
SHIFT = 2  # pixels
LR, MOMENTUM, WEIGHT_DECAY, SMOOTHING, RISE = 0.2, 0.85, 2e-3, 0.2, 0.2
FASTER = 64  # the learning rate of a norm's bias is so many times as large
PATCH, WHITENED, LEAST_VARIANCE = 12, 2000, 5e-4  # values of a patch; pictures that tell their directions
LEVEL = 1 / 3  # of the outputs
MEAN, STD = 0.45, 0.25  # of the pixels, about
TIMED = 10  # steps


class PhotographCNN(nn.Module):
    """Read the inscribed disc of colour pictures with values in [0, 1].

    Follows K. Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024: a first layer that whitens patches of
    2 x 2 pixels and is not trained, convolutions that begin as the identity, pooling by the maximum, and batch norms
    without a scale whose biases learn fast.

    Args:
        widths: channels at a half, a quarter and an eighth of the resolution.
        outputs: numbers that are returned for each picture, such as the logits of the classes.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.whitening = nn.Conv2d(3, 2 * PATCH, 2)
        self.whitening.weight.requires_grad_(False)
        blocks = [_block(before, channels) for before, channels in itertools.pairwise((2 * PATCH, *widths))]
        self.features = nn.Sequential(nn.GELU(), *blocks)
        self.linear = nn.Linear(widths[-1], outputs, bias=False)
        self.to(memory_format=torch.channels_last)

    def whiten(self, images: UInt8[Tensor, "N 3 H W"]) -> None:
        """Set the first layer: the principal directions of the patches of these pictures, and their negatives."""
        patches = F.unfold(_seen(as_float(images)), 2).transpose(1, 2).reshape(-1, PATCH)
        variance, direction = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (direction / (variance + LEAST_VARIANCE).sqrt()).T.unflatten(1, (3, 2, 2))
        self.whitening.weight.copy_(torch.cat((filters, -filters)))

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B outputs"]:
        """Return the outputs, such as logits."""
        seen = _seen(image).contiguous(memory_format=torch.channels_last)
        return LEVEL * self.linear(self.features(self.whitening(seen)).amax((2, 3)))


def train_network(
    network: PhotographCNN,
    images: UInt8[Tensor, "N 3 H W"],
    labels: Int[Tensor, "N"],
    seed: int,
    seen: Callable[[Tensor, torch.Generator], Tensor],
    epochs: int | None,
    minutes: float = 0.0,
) -> int:
    """Train with SGD, the learning rate rises and falls linearly; return the number of epochs.

    Args:
        seen: makes what the network reads of a batch of `images`, at random.
        epochs: None for as many as fit into `minutes` of one core, by the time of the first steps.
    """
    draw = torch.Generator(images.device).manual_seed(seed)
    batches = shuffled(len(images), draw)
    network.whiten(images[:WHITENED])

    def loss(index: Tensor) -> Tensor:
        return F.cross_entropy(network(seen(images[index], draw)), labels[index], label_smoothing=SMOOTHING)

    start = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    if epochs is None:
        seconds = seconds_a_step(lambda: loss(next(batches)).backward())
        epochs = max(1, round(60 * minutes / (seconds * steps_of(len(images)))))
        network.load_state_dict(start)  # batch norm has seen pictures
        network.zero_grad()
    total = epochs * steps_of(len(images))
    norms = [each.bias for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    others = [each for each in network.parameters() if each.requires_grad and all(each is not bias for bias in norms)]
    groups = [
        {"params": norms, "lr": LR * FASTER, "weight_decay": WEIGHT_DECAY / FASTER},
        {"params": others, "lr": LR, "weight_decay": WEIGHT_DECAY},
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    scheduler = LambdaLR(optimizer, lambda step: _share_of_lr(step / total))
    for index in itertools.islice(batches, total):
        loss(index).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return epochs


def upright(pixels: UInt8[Tensor, "B 3 H W"], draw: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """Shift and mirror pictures at random."""
    device, (count, side) = pixels.device, (len(pixels), pixels.shape[-1])
    image = as_float(pixels)
    wide = F.pad(image, 4 * [SHIFT], "reflect")
    row, column = torch.randint(2 * SHIFT + 1, (2, count), generator=draw, device=device)
    for y, x in itertools.product(range(2 * SHIFT + 1), repeat=2):
        chosen = (row == y) & (column == x)
        image[chosen] = wide[chosen, :, y : y + side, x : x + side]
    mirrored = torch.rand(count, generator=draw, device=device) < 0.5
    return torch.where(mirrored[:, None, None, None], image.flip(3), image)


def turned(pixels: UInt8[Tensor, "B 3 H W"], draw: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """Shift, mirror and rotate pictures at random; the angle is uniform on the circle."""
    device = pixels.device
    image = upright(pixels, draw) * inscribed_disc(pixels.shape[-2:], device)
    return rotate_bicubic(image, 2 * torch.pi * torch.rand(len(pixels), generator=draw, device=device))


def shuffled(count: int, draw: torch.Generator) -> Iterator[Int[Tensor, "B"]]:
    """Yield endlessly the indices of batches; each epoch has its own order."""
    while True:
        order = torch.randperm(count, generator=draw, device=draw.device)
        yield from order[: steps_of(count) * min(BATCH, count)].split(BATCH)


def steps_of(count: int) -> int:
    """Return the steps of an epoch; pictures that do not fill a batch are left out."""
    return max(1, count // BATCH)


def seconds_a_step(step: Callable[[], object]) -> float:
    """Return the seconds of one core that a step takes, after a first one."""
    step()
    start = time.process_time()
    for _ in range(TIMED):
        step()
    return (time.process_time() - start) / TIMED


def _seen(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    return (image - MEAN) / STD * inscribed_disc(image.shape[-2:], image.device)


def _block(before: int, channels: int) -> nn.Sequential:
    """Return two convolutions; the first is pooled to half the resolution."""
    first, second = _conv(before, channels), _conv(channels, channels)
    return nn.Sequential(first, nn.MaxPool2d(2), _norm(channels), nn.GELU(), second, _norm(channels), nn.GELU())


def _conv(before: int, channels: int) -> nn.Conv2d:
    """Return a convolution that passes on its input; further channels begin at random."""
    conv = nn.Conv2d(before, channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:before])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    norm.weight.requires_grad_(False)
    return norm


def _share_of_lr(done: float) -> float:
    return 0.2 + 0.8 * done / RISE if done < RISE else 1 - 0.95 * (done - RISE) / (1 - RISE)

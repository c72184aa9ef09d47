"""The network of the photographs benchmark: a small residual CNN for 32 x 32 pixels, and its training."""

import itertools
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from stnrot.data.image_data import as_float
from stnrot.geometry import inscribed_disc, rotate_bicubic

WIDTH = 48  # 45 million multiply-adds a picture
BATCH = 128
SHIFT = 2  # pixels
LR, MOMENTUM, WEIGHT_DECAY, SMOOTHING, RISE = 0.2, 0.9, 5e-4, 0.1, 0.2
MEAN, STD = 0.45, 0.25  # of the pixels, about
TIMED = 10  # steps


class Residual(nn.Module):
    """Two convolutions, added to their input (K. He et al., Deep residual learning for image recognition, 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width, 3, 1), _conv(width, width, 3, 1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Return features of the same shape."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class ResidualCNN(nn.Module):
    """Read the inscribed disc of colour pictures with values in [0, 1].

    Args:
        width: channels at half the resolution; twice and four times as many at a quarter and an eighth.
        outputs: numbers that are returned for each picture, such as the logits of the classes.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, width // 3, 3, 1), nn.ReLU()]
        before = width // 3
        for channels in (width, 2 * width, 4 * width):
            layers += [_conv(before, channels, 4, 2), nn.ReLU(), Residual(channels)]
            before = channels
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(before, outputs)
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B outputs"]:
        """Return the outputs, such as logits."""
        seen = (image - MEAN) / STD * inscribed_disc(image.shape[-2:], image.device)
        return self.linear(self.features(seen.contiguous(memory_format=torch.channels_last)).mean((2, 3)))


def train_network(
    network: nn.Module,
    images: UInt8[Tensor, "N 3 H W"],
    labels: Int[Tensor, "N"],
    seed: int,
    turned: bool,
    epochs: int | None,
    minutes: float = 0.0,
) -> int:
    """Train with SGD and a one-cycle schedule on pictures that are shifted and mirrored; return the number of epochs.

    Args:
        turned: also rotate every picture by any angle.
        epochs: None for as many as fit into `minutes` of one core, by the time of the first steps.
    """
    draw = torch.Generator(images.device).manual_seed(seed)
    batches = shuffled(len(images), draw)

    def loss(index: Tensor) -> Tensor:
        seen = augmented(images[index], turned, draw)
        return F.cross_entropy(network(seen), labels[index], label_smoothing=SMOOTHING)

    start = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    if epochs is None:
        seconds = seconds_a_step(lambda: loss(next(batches)).backward())
        epochs = max(1, round(60 * minutes / (seconds * steps_of(len(images)))))
        network.load_state_dict(start)  # batch norm has seen pictures
        network.zero_grad()
    total = epochs * steps_of(len(images))
    optimizer = torch.optim.SGD(network.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    scheduler = OneCycleLR(optimizer, LR, total, pct_start=RISE, cycle_momentum=False)
    for index in itertools.islice(batches, total):
        loss(index).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return epochs


def augmented(pixels: UInt8[Tensor, "B 3 H W"], turned: bool, draw: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """Shift and mirror pictures at random; with `turned`, rotate them by any angle."""
    device, (count, side) = pixels.device, (len(pixels), pixels.shape[-1])
    image = as_float(pixels)
    wide = F.pad(image, 4 * [SHIFT], "reflect")
    row, column = torch.randint(2 * SHIFT + 1, (2, count), generator=draw, device=device)
    for y, x in itertools.product(range(2 * SHIFT + 1), repeat=2):
        chosen = (row == y) & (column == x)
        image[chosen] = wide[chosen, :, y : y + side, x : x + side]
    mirrored = torch.rand(count, generator=draw, device=device) < 0.5
    image = torch.where(mirrored[:, None, None, None], image.flip(3), image)
    if not turned:
        return image
    image = image * inscribed_disc(image.shape[-2:], device)
    return rotate_bicubic(image, 2 * torch.pi * torch.rand(count, generator=draw, device=device))


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


def _conv(before: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(before, channels, kernel, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))

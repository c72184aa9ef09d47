"""A network of a library as a classifier: its own mean and standard deviation before it, frozen or trained along."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from stnrot.errors import InputError, check_choice, check_number, reason_of
from stnrot.models.checks import check_images

COLOURS = 3  # channels that the networks read


class PretrainedClassifier(nn.Module):
    """Classify images in [0, 1] by a network of three channels: `network((image - mean) / std)`.

    In a spatial transformer this comes after the rotation, so black corners are black. A grey image is repeated in all
    three channels. Mean and standard deviation are buffers: a checkpoint holds them.

    With `frozen`, only the last layer of the network, its head, is trained. The rest stays in evaluation mode, and its
    weights have no gradient. The image still has one, so that an encoder before the network learns from the class.

    Args:
        network: maps normalised images [B, 3, H, W] to logits.
        heads: names of the modules of the network that are trained even if it is frozen.
        mean: of red, green and blue in the images that the network was trained on.
        std: likewise, the standard deviation.
        name: of the network; it begins the message about images of a size that the network cannot read.
        channels: of an image, 1 or 3.
        frozen: train the heads alone.

    Raises:
        InputError: if an argument is not valid, or later if the images do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        network: nn.Module,
        heads: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        name: str,
        channels: int,
        frozen: bool,
    ) -> None:
        super().__init__()
        check_choice("channels", channels, 1, COLOURS)
        check_choice("frozen", frozen, True, False)
        self.network, self.heads, self.name = network, list(heads), name
        self.channels, self.frozen = channels, frozen
        self.register_buffer("mean", torch.tensor(mean).view(COLOURS, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(COLOURS, 1, 1))
        if frozen:
            self.network.requires_grad_(False)
            for head in self._heads():
                head.requires_grad_(True)
        self.train()

    def _heads(self) -> list[nn.Module]:
        return [self.network.get_submodule(name) for name in self.heads]

    def train(self, mode: bool = True) -> "PretrainedClassifier":
        """Set the training mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
            for head in self._heads():
                head.train(mode)
        return self

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Return logits. Under autocast they still have the precision of the weights."""
        check_images("image", image, self.channels, self, self.mean)
        normal = (image - self.mean) / self.std  # repeats a grey image
        try:
            return self.network(normal).to(self.mean.dtype)
        except (RuntimeError, AssertionError, ValueError) as error:  # whatever torch and the libraries raise
            if not (torch.compiler.is_compiling() or isinstance(error, torch.OutOfMemoryError)):
                self._check_size(normal.shape)
            raise

    def _check_size(self, shape: torch.Size) -> None:
        """Raise InputError if the network cannot read images of this shape: if it fails also without values."""
        tensors = (*self.network.named_parameters(), *self.network.named_buffers())
        without_values = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
        try:
            functional_call(self.network, without_values, torch.empty(shape, device="meta"))
        except Exception as error:
            height, width = shape[-2:]
            raise InputError(
                f"{self.name} cannot read a batch of {shape[0]} images of {height} x {width} pixels "
                f"({reason_of(error)}): expected the size that it was made for, often 224 x 224; set "
                "data.source.image_size=[224,224]"
            ) from error


def check_arguments(classes: int, pretrained: bool, weights: str | None) -> None:
    """Raise InputError if an argument that the classifiers of all libraries have is not valid."""
    check_number("classes", classes, 1)
    check_choice("pretrained", pretrained, True, False)
    if not (weights is None or (isinstance(weights, str) and weights)):
        raise InputError(f"weights={weights}: expected the path of a file, or null")
    if weights is not None and not pretrained:
        raise InputError(f"weights={weights}: expected null with pretrained=false, or pretrained=true")

"""Any network behind an encoder that finds the upright: it reads every image upright, and its outputs turn back."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from stnrot.annotations import Rule, rule_of
from stnrot.arguments import Positive, checked, described
from stnrot.errors import InputError, check_choice, check_number
from stnrot.geometry import RandomViews, inscribed_disc, rotate
from stnrot.models.angle_loss import angle_loss
from stnrot.models.checks import check_network
from stnrot.models.confidence import confidence
from stnrot.models.encoders.p4 import P4Encoder
from stnrot.models.fit import fit
from stnrot.models.outputs import Orientation
from stnrot.models.reference import learned_reference
from stnrot.models.rot_stn import RotSTN
from stnrot.models.shipped import shipped_encoder
from stnrot.models.turn_back import each_of, turn_back

UPRIGHT_WITHIN = math.radians(45)  # an angle that is off by more turns an upright image wrongly


class Upright(nn.Module):
    r"""Rotate each image upright, run a network on it, and turn the outputs back into the frame of the image.

    The encoder returns K hypotheses of the angle that aligns an image with a learned reference, the features of an
    upright image. The image is sampled once for each hypothesis, and the network reads all of them. So K = 1 costs one
    pass, K hypotheses cost K. What happens to an output depends on its shape:

    - **Logits** `[B, n]`: with K = 1 they are returned as they are. Else the result is the log-probability of the
      mixture. Let v_k be the weights of the encoder, and l_kc the logits for the image rotated by angle_k. For a frozen
      network

          p(c) = sum_k v_k softmax(l_k)_c.

      A network that is trained along also influences the weights, as in `RotSTN`, because its likelihood trains the
      level of its logits: `p(c) = sum_k v_k exp(l_kc) / sum_{k', c'} v_k' exp(l_k'c')`. Cross-entropy on upright images
      alone does not determine this level, so a frozen network has no such say.
    - **Everything else** is that of the best hypothesis, turned back by `turn_back`: maps, detections, and dictionaries
      and tuples of them. The other hypotheses are not used, so take K = 1.

    The image is sampled bicubically, and converted to the precision of the network. Bilinear sampling blurs by an
    amount that depends on the angle, and a frozen network has not seen such images. What lies outside is 0. The frame
    keeps its size: the corners of an image that is not square may leave it, so pad such images to a square if the
    corners matter.

    Args:
        network: reads upright images `[B, C, H, W]`; of torchvision, timm or your own.
        encoder: maps images, a reference of the shape `[1, *encoder.feature_shape]`, and K to an `Orientation`. It sees
            the inscribed disc alone, because the corners tell how an image was turned. A trained `RotSTN` or `Upright`
            lends its encoder together with its learned reference; they are shared, not copied. `photos` is an encoder
            that comes trained on photographs, `digits` one for handwritten digits (`shipped_encoder`). None is a
            `P4Encoder` for three channels, not yet trained.
        hypotheses: K.
        frozen: keep the network as it is: in evaluation mode, also after `train()`, and its parameters without
            gradients. The constructor sets both in `network` itself. False trains its parameters along.
        min_confidence: an image stays as it is, at angle 0, if its best angle is less certain: the posterior
            probability that it is right within 45 degrees (`UPRIGHT_WITHIN`). 0 rotates every image. So does `loss`,
            and so do all methods in training mode: else the encoder would not learn from the images that need it.
        mean: of each channel, subtracted from the rotated image before the network. None for no normalisation.
        std: of each channel, by which it is then divided. None with `mean=None` only.

    Raises:
        InputError: if an argument is not valid.

    Training takes a plain loop. Ten lines, here for images that are upright and have no labels:

    >>> from torch.utils.data import DataLoader
    >>> images, network = torch.rand(32, 3, 32, 32), nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    >>> model = Upright(network).train()
    >>> optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    >>> for epoch in range(2):
    ...     for batch in DataLoader(images, batch_size=16, shuffle=True):
    ...         loss = model.loss(batch)
    ...         loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    >>> model.eval()(images).shape
    torch.Size([32, 10])
    """

    mean: Tensor | None
    std: Tensor | None
    turn_back = staticmethod(turn_back)

    def __init__(
        self,
        network: nn.Module,
        encoder: nn.Module | str | None = None,
        hypotheses: int = 1,
        frozen: bool = True,
        *,
        min_confidence: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_network("network", network)
        check_choice("frozen", frozen, True, False)
        check_number("min_confidence", min_confidence, 0, 1, whole=False)
        self.encoder, self.reference = _with_reference(photograph_encoder(3) if encoder is None else encoder)
        check_number("hypotheses", hypotheses, 1, getattr(self.encoder, "angles", None))
        self.network, self.hypotheses, self.frozen = network, hypotheses, frozen
        self.min_confidence = min_confidence
        if (mean is None) != (std is None):
            raise InputError("mean, std: expected both or neither, got one")
        channels = getattr(self.encoder, "channels", None)
        self.register_buffer("mean", _of_channels("mean", mean, rule_of(Sequence[float]), channels))
        self.register_buffer("std", _of_channels("std", std, rule_of(Sequence[Positive]), channels))
        weights = list(network.parameters())
        if any(isinstance(each, UninitializedParameter) for each in weights):
            raise InputError("network: expected one whose parameters have a shape; run it once on an image before")
        if frozen:
            if not set(weights).isdisjoint([*self.encoder.parameters(), self.reference]):
                raise InputError("frozen=True: expected a network without parameters of the encoder, or frozen=False")
            _freeze(network)
        elif weights and not any(each.requires_grad for each in weights):
            raise InputError(
                "frozen=False: expected a network with parameters to train, got one whose parameters are all frozen; "
                "network.requires_grad_() undoes that"
            )

    def train(self, mode: bool = True) -> "Upright":
        """Set the training mode of the encoder, and of the network if it is not frozen."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    @checked
    def orient(self, image: Float[Tensor, "B C H W"]) -> Orientation:
        """Return the hypotheses of the angle that rotates each image upright: 0 for an image that stays as it is."""
        found = self._find(image)
        if self.training or not self.min_confidence:
            return found
        if found.log_posterior is None:
            raise InputError("min_confidence: expected 0, because the encoder has no posterior over the angle")
        unsure = ~(confidence(found, UPRIGHT_WITHIN)[:, :1] >= self.min_confidence)  # also NaN
        return Orientation(found.angle.masked_fill(unsure, 0.0), found.log_weight, found.log_posterior)

    def _find(self, image: Float[Tensor, "B C H W"]) -> Orientation:
        disc = inscribed_disc(image.shape[-2:], image.device)
        found = self.encoder(image * disc, self.reference, self.hypotheses)
        if not isinstance(found, Orientation):
            raise InputError(f"encoder: expected one that returns an Orientation, got {described(found)}")
        return found

    @checked
    def align(self, image: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Orientation]:
        """Return the upright images, without normalisation, and the hypotheses of the angle.

        `turn_back(output, orientation.angle[:, 0], height, width)` turns an output for these images back.
        """
        orientation = self.orient(image)
        return rotate(image, orientation.angle[:, 0], "bicubic"), orientation

    @checked
    def forward(self, image: Float[Tensor, "B C H W"]) -> Any:
        """Return the output of the network for the upright images, in the frame of `image`."""
        orientation = self.orient(image)
        output = self._read(image, orientation)
        return turn_back(output, orientation.angle[:, 0], *image.shape[-2:])

    def _read(self, image: Float[Tensor, "B C H W"], orientation: Orientation) -> Any:
        """Run the network on the image, rotated by each hypothesis; mix logits, else return those of the best."""
        turned = rotate(image, orientation.angle, "bicubic").flatten(0, 1)  # the hypotheses of an image in a row
        if self.mean is not None and self.std is not None:
            turned = (turned - self.mean) / self.std
        output = self.network(turned.to(_precision(self.network, turned.dtype)))
        if self.hypotheses == 1:
            return output

        def best(values: Any) -> Any:
            return values[:: self.hypotheses]

        def mixed(values: Tensor) -> Tensor:
            if values.ndim != 2 or not values.is_floating_point():
                return best(values)
            if values.shape[1] < 2:
                raise InputError(
                    f"hypotheses={self.hypotheses}: expected logits of at least two classes to mix, got "
                    f"{described(values)}; take hypotheses=1"
                )
            logits = values.unflatten(0, (-1, self.hypotheses))
            joint = orientation.log_weight[..., None] + (logits.log_softmax(2) if self.frozen else logits)
            return joint.logsumexp(1).log_softmax(1)

        return each_of(output, turned.shape[0], mixed, best)

    @checked
    def loss(
        self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, "B"] | None = None, *, upright: bool = True
    ) -> Float[Tensor, ""]:
        """Return the loss of a training step.

        Every image is rotated at random. Where an angle is learned, it is also changed by `RandomViews`, and mirrored
        if it is upright. With unknown angles and labels nothing rewards the traces of sampling, and blur and zoom would
        change what textures differ in, so the images are rotated alone. The terms are:

        - **Upright images**: the negative log-likelihood of the known angle.
        - **Labels**: the cross-entropy of the network at the found angles. It trains the encoder, and the network if it
          is not frozen, end to end. The network has to return logits `[B, n]`.
        - **Neither**, `upright=False` without labels: two views of each image. The angle that is found for one says
          which one is right for the other. So the set aligns itself to the learned reference.

        With unknown angles, labels and a network that is trained along, the images of a class are turned alike, because
        they are then classified most easily: K should be 3 or more. In both cases without upright images the rotation
        of a class as a whole stays open.

        Args:
            images: from the set to train on.
            labels: class of each image. None trains the encoder alone.
            upright: whether the images are upright.
        """
        learned = upright or labels is None  # an angle
        views, angle = _random_views(images, upright) if learned else _turned(images)
        orientation = self._find(views)
        if labels is None and not upright:
            again, turned = _random_views(images, upright)
            with torch.no_grad():
                found = self._find(again).angle[:, 0]
            return angle_loss(orientation, found + turned - angle, 0.0)
        terms = [angle_loss(orientation, -angle, 0.0)] if upright else []
        if labels is not None:
            terms.append(self._cross_entropy(views, orientation, labels))
        return torch.stack(terms).sum()

    def _cross_entropy(
        self, image: Float[Tensor, "B C H W"], orientation: Orientation, labels: Int[Tensor, "B"]
    ) -> Float[Tensor, ""]:
        logits = self._read(image, orientation)
        is_logits = isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[0] == labels.shape[0]
        if not is_logits or logits.shape[1] < 2:
            raise InputError(
                "labels: expected None, because the network does not return logits [B, n] of at least two classes; for "
                "other outputs write criterion(model(images), target)"
            )
        try:
            return F.cross_entropy(logits, labels.long())
        except IndexError as error:  # on a CPU; a GPU reports it later
            raise InputError(f"labels: expected numbers from 0 to {logits.shape[1] - 1}: {error}") from error

    def fit(
        self,
        images: Float[Tensor, "N C H W"] | Iterable[Any],
        labels: Int[Tensor, "N"] | None = None,
        *,
        upright: bool = True,
        epochs: int = 10,
        lr: float = 3e-3,
        batch_size: int = 64,
    ) -> list[float]:
        """Train by `loss` with AdamW and a one-cycle schedule; return the mean loss of each epoch.

        Args:
            images: with values in [0, 1]; a tensor, or a loader of batches: images, or (images, labels).
            labels: class of each image of a tensor.
            upright: whether the images are upright, see `loss`.
            epochs: passes over the images.
            lr: largest learning rate.
            batch_size: of a tensor of images.
        """
        return fit(self, images, labels, upright=upright, epochs=epochs, lr=lr, batch_size=batch_size)


def _with_reference(encoder: nn.Module | str) -> tuple[nn.Module, nn.Parameter]:
    """Return an encoder and a new reference for it, or those of a trained model."""
    if isinstance(encoder, str):
        return shipped_encoder(encoder)
    check_network("encoder", encoder)
    if isinstance(encoder, RotSTN | Upright):
        if encoder.reference is None:
            raise InputError("encoder: expected a model with a learned reference, got RotSTN with reference=batch")
        return encoder.encoder, encoder.reference
    shape: Any = getattr(encoder, "feature_shape", None)
    if shape is None:
        raise InputError("encoder: expected one that compares features (feature_shape), such as P4Encoder")
    return encoder, learned_reference(shape)


def _precision(network: nn.Module, default: torch.dtype) -> torch.dtype:
    """Return the dtype of the first parameter that is a real number, or the default if there is none."""
    for each in network.parameters():
        if each.is_floating_point():
            return each.dtype
    return default


def _freeze(network: nn.Module) -> None:
    """Set evaluation mode, and take the gradients from the parameters."""
    try:
        network.eval()
    except NotImplementedError as error:
        raise InputError(
            f"network: expected one that has an evaluation mode, got {type(network).__name__}; of an exported network "
            "take the original"
        ) from error
    for each in network.parameters():  # a network in TorchScript has no `requires_grad_`
        each.requires_grad_(False)


def _random_views(images: Float[Tensor, "B C H W"], upright: bool) -> tuple[Tensor, Float[Tensor, "B"]]:
    """Return each image rotated by a random angle and changed, and the angles (radians, uniform on the circle).

    Two views of an image of unknown angle have one upright, but their mirror images have not.
    """
    views, angle = RandomViews(mirror=0.5 if upright else 0.0), _random_angles(images)
    numbers = torch.randn(len(images), views.count, device=images.device, dtype=angle.dtype)
    return views(images, angle, numbers, "bicubic"), angle


def _turned(images: Float[Tensor, "B C H W"]) -> tuple[Tensor, Float[Tensor, "B"]]:
    """Return each image rotated by a random angle, and the angles; outside, the pixels of the border are repeated."""
    angle = _random_angles(images)
    return rotate(images, angle, "bicubic", padding_mode="border"), angle


def _random_angles(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B"]:
    dtype = torch.promote_types(images.dtype, torch.float32)
    return (2 * torch.rand(len(images), device=images.device, dtype=dtype) - 1) * math.pi


def _of_channels(name: str, values: Any, rule: Rule, channels: int | None) -> Float[Tensor, "C 1 1"] | None:
    """Return the numbers of all channels, one or one for each, as a tensor; None if there are none."""
    if values is None:
        return None
    if not rule.fits(values, {}) or len(values) not in (1, channels or len(values)):
        each = "each channel" if channels is None else f"each of {channels} channels"
        raise InputError(f"{name}={values}: expected {rule.expected({})}; one for all channels, or one for {each}")
    return torch.tensor(values, dtype=torch.get_default_dtype())[:, None, None]


def photograph_encoder(channels: int) -> P4Encoder:
    """Return an encoder, not yet trained, with the sizes of `model/encoder=p4`."""
    return P4Encoder(channels, width=8, side=32, angles=64, dropout=0.1, mirrored=False)

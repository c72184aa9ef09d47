"""equiadapt's discrete canonicalisers of photographs, trained by their own prior: an upright picture is canonical.

The package (S. Panigrahi and A. K. Mondal, 2024) follows S.-O. Kaba et al., Equivariance with learned canonicalization
functions, 2023, and A. K. Mondal et al., Equivariant adaptation of large pretrained models, 2023.
"""

import itertools
import warnings
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from harness.photograph_network import WHITENED, PhotographCNN, seconds_a_step, shuffled, steps_of, upright
from stnrot.geometry import inscribed_disc, rotate_bicubic

TURNS = 8
FIELDS, KERNEL, LAYERS = 8, 5, 3  # of the steerable network
WIDTHS, VECTOR = (12, 24, 48), 128  # of the network of the optimised canonicaliser
CONTRAST = 1e-4  # weight of its other loss, in equiadapt's examples
LR = 3e-3


def has_equiadapt() -> bool:
    """Return whether the package and what it needs are installed."""
    return all(find_spec(name) is not None for name in ("equiadapt", "e2cnn"))


def canonicaliser(optimised: bool, side: int) -> Any:
    """Return a canonicaliser of the group of eight rotations, not yet trained, for colour pictures.

    Its network sees the whole picture, not the middle enlarged threefold as in equiadapt's examples. With `optimised`
    that network is a narrow `PhotographCNN`, which reads the picture at each of the eight angles.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that were written for older releases of torch and NumPy
        from equiadapt.images import canonicalization, canonicalization_networks  # type: ignore[import-not-found]

        shape = (3, side, side)
        options = SimpleNamespace(beta=1.0, input_crop_ratio=1.0, resize_shape=side)
        if not optimised:
            network = canonicalization_networks.ESCNNEquivariantNetwork(
                shape, FIELDS, KERNEL, "rotation", TURNS, LAYERS
            )
            return canonicalization.GroupEquivariantImageCanonicalization(network, options, shape)
        vars(options).update(group_type="rotation", num_rotations=TURNS, learn_ref_vec=False, artifact_err_wt=0)
        narrow: Any = PhotographCNN(WIDTHS, VECTOR)
        narrow.out_vector_size = VECTOR
        return canonicalization.OptimizedGroupEquivariantImageCanonicalization(narrow, options, shape)


def train_canonicaliser(model: Any, images: UInt8[Tensor, "N 3 H W"], seed: int, minutes: float) -> int:
    """Train for about that many minutes of one core with AdamW; return the number of epochs.

    The pictures are upright within half of the angle between two elements of the group, so the identity is the nearest
    element. Exactly upright pictures would teach to look for those that are not resampled.
    """
    draw = torch.Generator(images.device).manual_seed(seed)
    batches = shuffled(len(images), draw)

    def loss() -> Tensor:
        seen = upright(images[next(batches)], draw)
        seen = seen * inscribed_disc(seen.shape[-2:], seen.device)
        share = torch.rand(len(seen), generator=draw, device=seen.device) - 0.5
        model(rotate_bicubic(seen, share * (2 * torch.pi / TURNS)))
        terms = [model.get_prior_regularization_loss()]
        if hasattr(model, "get_optimization_specific_loss"):
            terms.append(CONTRAST * model.get_optimization_specific_loss())
        return torch.stack(terms).sum()

    for each in model.modules():
        if isinstance(each, PhotographCNN):
            each.whiten(images[:WHITENED])
    model.train()
    seconds = seconds_a_step(lambda: loss().backward())
    model.zero_grad()
    epochs = max(1, round(60 * minutes / (seconds * steps_of(len(images)))))
    total = epochs * steps_of(len(images))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), LR)
    scheduler = OneCycleLR(optimizer, LR, total, cycle_momentum=False)
    for _ in itertools.repeat(None, total):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return epochs


def canonical(model: nn.Module, image: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Float[Tensor, "B"]]:
    """Return the pictures as the canonicaliser rotates them, and the angles (radians) by which it does."""
    found: Any = model
    turned = found(image)
    degrees = found.canonicalization_info_dict["group_element"]["rotation"]
    return turned, -degrees.deg2rad()

"""Trained models that come with the package, each in a folder as `stnrot publish` writes it."""

from pathlib import Path

from torch import nn

from stnrot.errors import InputError
from stnrot.models.encoders.p4 import P4Encoder
from stnrot.models.encoders.polar import PolarEncoder
from stnrot.models.reference import learned_reference
from stnrot.runs.published import read_published

SHIPPED = ("digits", "photos")
ENCODERS = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (P4Encoder, PolarEncoder)}


def shipped_folder(name: str) -> Path:
    """Return the folder of a model that comes with the package."""
    return Path(__file__).parent / "shipped_weights" / name


def shipped_encoder(name: str) -> tuple[P4Encoder | PolarEncoder, nn.Parameter]:
    """Return a trained encoder and its reference. The model card is README.md in its folder.

    Args:
        name: `photos` finds the upright of photographs, `digits` that of handwritten digits.

    Raises:
        InputError: if there is no such encoder.
    """
    if name not in SHIPPED:
        raise InputError(f"encoder={name}: expected a module, or the name of one that is shipped: {', '.join(SHIPPED)}")
    found = read_published(shipped_folder(name))
    options = dict(found["config"]["model"]["encoder"])
    encoder = ENCODERS[options.pop("_target_")](**options)
    weights = {key.removeprefix("model."): each for key, each in found["state_dict"].items()}
    reference = learned_reference(encoder.feature_shape)
    reference.data.copy_(weights["reference"])
    inside = "encoder."
    encoder.load_state_dict({key.removeprefix(inside): each for key, each in weights.items() if key.startswith(inside)})
    return encoder.eval(), reference

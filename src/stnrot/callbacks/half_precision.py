"""Whether gradients in half precision (float16) are lost: they overflow above 65,504 and lose digits below 6.1e-5.

With `trainer.precision=16-mixed` the loss is multiplied by a scale against this. A step whose gradients overflow is
left out, and the scale is halved. See P. Micikevicius et al., Mixed precision training, 2018.
"""

from typing import Any

import lightning as L


def overflow_is_allowed(trainer: L.Trainer) -> bool:
    """Return whether the loss scale is lowered after an overflow. Below 1 the gradients themselves are too large."""
    scaler = _scaler(trainer)
    return scaler is not None and scaler.get_scale() >= 1


def underflow(trainer: L.Trainer) -> str | None:
    """Return why small gradients become 0, and what to do; None if they do not. Waits for a GPU."""
    scaler = _scaler(trainer)
    if scaler is None or scaler.get_scale() >= 1:
        return None
    return (
        f"gradients underflow in half precision: its loss scale has fallen to {scaler.get_scale():g}, because others "
        "overflow; use trainer.precision=bf16-mixed, whose range is that of 32 bits, or 32-true"
    )


def _scaler(trainer: L.Trainer) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)

"""Let `Rotation.inverse` reuse what `Rotation.forward` computed from the weights.

The reuse is valid until the weights change. Two things end it: a gradient arrives at the result of `forward`, after
which an update may follow; or the state of the weights differs (`state_of_weights`). This state includes a counter of
optimizer steps in the whole process, because a fused optimizer changes weights without a new version. A change by
`weight.data.copy_` is not detected.
"""

from typing import Any

from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

_optimizer_steps = 0


def _count_step(*_: Any) -> None:
    global _optimizer_steps
    _optimizer_steps += 1


register_optimizer_step_post_hook(_count_step)  # for every optimizer in this process, on import of this module


class SharedWork:
    """What one `forward` prepared from the weights.

    The result of `forward` holds this object by a hook. So it lives as long as that result can be differentiated.

    Args:
        prepared: the result of `RotationMap.prepare`.
        sources: weight and start. They are held so that no other tensor gets the id of one of them.
        kind: the form that was prepared.
    """

    def __init__(self, prepared: Any, sources: tuple[Tensor, Tensor], kind: str | int) -> None:
        self.prepared = prepared
        self.sources = sources
        self.state: tuple[object, ...] | None = state_of_weights(sources, kind)

    def close(self, upstream: Tensor | None) -> None:
        """End the reuse: a gradient has arrived, and an update may follow."""
        self.state = None


def state_of_weights(sources: tuple[Tensor, Tensor], kind: str | int) -> tuple[object, ...]:
    """Return a value that changes whenever the weight, the start or the form to prepare changes."""
    weight, start = sources
    versions = weight._version, start._version, _optimizer_steps
    return id(weight), id(start), versions, weight.data_ptr(), weight.dtype, kind

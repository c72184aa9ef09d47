from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from step_watch import subnormal
from torch import nn

from stnrot.tasks import base
from stnrot.tasks.optimizer_state import FAINT_EVERY, drop_faint

OPTIMIZERS = {
    "AdamW": partial(torch.optim.AdamW, lr=1e-3),
    "SGD": partial(torch.optim.SGD, lr=1e-3, momentum=0.9),
    "RMSprop": partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_momenta_of_dead_weights_become_zero_and_no_step_changes(name: str) -> None:
    """Half of the weights die: after the first step their gradient is exactly zero."""
    weights, left = [], []
    for drop in (False, True):
        weight = nn.Parameter(torch.linspace(-1, 1, 20))
        optimizer = OPTIMIZERS[name]([weight])
        counts = 0
        for step in range(1200):
            weight.grad = torch.linspace(1e-3, 1e-2, 20)
            if step:
                weight.grad[::2] = 0
            if drop and step % FAINT_EVERY == 0:
                drop_faint(optimizer)
            optimizer.step()
            counts += sum(map(subnormal, optimizer.state[weight].values()))
        weights.append(weight.detach())
        left.append(counts)
    assert left[0] > 0
    assert left[1] == 0
    assert torch.equal(*weights)


def test_a_task_drops_them(job: Callable[..., tuple[float, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.optim.Optimizer] = []
    monkeypatch.setattr(base, "drop_faint", seen.append)
    monkeypatch.setattr(base, "FAINT_EVERY", 2)
    job("+trainer.max_steps=5", "data.batch_size=20")
    assert len(seen) == 3
    assert isinstance(seen[0], torch.optim.AdamW)

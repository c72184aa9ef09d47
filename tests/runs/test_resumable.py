"""The state of a training in a checkpoint from anyone: a part of another type is refused in one line."""

from typing import Any

import pytest
import torch
from torch import nn

from stnrot.errors import InputError
from stnrot.runs.resumable import check_state
from stnrot.tasks.resumed_state import check_optimizer_state, check_schedule_state

OWN = {"place": "epoch", "stops": False, "max_epochs": 2, "processes": [{"logs": {}}]}
WHOLE = {
    "loops": {"fit_loop": {"epoch_progress": {"current": {"completed": 1}}}},
    "callbacks": {"best": {"best_model_path": "/runs/1/best.ckpt", "best_k_models": {}, "score": torch.ones(())}},
    "optimizer_states": [{"state": {}, "param_groups": []}],
    "lr_schedulers": [{"last_epoch": 1}],
    "stands_at": OWN,
}
CYCLE: dict[str, Any] = {}
CYCLE["x"] = CYCLE


@pytest.mark.parametrize("forged", [
    *({name: value} for name in list(WHOLE)[:4] for value in ("nonsense", 5, None, ["x"], {"x": 5}, [[]])),
    {"lr_schedulers": {}},
    {"loops": {"fit_loop": {"epoch_progress": {"current": {"completed": "1"}}}}},
    {"loops": {"fit_loop": {"epoch_progress": {"current": {"completed": -1}}}}},
    {"callbacks": {"best": {"kth_best_model_path": "/runs/1/../../home/thesis.tex"}}},
    {"callbacks": {"best": {"best_k_models": {"/runs/1/../../home/thesis.tex": 0.5}}}},
    {"callbacks": {"best": {"score": torch.ones(1).expand(10**7, 10**7)}}},
    {"callbacks": {"best": CYCLE}},
    {"stands_at": "nonsense"},
    *({"stands_at": OWN | each} for each in ({"place": "x"}, {"place": []}, {"stops": 1}, {"processes": []},
                                             {"processes": [{}]}, {"processes": "x"}, {"max_epochs": "2"},
                                             {"samples": "6"})),
])  # fmt: skip
def test_a_forged_state(forged: dict[str, Any]) -> None:
    check_state(WHOLE, "a.ckpt")
    with pytest.raises(InputError, match=r"^a\.ckpt ") as failure:
        check_state(WHOLE | forged, "a.ckpt")
    assert len(str(failure.value).splitlines()) == 1


def test_a_state_of_another_optimizer_or_schedule() -> None:
    """torch takes each of them, and fails in a later step."""
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.AdamW([weight])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
    weight.grad = torch.ones(2, 3)
    optimizer.step()
    schedule.step()
    saved, (group,), planned = optimizer.state_dict(), optimizer.state_dict()["param_groups"], schedule.state_dict()
    check_optimizer_state(optimizer, saved)
    check_schedule_state(schedule, planned)
    for options in ({"lr": "x"}, {"betas": (0.9,)}, {"betas": ("x", 0.9)}, {"weight_decay": [0.1]}):
        with pytest.raises(ValueError, match=f"its optimizer has {next(iter(options))}="):
            check_optimizer_state(optimizer, saved | {"param_groups": [group | options]})
    for state in ({"exp_avg": torch.ones(3)}, {"exp_avg_sq": 5}, {"step": "x"}):
        with pytest.raises(ValueError, match=f"a state {next(iter(state))} of another form"):
            check_optimizer_state(optimizer, saved | {"state": {0: saved["state"][0] | state}})
    for entry in ({"step": 5}, {"total_steps": "x"}, {"base_lrs": 5}, {"_schedule_phases": [{}]}):
        with pytest.raises(ValueError, match=f"its schedule has '{next(iter(entry))}'="):
            check_schedule_state(schedule, planned | entry)

"""trainer.strategy=fsdp: each of two processes has half of the model; they train what two whole models train."""

from pathlib import Path

import pytest
import torch
from conftest import NO_FIGURES, SMALL, command, composed
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from stnrot.errors import InputError
from stnrot.runs.processes.sharding import large_blocks
from stnrot.runs.trainer import build_trainer

JOB = (
    *SMALL,
    NO_FIGURES,
    "logger.tensorboard=null",
    "model=rot_stn",
    "model.encoder.dropout=0",
    "data.batch_size=20",
    "+trainer.limit_train_batches=2",  # training amplifies rounding errors
)
SGD = (
    *("task.optimizer._target_=torch.optim.SGD", "+task.optimizer.momentum=0.9", "task.optimizer.lr=0.001"),
    "task.scheduler=null",
)
ADAMW = ("+task.optimizer.eps=0.01",)  # else rounding errors of dead weights become as large as its steps
SHARDED = ("trainer=ddp", "trainer.devices=2", "trainer.strategy=fsdp")


def test_large_blocks_are_gathered_alone_inner_ones_first() -> None:
    block = nn.Sequential(nn.Linear(10, 10), nn.Linear(20, 20), nn.Linear(2, 2))
    model = nn.ModuleDict({"blocks": nn.ModuleList([block, nn.Linear(30, 30)]), "head": nn.Linear(40, 40)})
    assert list(large_blocks(model, 400)) == [model["blocks"][1], block[1]]
    assert list(large_blocks(model, 100)) == [model["blocks"][1], block[1], block[0]]
    assert list(large_blocks(model, 5)) == [model["blocks"][1], *reversed(block)]
    assert list(large_blocks(model, 10_000)) == []


def test_averages_of_weights_are_refused() -> None:
    with pytest.raises(InputError, match=r"^trainer.strategy=fsdp: EMAWeightAveraging .* trainer.strategy=ddp"):
        build_trainer(composed("train", *SHARDED, "output_dir=run"), [EMAWeightAveraging(decay=0.9)])


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [pytest.param(SGD, id="SGD"), pytest.param(ADAMW, id="AdamW with a schedule")])
def test_two_halves_train_what_two_whole_models_train_and_resume(tmp_path: Path, optimizer: tuple[str, ...]) -> None:
    before = {}
    for folder, options in (("whole", SHARDED[:2]), ("halves", SHARDED)):
        assert command("train.py", *JOB, *optimizer, *options, f"hydra.run.dir={folder}", cwd=tmp_path).returncode == 0
        before[folder] = torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        done = command("train.py", f"resume={folder}", "trainer.max_epochs=2", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    whole, halves = (
        torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in ("whole", "halves")
    )
    assert halves["state_dict"].keys() == whole["state_dict"].keys()
    assert halves["optimizer_states"][0]["state"].keys() == whole["optimizer_states"][0]["state"].keys()
    for name, value in whole["state_dict"].items():
        change = (value - before["whole"][name]).float()  # since the resumption
        found = (halves["state_dict"][name] - before["halves"][name]).float()
        assert (found - change).norm() <= 0.05 * change.norm(), name
    assert halves["lr_schedulers"] == whole["lr_schedulers"]
    for number, state in whole["optimizer_states"][0]["state"].items():
        for name, value in state.items():
            found = halves["optimizer_states"][0]["state"][number][name]
            assert (found - value).norm() <= 0.02 * value.norm(), name

    # without strategy, and in one process: the same file
    evaluated = command("evaluate.py", "ckpt=halves/checkpoints/last.ckpt", "trainer.accelerator=cpu", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr

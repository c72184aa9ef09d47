"""A number that is not finite stops the run at its step, which is named and saved, or the step is left out."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from conftest import composed
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from stnrot.callbacks.finite_numbers import FiniteNumbers
from stnrot.errors import InputError

BAD = 5  # the index of the sample that is not finite
GOOD = [[0, 1], [2, 3], [6, 7]]


@dataclass
class Numbers:
    index: Tensor
    x: Tensor


class Fit(L.LightningModule):
    """Fit one weight behind batch norm. A sample of the third batch spoils the loss, or its gradient, or the weight."""

    def __init__(self, spoils: str, factor: float = 1.0) -> None:
        super().__init__()
        self.norm, self.weight, self.spoils, self.factor = (
            nn.BatchNorm1d(1),
            nn.Parameter(torch.ones(1)),
            spoils,
            factor,
        )

    def training_step(self, batch: Numbers, batch_idx: int) -> Tensor:
        bad = BAD in batch.index.tolist()
        x = torch.where(batch.index == BAD, math.nan, batch.x) if bad and self.spoils == "loss" else batch.x
        loss = (self.norm(x[:, None]) * self.weight.to(x)).square().mean() * self.factor
        if bad and self.spoils == "gradient":
            return loss + (0 * self.weight).abs().sqrt().sum()  # 0, but its derivative is 0 times infinity
        return loss * 100 if bad and self.spoils == "weights" else loss

    def configure_optimizers(self) -> SGD:
        return SGD(self.parameters(), lr=0.25)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        too_high = self.spoils == "weights" and BAD in batch.index.tolist()
        self.trainer.optimizers[0].param_groups[0]["lr"] = 3e38 if too_high else 0.25 * (1 + batch_idx)


def fit(task: Fit, callback: FiniteNumbers, batches: list[list[int]] | None = None, **options: Any) -> L.Trainer:
    data: Any = [
        Numbers(torch.tensor(index), torch.tensor(index, dtype=torch.float32).sin())
        for index in batches or [[0, 1], [2, 3], [4, BAD], [6, 7]]
    ]
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, callbacks=[callback], **(quiet | options))
    trainer.fit(task, DataLoader(data, batch_size=None))
    return trainer


@pytest.mark.parametrize(
    ("spoils", "words"),
    [
        ("loss", "the loss is nan, the norm of the gradient is nan, the norm of the weights is nan"),
        ("gradient", "the norm of the gradient is nan, the norm of the weights is nan"),
        ("weights", "the norm of the weights is inf"),
    ],
)
def test_it_stops_at_the_step_and_saves_its_batch(spoils: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as stopped:
        fit(Fit(spoils), FiniteNumbers(str(tmp_path), 0))
    rate = 3e38 if spoils == "weights" else 0.75
    assert str(stopped.value).startswith(
        f"{words} in epoch 0, step 3, at the learning rate {rate:g}, with the samples 4, 5 (saved in {tmp_path}/"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["bad_batch_step_3.pt"]
    saved = torch.load(tmp_path / "bad_batch_step_3.pt", weights_only=True)
    assert (saved["step"], saved["epoch"], saved["index"]) == (3, 0, [4, 5])
    assert saved["learning_rate"] == [rate]
    assert torch.equal(saved["batches"][0]["x"], torch.tensor([4.0, 5.0]).sin())


def test_the_batches_of_accumulated_gradients_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step 2, .* with the samples 4, 5, 6, 7 \(saved"):
        fit(Fit("loss"), FiniteNumbers(str(tmp_path), 0), accumulate_grad_batches=2)
    assert len(torch.load(tmp_path / "bad_batch_step_2.pt")["batches"]) == 2


@pytest.mark.parametrize("spoils", ["loss", "gradient"])
def test_a_step_is_left_out(spoils: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Weights and statistics are those of a run without that batch."""
    kept, other, callback = Fit(spoils), Fit(spoils), FiniteNumbers(str(tmp_path), 1)
    caplog.set_level(logging.WARNING, "stnrot")
    trainer = fit(kept, callback, gradient_clip_val=1.0)
    fit(other, FiniteNumbers(None, 0), GOOD, gradient_clip_val=1.0)
    assert kept.state_dict().keys() == other.state_dict().keys()
    assert torch.equal(kept.norm.running_var, other.norm.running_var)
    assert all(value.isfinite().all() for value in kept.state_dict().values())
    assert trainer.global_step == 4
    assert "step 3, at the learning rate 0.75, with the samples 4, 5 (saved in" in caplog.text
    assert "left out, 1 of 1" in caplog.text
    again = FiniteNumbers(None, 1)
    again.load_state_dict(callback.state_dict())
    with pytest.raises(InputError, match="step 3"):
        fit(Fit(spoils), again)


def test_a_folder_that_cannot_be_written_does_not_hide_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^the loss is nan.*\(the batch could not be saved: .*Not a directory"):
        fit(Fit("loss"), FiniteNumbers(str(tmp_path / "file" / "run"), 0))


def test_half_precision_may_overflow_until_its_scale_is_below_1_which_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stnrot.callbacks.finite_numbers.UNDERFLOW_EVERY", 1)
    caplog.set_level(logging.WARNING, "stnrot")
    for scale, factor in ((2.0, 1e38), (0.5, 1.0)):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        fit(
            Fit("nothing", factor),
            FiniteNumbers(None, 0),
            GOOD[:1],
            plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
        )
        assert ("its loss scale has fallen to 0.5" in caplog.text) == (scale < 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=0.5)
    with pytest.raises(InputError, match="the norm of the gradient is nan"):
        fit(Fit("gradient"), FiniteNumbers(None, 0), plugins=[MixedPrecision("16-mixed", "cpu", scaler)])


def test_a_job_that_fails_in_its_first_step_keeps_the_batch(job: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step 1, at the learning rate .* and 80 more") as stopped:
        job("task.classification_weight=1e38", "task.scheduler=null", "task.optimizer.lr=1e38", "data.n_train=200")
    assert "task.optimizer.lr" in str(stopped.value)
    saved = torch.load(tmp_path / "run" / "bad_batch_step_1.pt")
    assert saved["batches"][0]["image"].shape == (100, 1, 28, 28)
    assert composed("train").callbacks.finite.skip == 0

"""A checkpoint within an epoch is refused on another training set: its rest would not be what the run has left."""

from pathlib import Path
from shutil import copy2
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stnrot.callbacks.last_checkpoint import LastCheckpoint
from stnrot.errors import InputError


class Small(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Kept(LastCheckpoint):
    """Keeps a file of each place."""

    def save(self, trainer: L.Trainer, place: Any) -> None:
        super().save(trainer, place)
        copy2(self.path, self.path.with_name(f"{place}.ckpt"))


class Samples(list[Tensor]):
    """A training set that says what it holds, as shards do."""

    fingerprint: str | None = None


def train(folder: Path, samples: int, epochs: int = 1, path: Path | None = None, content: str | None = None) -> int:
    """Train in steps of one sample; return their number."""
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    kept = Kept(str(folder), every_n_steps=4, every_minutes=None)
    trainer = L.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[kept], **quiet)
    data = Samples([torch.ones(1)] * samples)
    data.fingerprint = content
    trainer.fit(Small(), DataLoader(data), ckpt_path=path, weights_only=True)  # type: ignore[arg-type]
    return trainer.global_step


def test_another_training_set(tmp_path: Path) -> None:
    assert train(tmp_path, 6) == 6
    cut = copy2(tmp_path / "batch.ckpt", tmp_path / "cut.ckpt")  # after four of six
    end = copy2(tmp_path / "epoch.ckpt", tmp_path / "end.ckpt")
    with pytest.raises(InputError, match=r"cut.ckpt stands within an epoch of 6 training samples, .* got 8: restore"):
        train(tmp_path, 8, path=cut)
    train(tmp_path, 6, path=cut)
    assert train(tmp_path, 8, epochs=2, path=end) == 6 + 8

    old = torch.load(cut, weights_only=True)
    del old["stands_at"]["samples"]  # of an earlier version
    torch.save(old, cut)
    train(tmp_path, 8, path=cut)


def test_as_many_samples_of_other_shards(tmp_path: Path) -> None:
    train(tmp_path, 6, content="a")
    cut = copy2(tmp_path / "batch.ckpt", tmp_path / "cut.ckpt")
    end = copy2(tmp_path / "epoch.ckpt", tmp_path / "end.ckpt")
    with pytest.raises(InputError, match=r"cut.ckpt stands within an epoch of other shards: restore those of that run"):
        train(tmp_path, 6, path=cut, content="b")
    train(tmp_path, 6, path=cut, content="a")
    train(tmp_path, 6, path=cut)  # now in memory
    train(tmp_path, 6, epochs=2, path=end, content="b")

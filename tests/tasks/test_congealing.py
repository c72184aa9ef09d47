"""Training without angle labels that begins with the angles of congealing."""

import math
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from conftest import NO_FIGURES, composed, metrics_of, rows
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from PIL import Image, ImageOps
from same_run import TABLE
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from torch.utils.data import DataLoader

from stnrot.data.batch import Batch
from stnrot.data.rng import Split
from stnrot.errors import InputError
from stnrot.tasks.congealing import Confusion, Congealing


@pytest.fixture
def congealing() -> Congealing:
    """Return the means of three classes of nines and of the sixes, which lie upside down on the nines."""
    chosen = load_digits()
    nines, sixes = (chosen.images[chosen.target == digit] for digit in (9, 6))
    small = [*(nines[k::3].mean(0) for k in range(3)), np.rot90(sixes.mean(0), 2)]
    found = Congealing(epochs=2)
    found.means = torch.from_numpy(np.stack([ndimage.zoom(mean, 3, order=3) for mean in small]))[:, None].float()
    return found


def counts(pair: tuple[int, int], confused: int) -> torch.Tensor:
    """Return the counts if that many of 100 samples of the first class are taken for the second, and no others."""
    found = 100 * torch.eye(4).long()
    found[pair[0], pair] -= torch.tensor([confused, -confused])
    return found


def test_the_weight_falls_to_zero_in_the_last_epoch() -> None:
    shares = [Congealing(2).share(progress) for progress in (0.0, 0.9, 1.0, 1.25, 1.75, 2.0, 7.5)]
    assert shares == [1, 1, 1, 0.75, 0.25, 0, 0]


def test_confusions_count_in_the_half_epoch_before_the_last() -> None:
    assert [Congealing(3).counts(progress) for progress in (0.6, 1.4, 1.5, 1.9, 2.0, 3.6)] == [0, 0, 1, 1, 0, 0]
    assert not any(Congealing(1).counts(progress / 8) for progress in range(16))


def test_confusions_are_those_of_scikit_learn() -> None:
    label, found = torch.tensor([0, 1, 2, 3, 3, 3]), torch.tensor([0, 1, 3, 3, 2, 2])
    metric = Confusion(4)
    for part in (slice(4), slice(4, 6)):
        metric.update(torch.eye(4)[found[part]], label[part])
    assert metric.compute().tolist() == confusion_matrix(label, found).tolist()


@pytest.mark.parametrize("pair", [(2, 3), (3, 2)])
def test_of_two_confused_classes_the_one_that_fits_less_is_turned(
    congealing: Congealing, pair: tuple[int, int]
) -> None:
    """A class of nines is like the other two, the sixes are less; so these get half a turn, and their angles too."""
    image = congealing.means
    assert image is not None
    image, label = image.clone(), torch.arange(4)
    before = congealing.angle(image, label)
    congealing.separate(counts(pair, 1))
    assert torch.equal(congealing.means, image), "one in 200 is too few"
    congealing.separate(counts(pair, 40))
    moved = torch.remainder(congealing.angle(image, label) - before, 2 * math.pi)
    torch.testing.assert_close(moved, torch.tensor([0, 0, 0, math.pi]), atol=1e-4, rtol=0)


def test_of_two_classes_one_is_turned(congealing: Congealing) -> None:
    assert congealing.means is not None
    congealing.means = congealing.means[2:].clone()
    before = congealing.means.clone()
    congealing.separate(torch.tensor([[50, 50], [50, 50]]))
    changed = [not torch.equal(one, other) for one, other in zip(before, congealing.means, strict=True)]
    assert sorted(changed) == [False, True]


def test_the_angles_are_those_of_the_rotations_but_for_an_upright_of_the_class(tmp_path: Path) -> None:
    """Of image files with 48 pixels; they are congealed at 32."""
    chosen = load_digits()
    for digit in (3, 9):
        (tmp_path / str(digit)).mkdir()
        for place, image in enumerate(chosen.images[chosen.target == digit][:80]):
            small = Image.fromarray((image * 15.9).astype(np.uint8)).resize((40, 40), Image.Resampling.BICUBIC)
            ImageOps.expand(small, 4).save(tmp_path / str(digit) / f"{place}.png")
    options = ("data=image_folder", f"data.root={tmp_path}", "data.source.image_size=[48,48]", "data.source.channels=1")
    data = instantiate(composed("train", *options).data, _convert_="all")
    data.setup()
    congealing = Congealing(epochs=2)
    congealing.find(data, torch.device("cpu"))
    assert congealing.means is not None
    assert congealing.means.shape == (2, 1, 32, 32)
    batch = data.view(data.splits.train.__getitems__(torch.arange(len(data.splits.train))), Split.TRAIN)
    assert batch.image.shape[2:] == (48, 48)
    error = np.exp(1j * (congealing.angle(batch.image, batch.label) - batch.angle).numpy())
    for label in (0, 1):
        own = error[batch.label.numpy() == label]
        assert np.median(np.abs(np.angle(own / own.mean(), deg=True))) < 8


def test_a_job_teaches_them_for_as_long_as_it_is_told(job: Callable[..., tuple[float, Path]]) -> None:
    _, folder = job("task.congeal_epochs=2", "task.angle_spread_deg=12", "trainer.max_epochs=3", NO_FIGURES)
    losses = {row["epoch"]: row["train/angle_loss"] for row in rows(folder / TABLE) if row["train/loss"]}
    assert [bool(losses[epoch]) for epoch in "012"] == [True, True, False]
    metrics = metrics_of(folder)
    assert "test/angle_dispersion_median_deg" in metrics
    assert not {"test/angle_loss", "test/angle_median_deg"} & metrics.keys()
    onto_known, back = folder.parent / "known", folder.parent / "back"
    start = f"start_from='{folder / 'checkpoints' / 'last.ckpt'}'"
    job(start, NO_FIGURES, folder=onto_known)
    job(f"start_from='{onto_known / 'checkpoints' / 'last.ckpt'}'", "task.congeal_epochs=1", NO_FIGURES, folder=back)


class Noise(L.LightningDataModule):
    """Batches that are made after the transfer."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.arange(8), batch_size=4)

    def on_after_batch_transfer(self, batch: torch.Tensor, dataloader_idx: int) -> Batch:
        return Batch(batch, torch.rand(4, 1, 28, 28), None, None, batch)


def test_a_datamodule_of_another_kind_is_refused_in_one_line() -> None:
    config = composed("train", "task.congeal_epochs=1", "task.scheduler=null")
    config.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
    task = instantiate(config.task, model=instantiate(config.model))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    with pytest.raises(InputError, match="congeal_epochs=1: expected a datamodule of images"):
        trainer.fit(task, datamodule=Noise())


@pytest.mark.parametrize(
    "options", [("model=cnn",), ("task.angle_weight=0",), ("task=classify", "model.reference=batch")]
)
def test_it_needs_an_encoder_and_a_weight(options: tuple[str, ...]) -> None:
    config = composed("train", "task.congeal_epochs=1", *options)
    config.data_spec = {"channels": 1, "height": 28, "width": 28, "classes": 10}
    with pytest.raises(InstantiationException, match="congeal_epochs=1: expected 0, or model=rot_stn"):
        instantiate(config.task, model=instantiate(config.model))

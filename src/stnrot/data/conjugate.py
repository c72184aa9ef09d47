"""Samples of a function behind a hidden rotation: points z and R^T f(R z)."""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stnrot.data.batch_samplers import EvaluationBatches, TrainingBatches
from stnrot.data.image_data import as_fetched
from stnrot.errors import check_number
from stnrot.layers.conjugate import Conjugate
from stnrot.layers.rotation import Rotation
from stnrot.layers.scaled_tanh import ScaledTanh

SHARES = {"test": 0.1, "val": 0.1, "train": 1.0}


@dataclass(frozen=True)
class Samples:
    """Points and what becomes of them."""

    z: Float[Tensor, "N d"]
    y: Float[Tensor, "N d"]

    def __len__(self) -> int:
        return len(self.z)

    def __getitems__(self, draws: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"]]:
        """Return a batch, by draws of a whole run or places in the set."""
        index = draws % len(self)
        return self.z[index], self.y[index]


class ConjugateData(L.LightningDataModule):
    r"""Draw z and `y = R^T f(R z) + noise`, with R from the Haar measure and f a curve for each coordinate.

    The noise is in the training set alone.

    Args:
        dim: d.
        samples: to train on; a tenth as many to validate, and to test.
        scale: standard deviation of z; the curves bend at 1.
        noise: standard deviation of what is added to each coordinate of y.
        batch_size: samples a step over all processes.
        seed: of the order of the samples.
        split_seed: of R, f and the samples.
    """

    truth: Conjugate
    parts: dict[str, Samples]

    def __init__(
        self, *, dim: int, samples: int, scale: float, noise: float, batch_size: int, seed: int, split_seed: int
    ) -> None:
        super().__init__()
        check_number("data.dim", dim, 2)
        check_number("data.samples", samples, 10)
        check_number("data.scale", scale, 1e-3, whole=False)
        check_number("data.noise", noise, 0, whole=False)
        check_number("data.batch_size", batch_size, 1)
        self.dim, self.samples, self.scale, self.noise = dim, samples, scale, noise
        self.batch_size, self.seed, self.split_seed = batch_size, seed, split_seed

    def setup(self, stage: str | None = None) -> None:
        """Draw everything, once."""
        if hasattr(self, "parts"):
            return
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.split_seed)
            curves = ScaledTanh(self.dim)
            nn.init.uniform_(curves.log_height, -0.7, 0.7)
            self.truth = Conjugate(curves, Rotation(self.dim, init="haar"))
            self.parts = {}
            for part, share in SHARES.items():
                z = self.scale * torch.randn(int(share * self.samples), self.dim)
                y = self.truth(z)
                self.parts[part] = Samples(z, y + self.noise * torch.randn_like(y) if part == "train" else y)

    def spec(self) -> dict[str, int]:
        """Return what a model must know of the data."""
        return {"dim": self.dim}

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of the training set."""
        assert self.trainer is not None
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return self._loader(
            "train",
            TrainingBatches(self.samples, self.batch_size, 1, self.seed, lambda: progress.processed, self._process()),
        )

    def val_dataloader(self) -> DataLoader:
        """Return the validation set, in order."""
        return self._loader("val", EvaluationBatches(len(self.parts["val"]), self.batch_size, self._process()))

    def test_dataloader(self) -> DataLoader:
        """Return the test set, in order."""
        return self._loader("test", EvaluationBatches(len(self.parts["test"]), self.batch_size, self._process()))

    def _process(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    def _loader(self, part: str, batches: TrainingBatches | EvaluationBatches) -> DataLoader:
        return DataLoader(
            self.parts[part],  # type: ignore[arg-type]  # fetched through __getitems__ alone
            batch_sampler=batches,  # type: ignore[arg-type]
            collate_fn=as_fetched,
        )

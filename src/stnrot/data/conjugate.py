"""Samples of a function of rotated points: z and R^T f(R z), with R and f to be found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stnrot.data.datamodule import DataModule
from stnrot.data.rng import Split
from stnrot.errors import InputError, check_number
from stnrot.layers.conjugate import Conjugate
from stnrot.layers.rotation import Rotation
from stnrot.layers.scaled_tanh import ScaledTanh

SHARES = {"test": 0.1, "val": 0.1, "train": 1.0}  # of `samples`, in the order in which the sets are drawn


@dataclass(frozen=True)
class Samples:
    """Points z and their values y."""

    z: Float[Tensor, "N d"]
    y: Float[Tensor, "N d"]

    def __len__(self) -> int:
        return len(self.z)

    def __getitems__(self, counters: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"]]:
        """Return a batch, by counters (see `RawBatch`)."""
        index = counters % len(self)
        return self.z[index], self.y[index]


class ConjugateData(DataModule):
    r"""Draw points z and `y = R^T f(R z) + noise`: R follows the Haar measure, f is a curve for each coordinate.

    Only the training set has noise.

    Args:
        dim: d, the dimension of the points.
        samples: size of the training set. The validation set and the test set have a tenth of it each.
        scale: standard deviation of z. The curves bend at 1.
        noise: standard deviation of the Gaussian noise on each coordinate of y.
        batch_size: samples in one step, over all processes together.
        seed: of the order of the training samples.
        split_seed: of R, f and the samples.
    """

    more_samples = "raise data.samples"

    truth: Conjugate
    parts: dict[str, Samples]

    def __init__(
        self, *, dim: int, samples: int, scale: float, noise: float, batch_size: int, seed: int, split_seed: int
    ) -> None:
        super().__init__(batch_size=batch_size, repeats=1, seed=seed, split_seed=split_seed)
        check_number("dim", dim, 2)
        check_number("samples", samples, 10)
        check_number("scale", scale, 1e-3, whole=False)
        check_number("noise", noise, 0, whole=False)
        self.dim, self.samples, self.scale, self.noise = dim, samples, scale, noise

    def setup(self, stage: str | None = None) -> None:
        """Draw R, f and the samples, once."""
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

    def dataset(self, split: Split) -> Samples:
        """Return one of the three sets."""
        return self.parts[split.name.lower()]

    def spec(self) -> dict[str, Any]:
        """Return the dimension of the points."""
        return {"dim": self.dim}

    def check_trained_on(self, trained: Mapping[str, Any], model: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise InputError if a model was trained on points of another dimension."""
        super().check_trained_on(trained, model, checkpoint)
        if trained["dim"] != self.dim:
            raise InputError(
                f"{checkpoint} was trained on points with dim={trained['dim']}, this data has {self.dim}: "
                f"set data.dim={trained['dim']}"
            )

"""The trained parts of the photographs benchmark. Each is kept below a folder, and trained only if it is not there."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from harness.jobs import QUICK, best, run_job
from harness.photograph_equiadapt import canonicaliser, train_canonicaliser
from harness.photograph_network import WIDTHS, PhotographCNN, seconds_a_step, train_network, turned, upright
from harness.plain_loop import built, stepper, training_batches
from stnrot import Upright
from stnrot.data.image_set import ImageSet
from stnrot.data.rotated import RotatedImages
from stnrot.errors import InputError
from stnrot.models.rot_stn import RotSTN
from stnrot.runs.checkpoints import read_checkpoint, rebuild

ENCODER = ("experiment=upright_photos",)
CNN_ENCODER = (*ENCODER, "model/encoder=cnn", "model.reference=learned", "~model.encoder.mirrored")  # of p4
PARTS = ("network", "encoder", "behind", "turned", "cnn", "equiadapt", "equiadapt_optimised")  # in this order
QUICK_WIDTHS = (24, 24, 24)


@dataclass(frozen=True)
class Part:
    """A trained network, the core-minutes that it took (None if they are not known), and its number of parameters."""

    module: Any
    core_minutes: float | None
    parameters: int


@dataclass(frozen=True)
class Parts:
    """Train and read the parts of each seed.

    Args:
        folder: holds PART/SEED.pt, or PART/SEED/ for a run of train.py.
        root: folder of CIFAR-10.
        data: of experiment=upright_photos.
        cnn: the configuration of `CNN_ENCODER`.
        epochs: of the network.
        encoder_minutes: core-minutes to take for those of the encoder, if it is not trained yet.
        device: cpu or cuda.
        quick: tiny sizes.
    """

    folder: Path
    root: Path
    data: RotatedImages
    cnn: DictConfig
    epochs: int
    encoder_minutes: float | None
    device: str
    quick: bool

    def part(self, name: str, seed: int) -> Part:
        """Return a part; train it first if the folder lacks it."""
        return self.run(name, seed) if name in ("encoder", "cnn") else self.network(name, seed)

    def network(self, name: str, seed: int) -> Part:
        """Return a network that is trained here."""
        train = self.data.splits.train
        assert isinstance(train, ImageSet)
        assert train.label is not None
        torch.manual_seed(seed)
        widths = QUICK_WIDTHS if self.quick else WIDTHS
        module: Any
        if name.startswith("equiadapt"):
            module = canonicaliser(name == "equiadapt_optimised", train.shape[-1])
        else:
            module = PhotographCNN(widths, len(self.data.splits.classes))
        module.to(self.device)
        path = self.folder / name / f"{seed}.pt"
        if not path.exists():
            images, labels = train.image.to(self.device), train.label.to(self.device)
            work: Callable[[], int]
            if name == "network":
                work = lambda: train_network(module, images, labels, seed, upright, self.epochs)  # noqa: E731
            elif name == "behind":
                found = Upright(nn.Identity(), self.part("encoder", seed).module).eval()
                work = lambda: train_network(module, images, labels, seed, aligned(found), self.epochs)  # noqa: E731
            elif name == "turned":
                minutes = self.minutes("encoder", seed) + self.minutes("network", seed)
                work = lambda: train_network(module, images, labels, seed, turned, None, minutes)  # noqa: E731
            else:
                minutes = self.minutes("encoder", seed)
                work = lambda: train_canonicaliser(module, images, seed, minutes)  # noqa: E731
            self.keep(path, module, seed, work)
        found = torch.load(path, map_location=self.device, weights_only=True)
        module.train().load_state_dict(found["state_dict"])
        return Part(module.eval(), found["core_minutes"], found["parameters"])

    def keep(self, path: Path, module: nn.Module, seed: int, work: Callable[[], int]) -> None:
        """Train and write the weights, the seed, the epochs, the core-minutes and the number of parameters."""
        start = core_seconds()
        epochs = work()
        minutes = (core_seconds() - start) / 60
        found = {"seed": seed, "epochs": epochs, "core_minutes": minutes, "parameters": count(module)}
        print(f"{path}: {found}", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        torch.save(found | {"state_dict": module.train().state_dict()}, new)  # in eval mode e2cnn adds what it derives
        new.rename(path)

    def run(self, name: str, seed: int) -> Part:
        """Return the model of a run of train.py."""
        folder = self.folder / name / str(seed)
        if not (folder / "metrics.json").exists():
            overrides = [*(ENCODER if name == "encoder" else CNN_ENCODER), f"data.root={self.root}", f"seed={seed}"]
            overrides += [f"trainer={'gpu' if self.device == 'cuda' else 'cpu'}"]
            if name == "cnn" and not self.quick:
                overrides.append(f"trainer.max_epochs={self.epochs_of_cnn(seed)}")
            minutes = run_job("train.py", folder, [*overrides, *(QUICK * self.quick)], torch.get_num_threads())
            cost_file(folder).write_text(json.dumps({"core_minutes": minutes}) + "\n")
            print(f"{folder}: {minutes:.1f} core-minutes", file=sys.stderr, flush=True)
        checkpoint = best(folder)
        model: RotSTN = rebuild(read_checkpoint(checkpoint), checkpoint).model.eval()
        model.to(self.device).to(memory_format=torch.channels_last)
        return Part(model, cost_of(folder), count(model))

    def minutes(self, name: str, seed: int) -> float:
        """Return the core-minutes of the encoder or the network, which the other parts may use."""
        if name == "encoder" and self.encoder_minutes is not None:
            return self.encoder_minutes
        found = self.part(name, seed).core_minutes
        if found is None:
            path = cost_file(self.folder / name / str(seed))
            raise InputError(f'{path}: expected the core-minutes of the run, as {{"core_minutes": 60.0}}, got no file')
        return found

    def epochs_of_cnn(self, seed: int) -> int:
        """Return the epochs of encoder=cnn that take as long as the encoder."""
        task = built(self.cnn, self.device)
        optimizer = task.configure_optimizers()
        batches = training_batches(self.data, self.device)
        step = stepper(task, optimizer, self.device, False, self.cnn.trainer.gradient_clip_val)
        steps = self.data.repeats * len(self.data.splits.train) // self.data.batch_size
        seconds = seconds_a_step(lambda: step(next(batches)))
        return max(1, round(60 * self.minutes("encoder", seed) / (seconds * steps)))


def aligned(model: Upright) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Return a function that makes random pictures at any angle, and rotates them upright."""

    @torch.no_grad()
    def seen(pixels: Tensor, draw: torch.Generator) -> Tensor:
        return model.align(turned(pixels, draw))[0]

    return seen


def core_seconds() -> float:
    """Return the seconds that this process and those that it waited for have used of all cores."""
    return sum(os.times()[:4])


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(each.numel() for each in module.parameters())


def cost_file(folder: Path) -> Path:
    """Return the file with the core-minutes of a run."""
    return folder / "cost.json"


def cost_of(folder: Path) -> float | None:
    """Return the core-minutes of a run, if they are known."""
    path = cost_file(folder)
    return float(json.loads(path.read_text())["core_minutes"]) if path.exists() else None

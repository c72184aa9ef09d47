"""Whole jobs for tests: the real train and evaluate, composed by Hydra, small; pictures to give them."""

import csv
import logging
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image, load_sample_images
from torch import nn

torch.set_num_threads(1)  # tests run side by side, one a core: threads would wait for one another
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell, Ctrl-C would be ignored
Called = Callable[..., tuple[str | int | None, str]]
DEGREES = 34.0  # of `by_pillow`
ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    "COLUMNS": "200",
    "OMP_NUM_THREADS": "1",
    # no download, also where there is a network
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "",
}
SMALL = (
    "data.n_train=100",
    "data.repeats=1",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "callbacks.progress.refresh_rate=0",
    "callbacks.alignment_figures.samples=10",
)


def composed(name: str, *overrides: str) -> DictConfig:
    """Compose a configuration as the command line would."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def model(name: str, *overrides: str, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> nn.Module:
    """Build a model as a job would for such pictures."""
    config = composed("train", f"model={name}", *overrides)
    config.data_spec = dict(zip(("channels", "height", "width"), shape, strict=True)) | {"classes": classes}
    return instantiate(config.model, _convert_="all")


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., tuple[float, Path]]:
    """Train a small job in this process: returns the metric and the run's folder."""
    from train import train

    def run(*overrides: str, folder: Path | None = None) -> tuple[float, Path]:
        folder = folder or tmp_path / "run"
        folder.mkdir(exist_ok=True)
        return train(composed("train", *SMALL, f"output_dir={folder}", *overrides)), folder

    return run


def command(script: str, *arguments: str, cwd: Path = ROOT, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, as a user would."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=ENVIRONMENT,
    )


def stnrot(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    line = [str(Path(sys.executable).with_name("stnrot")), *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """Run a script in this process, which imports nothing anew; it must exit, and what it exits with is returned."""
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which a command sets; put back at the end

    def run(script: str, *arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        return stopped.value.code

    yield run
    logging.root.handlers[:] = handlers  # Hydra has put its own there
    logging.root.setLevel(level)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """Call `stnrot` in this process: returns what it exits with, which Python would print if it is text, and prints."""
    from stnrot.cli import main

    def call(*arguments: object, cwd: Path) -> tuple[str | int | None, str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["stnrot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr().out

    return call


def refused(called: Called, folder: Path, *arguments: object) -> str:
    """Return the one line with which `stnrot` refuses arguments; it leaves the folder as it was."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    message = str(called(*arguments, cwd=folder)[0])
    assert message.startswith("error: ")
    assert len(message.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return message


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that is made once, by the first of the workers of pytest-xdist that asks for it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def epochs(folder: Path) -> set[int]:
    """Return the epochs that a run trained itself: one that is resumed has not trained the first again."""
    return {int(row["epoch"]) for row in rows(folder / "csv" / "version_0" / "metrics.csv") if row["train/loss"]}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def scene(width: int, height: int, channels: int = 1) -> torch.Tensor:
    """An asymmetric picture with black around it, so that no turn cuts anything."""
    picture = Image.fromarray(load_sample_image("china.jpg")).crop((150, 30, 150 + width, 30 + height))
    pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L"), dtype=np.float32) / 255
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) / min(height, width)
    window = np.clip((0.48 - radius) / 0.1, 0, 1).astype(np.float32)
    return torch.from_numpy(np.atleast_3d(pixels * window[..., None] if channels == 3 else pixels * window)).permute(
        2, 0, 1
    )


def by_pillow(picture: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Rotate an image, and say by how many degrees."""
    turned = [Image.fromarray(c.numpy()).rotate(DEGREES, Image.Resampling.BICUBIC) for c in picture]
    return torch.from_numpy(np.stack(turned)), DEGREES


@pytest.fixture
def pair_manifest(tmp_path: Path) -> tuple[Path, list[float]]:
    """Eight pairs of photographs in files, turned by Pillow, and their angles in degrees."""
    photographs = [Image.fromarray(p).convert("L") for p in load_sample_images().images]
    angles, lines = [], ["image,reference,angle_deg,label"]
    for k in range(8):
        centre = photographs[k % 2].crop((60 + 20 * k, 60, 220 + 20 * k, 220))
        turns = 37.0 * k, 15.0 * k - 40
        for name, turn in zip(("image", "reference"), turns, strict=True):
            turned = centre.rotate(turn, Image.Resampling.BICUBIC)
            turned.resize((40, 40), Image.Resampling.BOX).save(tmp_path / f"{name}{k}.png")
        angles.append(turns[1] - turns[0])
        lines.append(f"image{k}.png,reference{k}.png,{angles[-1]},{'china' if k % 2 == 0 else 'flower'}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path, angles


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's folder: forty crops of two photographs, in two classes."""
    photographs = [Image.fromarray(p) for p in load_sample_images().images]
    for k in range(40):
        path = tmp_path / "mine" / ("temple", "flower")[k % 2] / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photographs[k % 2].crop((10 * k, 5 * k, 10 * k + 120, 5 * k + 90)).save(path)
    return tmp_path / "mine"


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the raw format of MNIST: the digits of scikit-learn in 28 x 28 pixels, tiled to 60,000 and 10,000."""
    return made_once(tmp_path_factory, "mnist", write_mnist)


def write_mnist(root: Path) -> None:
    """Write the digits of scikit-learn in MNIST's idx format, so that nothing is downloaded."""
    digits, labels = load_digits(return_X_y=True)
    images = np.kron(digits.reshape(-1, 8, 8), np.ones((3, 3))) * (255 / 16)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2))).round().astype(np.uint8)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        taken = np.arange(count) % len(images)
        header = np.array([0x803, count, 28, 28], dtype=">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images[taken].tobytes())
        header = np.array([0x801, count], dtype=">i4").tobytes()
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + labels[taken].astype(np.uint8).tobytes())

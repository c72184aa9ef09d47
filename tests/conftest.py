"""Small jobs for tests: the real `train` and `evaluate` in this process, or the commands in a process of their own."""

import copy
import csv
import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from itertools import compress
from pathlib import Path

import jaxtyping
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig
from sample_images import mine, pair_manifest, write_cifar10, write_mnist  # noqa: F401  # two are fixtures
from torch import nn

torch.set_num_threads(1)  # one test runs on each core
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background processes ignore Ctrl-C
Called = Callable[..., tuple[str | int | None, str]]
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
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}  # 127.0.0.1 and ::1 in /proc/net
NO_FIGURES = "callbacks.alignment_figures=null"  # drawing takes half the time of a small job
SMALL = (
    "data.n_train=100",
    "data.repeats=1",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "callbacks.progress.refresh_rate=0",
    "callbacks.alignment_figures.samples=10",
)


@cache
def chosen(name: str, *groups: str) -> DictConfig:
    """Compose the option files that are chosen: the slow part of composing."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose(name, overrides=list(groups))


def composed(name: str, *overrides: str) -> DictConfig:
    """Compose a configuration as the command line would; a choice of option files is composed once."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    groups = [(ROOT / "configs" / each.key_or_group).is_dir() for each in parsed]
    config = copy.deepcopy(chosen(name, *compress(overrides, groups)))
    ConfigLoaderImpl._apply_overrides_to_config(
        [each for each, group in zip(parsed, groups, strict=True) if not group], config
    )
    return config


def model(name: str, *overrides: str, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> nn.Module:
    """Build a model as a job would, for images of this shape."""
    config = composed("train", f"model={name}", *overrides)
    config.data_spec = dict(zip(("channels", "height", "width"), shape, strict=True)) | {"classes": classes}
    return instantiate(config.model, _convert_="all")


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., tuple[float, Path]]:
    """Train a small job in this process; returns its metric and its folder."""
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


def evaluated(ckpt: str, folder: Path, *overrides: str) -> Path:
    """Evaluate a run in this process; return the folder of the results."""
    from evaluate import evaluate

    folder.mkdir()
    evaluate(composed("evaluate", f"ckpt='{ckpt}'", f"output_dir={folder}", "trainer.accelerator=cpu", *overrides))
    return folder


def stnrot(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    line = [str(Path(sys.executable).with_name("stnrot")), *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """Run a script in this process, which saves its imports; returns what it exits with."""
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # restored at the end; a command sets it

    def run(script: str, *arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        return stopped.value.code

    yield run
    logging.root.handlers[:] = handlers  # Hydra replaces them
    logging.root.setLevel(level)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """Call `stnrot` in this process; returns its exit status, or its error message, and what it has printed."""
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
    """Call `stnrot` with bad arguments; return its error, one line. The folder must stay as it is."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    message = str(called(*arguments, cwd=folder)[0])
    assert message.startswith("error: ")
    assert len(message.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return message


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` fills once, although every worker of pytest-xdist calls this function."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a short run on digits: its model has learned hardly anything."""
    from train import train

    def make(folder: Path) -> None:
        train(composed("train", *SMALL, NO_FIGURES, f"output_dir={folder}"))

    return made_once(tmp_path_factory, "digits_run", make)


def listening(port: int) -> set[str]:
    """Return the addresses, in hexadecimal, at which this machine accepts connections to a port."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    places = [line[1].split(":") for line in lines if line[3] == "0A"]
    return {address for address, number in places if int(number, 16) == port}


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics_of(folder: Path) -> dict[str, float]:
    """Read the metrics of a finished job."""
    return json.loads((folder / "metrics.json").read_text())


def epochs(folder: Path) -> set[int]:
    """Return the epochs that a run has trained itself; a resumed run has not trained the first ones."""
    return {int(row["epoch"]) for row in rows(folder / "csv" / "version_0" / "metrics.csv") if row["train/loss"]}


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch off the checks of annotations that only tests have, as a user's values reach a constructor unchecked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def printed(unchecked: None, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """Run code as in a process without the checks of annotations that only tests have; returns the lines it prints."""

    def run(code: str) -> list[str]:
        exec(code, {"__name__": "__main__"})
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def lost_interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Send Ctrl-C to this process inside a weakref callback, where Python only prints the KeyboardInterrupt."""
    lost: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: lost.append(raised.exc_type))

    def interrupt() -> None:
        target = set[int]()
        reference = weakref.ref(target, lambda _: signal.raise_signal(signal.SIGINT))
        del target
        assert reference() is None
        assert lost == [KeyboardInterrupt]

    return interrupt


@pytest.fixture(autouse=True)
def _seeded() -> None:
    # without a GPU the generator itself: `torch.manual_seed` keeps the stack of each call, which takes 5 ms
    (torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed)(0)


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the raw format of MNIST: the digits of scikit-learn in 28 x 28 pixels, tiled to 60,000 and 10,000."""
    return made_once(tmp_path_factory, "mnist", write_mnist)


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with noise in the class folders of CIFAR-10: 20 images a class to train, 10 to test."""
    return made_once(tmp_path_factory, "cifar10_folders", write_cifar10)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that the command has finished, below outputs/."""

    def train(work: Path) -> None:
        done = command("train.py", *SMALL, "trainer.max_epochs=2", "trainer.precision=auto", cwd=work)
        assert done.returncode == 0, done.stderr

    folder = made_once(tmp_path_factory, "finished", train)
    (run,) = (folder / "outputs" / "train").glob("*/*")
    return run

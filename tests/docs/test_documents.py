"""Every command and every Python block of the documents runs, small and short; nothing in them can go stale unseen."""

import argparse
import contextlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from glob import glob
from pathlib import Path
from textwrap import dedent

import pytest
import torch
import trimesh
import yaml
from conftest import ENVIRONMENT, LOOPBACK, ROOT, command, composed, free_port, listening, made_once, stnrot
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.utils import get_class
from PIL import Image
from sklearn.datasets import load_sample_images

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from stnrot.geometry.euler import euler_to_matrix
from stnrot.geometry.splat import Camera, render
from stnrot.pose.point_clouds import torus

pytestmark = pytest.mark.ci
HISTORY = ("docs/results/archive.md", "docs/changelog.md")
PAGES = [
    *("README.md", "CONTRIBUTING.md", "benchmarks/README.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
TEXT = {page: (ROOT / page).read_text() for page in PAGES if page not in HISTORY}
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
BLOCKS = {page: [(found[2], dedent(found[3])) for found in BLOCK.finditer(text)] for page, text in TEXT.items()}
MY_PACKAGE = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(1, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
"""
SHOWN = {"text", "json", "yaml", "csv"}  # not run
WITHOUT = ("callbacks.progress=null", "callbacks.alignment_figures=null")  # tests/callbacks and tests/jobs have them
SMALL = ("debug=one_batch", "trainer.accelerator=cpu", "trainer.precision=32-true", "data.batch_size=16", *WITHOUT)
NOT_HERE = {  # part of a command: why it is composed and not run
    "trainer=gpu": "needs a GPU",
    "model/classifier=torchvision": "downloads weights; tests/runs trains with weights from a file",
    "data=cifar10": "needs CIFAR-10; tests/data/sources reads it in small",
    "trainer=ddp": "needs several devices; tests/jobs trains on two processes",
    "hydra/launcher=submitit_slurm": "needs SLURM",
    "data.root=https:": "needs a web server; tests/data/sources/shards and tests/jobs have one on loopback",
    "storage=postgresql:": "needs a server",
    "storage=/shared/": "needs a file system that machines share",
}
PARTS = {  # in sentences: a pattern, and a part of a command; `stnrot NAME` alone is the name of a command
    "python benchmarks/NAME.py --json docs/results/NAME.json",
    "python benchmarks/throughput.py --root data --against COMMIT",  # tests/benchmarks has both
    "python benchmarks/startup.py --against COMMIT",
    "python train.py experiment=NAME",
    "stnrot align --manifest",
    "stnrot align --stack",
    "stnrot predict --model model.onnx",
}


def commands() -> list[str]:
    """Return the commands of all pages, in blocks and in sentences, each once."""
    lines = []
    for page, text in TEXT.items():
        for language, block in BLOCKS[page]:
            lines += block.replace("\\\n", " ").splitlines() if language == "sh" else []
        inline = re.findall(r"`((?:[A-Z_]+=\S+ )?(?:python|stnrot|pip|pytest|tensorboard|mkdocs|bash) [^`]+)`", text)
        lines += [line for line in inline if line not in PARTS and not re.fullmatch(r"stnrot \w+", line)]
    words = [shlex.split(one, comments=True) for line in lines for one in line.split(" && ")]
    return list(dict.fromkeys(shlex.join(each) for each in words if each))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("page", [page for page in BLOCKS if any(language == "python" for language, _ in BLOCKS[page])])
def test_python(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in an empty folder, one after another in one namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stnrot.jobs.fit.VIEWS", 500)  # of an epoch
    namespace: dict[str, object] = {}
    for language, block in BLOCKS[page]:
        if language == "python":
            short = re.sub(r"^(epochs = |model, epochs = .*, )\d+$", r"\g<1>1", block, flags=re.MULTILINE)
            exec(compile(short, page, "exec"), namespace)


def test_every_block_says_what_it_is() -> None:
    languages = {language for blocks in BLOCKS.values() for language, _ in blocks}
    assert languages <= SHOWN | {"python", "sh"}
    assert "sh" in languages


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, mnist_root: Path) -> Path:
    """A folder with what the commands name, FOLDER and DATE too: images, tables, finished runs, a study."""

    def make(folder: Path) -> None:
        photographs = [Image.fromarray(each).resize((96, 64)) for each in load_sample_images().images]
        photographs[0].save(folder / "image.png")
        photographs[0].rotate(20).save(folder / "reference.jpg")
        for k in range(12):
            path = folder / "FOLDER" / ("temple", "flower")[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photographs[k % 2].rotate(k).save(path)
            photographs[k % 2].rotate(-30 * k).save(folder / f"reference{k}.png")
        pairs = [f"FOLDER/{('temple', 'flower')[k % 2]}/{k}.png,reference{k}.png,{-31 * k}" for k in range(12)]
        (folder / "pairs.csv").write_text("\n".join(["image,reference,angle_deg", *pairs]) + "\n")
        seen = render(torus(), euler_to_matrix(torch.tensor([0.9, -0.6]), "XZ"), Camera())
        Image.fromarray((seen * 255).round().byte().numpy()).save(folder / "torus.png")
        (folder / "frames").mkdir()
        frames = [photographs[0].rotate(k) for k in range(3)]
        frames[0].save(folder / "movie.tif", save_all=True, append_images=frames[1:])
        for k, frame in enumerate(frames):
            frame.save(folder / "frames" / f"{k}.png")
        trimesh.PointCloud(torus()[::10].numpy()).export(folder / "part.ply")
        (folder / "data").symlink_to(mnist_root)
        runs = folder / "outputs" / "train" / "DATE"
        for number in range(3):
            _train(runs / "TIME-multirun" / str(number), f"seed={number + 1}")
        (folder / "outputs" / "train" / "...").symlink_to(runs / "TIME-multirun" / "0")
        _train(folder / "pose", "experiment=torus_pose")
        (folder / "about.md").write_text("# A model\n")
        published = ["publish", runs / "TIME-multirun" / "0", folder / "my-model"]
        done = stnrot(*published, "--about", folder / "about.md", "--licence", "mit", cwd=folder)
        assert done.returncode == 0, done.stderr
        done = stnrot("shards", folder / "FOLDER", folder / "shards", cwd=folder)
        assert done.returncode == 0, done.stderr
        search = [
            "-m",
            "hparams_search=rot_stn",
            *SMALL,
            "callbacks.alignment_figures=null",
            "hydra.sweeper.n_trials=2",
        ]
        done = command("train.py", *search, cwd=folder)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "documents", make)


def _train(folder: Path, *overrides: str) -> None:
    from train import train

    folder.mkdir(parents=True)
    train(composed("train", *SMALL, f"output_dir={folder}", *overrides))


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for a command, with all of `world` in it."""
    for path in world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "my_package.py").write_text(MY_PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", commands(), ids=lambda line: line.replace("/", "."))
def test_command(line: str, request: pytest.FixtureRequest) -> None:
    words = shlex.split(line)
    while "=" in words[0]:  # variables of the environment
        words.pop(0)
    for start, run in RUNS.items():
        if words[: len(start)] == list(start):
            run(words[len(start) :], request)
            return
    pytest.fail(f"{line}: no way to run it; expected one of {[' '.join(start) for start in RUNS]}")


def run_resume(overrides: list[str], request: pytest.FixtureRequest) -> None:
    """Resume a copy of a finished run; an epoch has one batch."""
    place = request.getfixturevalue("place")
    runs = place / "outputs" / "train" / "DATE" / "TIME-multirun"
    world = runs.resolve()
    (place / "outputs").unlink()
    shutil.copytree(world / "0", runs / "0")
    done = command("train.py", *overrides, cwd=place)
    assert done.returncode == 0, done.stderr
    assert ("has finished" in done.stdout) == (len(overrides) == 1)
    assert (runs / "0" / "metrics.json").is_file()


def run_train(overrides: list[str], request: pytest.FixtureRequest) -> None:
    """Train on one batch, each job of a grid, a search with the first value of every range."""
    if overrides[0].startswith("resume="):
        run_resume(overrides, request)
        return
    if overrides[0].startswith("--"):  # shows something
        done = command("train.py", *overrides)
        assert done.returncode == 0, done.stderr
        assert done.stdout
        return
    jobs = _jobs(overrides[1:]) if overrides[0] == "-m" else [overrides]
    if any(part in " ".join(overrides) for part in NOT_HERE):
        for job in jobs:
            composed("train", *job)
        return
    place = request.getfixturevalue("place")
    for number, job in enumerate(jobs):
        _train(place / f"run{number}", *job)
        assert (place / f"run{number}" / "metrics.json").is_file()


def run_evaluate(overrides: list[str], request: pytest.FixtureRequest) -> None:
    """Test on one batch."""
    from evaluate import evaluate

    if any(part in " ".join(overrides) for part in NOT_HERE):
        composed("evaluate", *overrides)
        return
    place = request.getfixturevalue("place")
    out = place / "results"
    out.mkdir()
    small = ("trainer.accelerator=cpu", "+trainer.limit_test_batches=1", *WITHOUT)
    assert evaluate(composed("evaluate", *overrides, *small, f"output_dir={out}"))
    assert (out / "metrics.json").is_file()


def run_stnrot(arguments: list[str], request: pytest.FixtureRequest) -> None:
    """Call the command on small files."""
    place, called = request.getfixturevalue("place"), request.getfixturevalue("called")
    if arguments[0] == "export":  # tests/export checks annotations
        request.getfixturevalue("unchecked")
    if arguments[0] == "pose":
        (place / "image.png").unlink()
        (place / "image.png").symlink_to(place / "torus.png")
        if "--ckpt" in arguments:
            (place / "outputs").unlink()
            (place / "outputs" / "train").mkdir(parents=True)
            (place / "outputs" / "train" / "...").symlink_to(place / "pose")
    if arguments[0] in ("publish", "shards"):  # it is written anew
        (place / {"publish": "my-model"}.get(arguments[0], arguments[0])).unlink()
    if "--in-place" in arguments:
        (place / "FOLDER").unlink()
        shutil.copytree(request.getfixturevalue("world") / "FOLDER", place / "FOLDER")
    arguments = [name for each in arguments for name in (sorted(glob(each)) or [each])]  # as a shell does
    code, printed = called(*arguments, cwd=place)
    assert code == 0, code
    if "--out" in arguments:
        assert (place / arguments[arguments.index("--out") + 1]).stat().st_size > 0
    else:
        assert printed


def run_server(program: str, *first: str) -> Callable[[list[str], pytest.FixtureRequest], None]:
    """Start a server, read its first page, stop it. No other machine can reach it."""

    def run(arguments: list[str], request: pytest.FixtureRequest) -> None:
        port = free_port()
        binary = Path(sys.executable).with_name(program)
        line = [str(binary), *first, *arguments, "--port", str(port)]
        place = request.getfixturevalue("place")
        with (place / "printed").open("w") as printed:
            server = subprocess.Popen(line, cwd=place, stdout=printed, stderr=printed, env=ENVIRONMENT)
        try:
            assert "<html" in _fetch(f"http://127.0.0.1:{port}/", server).lower(), (place / "printed").read_text()
            assert set() < listening(port) <= LOOPBACK
        finally:
            server.terminate()
            server.wait(60)

    return run


def _fetch(url: str, server: subprocess.Popen[bytes]) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return opener.open(url, timeout=60).read().decode()
        time.sleep(0.2)
    return ""


def run_pip(arguments: list[str], request: pytest.FixtureRequest) -> None:
    """Check that the extras exist; the commands of README.md are typed by .ci/run."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {re.split(r"[\[<>=~! ]", each)[0] for group in groups.values() for each in group}
    for wanted in (each for each in arguments if not each.startswith("-")):
        name, _, extras = wanted.rstrip("]").partition("[")
        assert name in known | {".", "stnrot"}
        assert set(filter(None, extras.split(","))) <= groups.keys()


def run_pytest(arguments: list[str], request: pytest.FixtureRequest) -> None:
    """Check that the marker or the paths exist; `-n auto` is an option of pytest-xdist."""
    if arguments[:2] == ["-n", "auto"]:
        arguments = arguments[2:]
    if arguments[:1] == ["-m"]:
        names = {marker.partition(":")[0] for marker in request.config.getini("markers")}
        assert set(arguments[1:]) <= names
    else:
        assert all((ROOT / argument.partition("::")[0]).exists() for argument in arguments)


def run_benchmark(script: str) -> Callable[[list[str], pytest.FixtureRequest], None]:
    """Check that the benchmark takes such arguments; tests/benchmarks runs it."""

    def run(arguments: list[str], request: pytest.FixtureRequest) -> None:
        monkeypatch = request.getfixturevalue("monkeypatch")
        parse = argparse.ArgumentParser.parse_args

        class Parsed(Exception):
            pass

        def parse_only(parser: argparse.ArgumentParser, *given: object) -> None:
            parse(parser, *given)  # type: ignore[arg-type]
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        monkeypatch.syspath_prepend(ROOT / "benchmarks")
        with pytest.raises(Parsed):
            runpy.run_path(str(ROOT / script), run_name="__main__")

    return run


def run_shell_script(arguments: list[str], request: pytest.FixtureRequest) -> None:
    """Check the script's syntax: it would run these tests."""
    subprocess.run(["bash", "-n", *arguments], cwd=ROOT, check=True)


def run_pre_commit(arguments: list[str], request: pytest.FixtureRequest) -> None:
    """Check that there are hooks to install."""
    assert yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]


def run_mkdocs(arguments: list[str], request: pytest.FixtureRequest) -> None:
    """Check the command; tests/docs/test_site.py builds the site."""
    assert arguments[0] in ("serve", "build")
    assert (ROOT / "mkdocs.yml").is_file()


RUNS: dict[tuple[str, ...], Callable[[list[str], pytest.FixtureRequest], None]] = {
    ("python", "train.py"): run_train,
    ("python", "evaluate.py"): run_evaluate,
    ("stnrot", "train"): run_train,
    ("stnrot", "evaluate"): run_evaluate,
    ("stnrot", "demo"): run_server("stnrot", "demo"),
    ("stnrot",): run_stnrot,
    ("tensorboard",): run_server("tensorboard"),
    ("optuna-dashboard",): run_server("optuna-dashboard"),
    ("pip", "install"): run_pip,
    ("pytest",): run_pytest,
    ("bash",): run_shell_script,
    ("pre-commit", "install"): run_pre_commit,
    ("mkdocs",): run_mkdocs,
    **{
        ("python", f"benchmarks/{path.name}"): run_benchmark(f"benchmarks/{path.name}")
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
    },
}


def _jobs(overrides: list[str]) -> list[list[str]]:
    """Return jobs of a multirun that have each option of each sweep, but one seed and one value of each interval."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = [each.input_line or "" for each in parsed if not each.is_sweep_override()]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        hydra = compose("train", overrides=fixed, return_hydra_config=True).hydra
    for part in (hydra.sweeper, hydra.launcher):
        get_class(part._target_)
    space = [f"{key}={swept}" for key, swept in (hydra.sweeper.get("params") or {}).items()]
    values = []
    for sweep in OverridesParser.create().parse_overrides([*overrides, *space]):
        name, value = sweep.get_key_element(), sweep.value()
        if isinstance(value, IntervalSweep):
            values.append([f"{name}={value.start}"])
        elif sweep.is_sweep_override():
            values.append([f"{name}={each}" for each in sweep.sweep_string_iterator()][: 1 if name == "seed" else None])
    own = [each for each in fixed if not each.startswith(("hydra.", "hydra/"))]
    return [[*own, *(each[k % len(each)] for each in values)] for k in range(max(map(len, values), default=1))]

"""A disk that is full or read-only, and a folder that is deleted under a job: one line, and nothing written is lost."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import torch
from conftest import ENVIRONMENT, NO_FIGURES, ROOT, SMALL, metrics_of, stnrot
from optuna.trial import TrialState
from PIL import Image
from sklearn.datasets import load_sample_image

from stnrot.errors import InputError
from stnrot.runs.run_lock import NAME, alone_in, check_folders_stay

MODEL = ("--model", "photos")  # ships
OPTIONS = [*SMALL, "model=cnn", "model.classifier.width=8", NO_FIGURES]
TRAIN = [sys.executable, str(ROOT / "train.py")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, for those who may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file to delete."""
    filler = disk / "filler"
    for size in (4096, 1):  # the last page, too
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while file.write(bytes(size)):
                pass
    return filler


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with a photograph and its quarter turn, and a manifest of both."""
    picture = Image.fromarray(load_sample_image("china.jpg")).crop((150, 30, 400, 280))
    picture.save(tmp_path / "a.png")
    picture.rotate(90).save(tmp_path / "b.png")
    (tmp_path / "pairs.csv").write_text("image,reference\na.png,b.png\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("upright", "b.png", *MODEL, "--out", "disk/upright", "--overwrite"), id="upright"),
        pytest.param(("predict", "a.png", "b.png", *MODEL, "--out", "disk/t.csv"), id="predict"),
        pytest.param(("align", "--manifest", "pairs.csv", "--out", "disk/t.csv"), id="manifest"),
        pytest.param(("align", "b.png", "a.png", "--out", "disk/t.png"), id="aligned picture"),
        pytest.param(("align", "--stack", "a.png", "b.png", "--out", "disk/stack"), id="stack"),
        pytest.param(("export", "digits", "--images", "a.png", "--out", "disk/t.onnx"), id="onnx"),
        pytest.param(
            ("export", "digits", "--format", "safetensors", "--images", "a.png", "--out", "disk/w.safetensors"),
            id="safetensors",
        ),
    ],
)
def test_a_command_with_a_full_disk(disk: Path, pictures: Path, arguments: tuple[str, ...]) -> None:
    """It ends with one line and leaves nothing. With room it works, and what it has written then stays."""
    filler = fill(disk)
    before = files(disk)
    done = stnrot(*arguments, cwd=pictures)
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert files(disk) == before
    filler.unlink()
    done = stnrot(*arguments, cwd=pictures)
    assert done.returncode == 0, done.stderr
    assert len(files(disk)) > 0
    fill(disk)
    before = files(disk)
    stnrot(*arguments, cwd=pictures)
    assert files(disk) == before


@pytest.mark.slow
def test_a_run_with_a_full_disk(disk: Path) -> None:
    """The job ends with one line and a status that is not 0; the checkpoint before stays, and with room it resumes."""
    process = {"cwd": disk, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 240}
    first = subprocess.run([*TRAIN, *OPTIONS, "hydra.run.dir=run"], **process)
    assert first.returncode == 0, first.stderr
    good = torch.load(disk / "run" / "checkpoints" / "last.ckpt")
    filler = fill(disk)
    full = subprocess.run([*TRAIN, "resume=run", "trainer.max_epochs=3"], **process)
    assert full.returncode == 1
    check_refusal(full.stderr, "No space left on device")
    assert torch.load(disk / "run" / "checkpoints" / "last.ckpt")["global_step"] == good["global_step"]
    filler.unlink()
    assert_resumes(disk)


@pytest.mark.slow
def test_a_run_that_may_not_write_any_more(tmp_path: Path) -> None:
    """As above. Root may write to any folder but to one with this flag."""
    checkpoints = tmp_path / "run" / "checkpoints"
    try:
        with under_way(tmp_path, "not permitted"):
            if subprocess.run(["chattr", "+i", checkpoints], capture_output=True).returncode:
                pytest.skip("needs the right to change the flags of a folder")
    finally:
        subprocess.run(["chattr", "-i", checkpoints], check=False, capture_output=True)
    assert_resumes(tmp_path)


@pytest.mark.slow
def test_a_search_with_a_full_disk(disk: Path) -> None:
    """Finished trials stay, and the same command with room adds the others."""
    search = [*TRAIN, "-m", *OPTIONS, "debug=one_batch", "hparams_search=_search", "hydra.sweep.dir=search"]
    search.append("task.optimizer.lr=tag(log,interval(1e-4,1e-2))")
    study = disk / "search" / "study.db"
    process = {"cwd": disk, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 240}
    first = subprocess.run([*search, "hydra.sweeper.n_trials=1"], **process)
    assert first.returncode == 0, first.stderr
    filler = fill(disk)
    assert subprocess.run([*search, "hydra.sweeper.n_trials=2"], **process).returncode == 1
    filler.unlink()
    (kept,) = optuna.load_study(study_name=None, storage=f"sqlite:///{study}").trials
    assert kept.state == TrialState.COMPLETE
    assert subprocess.run([*search, "hydra.sweeper.n_trials=2"], **process).returncode == 0
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{study}").trials
    assert [each.state for each in trials].count(TrialState.COMPLETE) == 2


@pytest.mark.slow
def test_a_run_that_is_moved_while_it_trains(tmp_path: Path) -> None:
    """Its job ends with one line and makes no second folder; the moved run resumes."""
    with under_way(tmp_path, "was deleted, moved or replaced while its job ran"):
        (tmp_path / "run").rename(tmp_path / "moved")
    assert not (tmp_path / "run").exists()
    (tmp_path / "moved").rename(tmp_path / "run")
    assert_resumes(tmp_path)


@contextlib.contextmanager
def under_way(folder: Path, said: str) -> Iterator[None]:
    """Start a long job in the folder `run`, and enter once it has saved; at the exit the job has to end with a line."""
    line = [*TRAIN, *OPTIONS, "trainer.max_epochs=1000", "hydra.run.dir=run"]
    with subprocess.Popen(line, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (folder / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield
            check_refusal(process.communicate(timeout=120)[1], said)
        finally:
            process.kill()
    assert process.returncode == 1


def check_refusal(printed: str, said: str) -> None:
    (error,) = [each for each in printed.splitlines() if "rror" in each]
    assert said in error


def assert_resumes(folder: Path) -> None:
    epoch = torch.load(folder / "run" / "checkpoints" / "last.ckpt")["epoch"]
    line = [*TRAIN, "resume=run", f"trainer.max_epochs={epoch + 2}"]
    done = subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert metrics_of(folder / "run")
    assert not list((folder / "run").rglob(".*.stnrot-*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.mark.parametrize("replaced", [False, True])
def test_the_folder_of_a_job_is_deleted(folder: Path, replaced: bool) -> None:
    """The lock file of another job in the folder that has replaced it stays."""

    def job() -> None:
        with alone_in(folder):
            check_folders_stay()
            shutil.rmtree(folder)
            if replaced:
                folder.mkdir()
                (folder / NAME).touch()
            check_folders_stay()

    with pytest.raises(InputError, match="deleted, moved or replaced"):
        job()
    assert (folder / NAME).exists() == replaced


@pytest.mark.parametrize("deleted", [False, True])
def test_an_error_of_the_file_system(folder: Path, deleted: bool) -> None:
    """The folder that was deleted is named in its place."""

    def job() -> None:
        with alone_in(folder):
            if deleted:
                shutil.rmtree(folder)
            (folder / "x" / "y").write_text("")

    with pytest.raises(InputError if deleted else FileNotFoundError):
        job()

"""A job that is refused in the folder of another one is refused before Hydra writes its options there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.utils import setup_globals
from hydra.utils import instantiate

from stnrot.runs.run_lock import alone_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    return tmp_path


@pytest.fixture(autouse=True)
def _configs() -> Iterator[None]:
    setup_globals()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        yield


def begin(job: str, *options: str) -> None:
    """Begin a job, as Hydra does before it writes anything."""
    config = compose(job, list(options), return_hydra_config=True)
    instantiate(config.hydra.callbacks.earlier).on_run_start(config=config)


def begin_multirun(job: str, *options: str) -> None:
    config = compose(job, list(options), return_hydra_config=True)
    instantiate(config.hydra.callbacks.earlier).on_multirun_start(config=config)


def test_the_folder_of_another_run(folder: Path) -> None:
    here = f"hydra.run.dir={folder}"
    begin("train", f"hydra.run.dir={folder / 'new'}")
    begin("train", here, f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}")
    for job in (("train", here), ("evaluate", here, "ckpt=latest")):
        with pytest.raises(SystemExit, match="holds the checkpoints of a run already"):
            begin(*job)
    with pytest.raises(SystemExit, match="another job writes to"), alone_in(folder):
        begin("train", here)


def test_the_results_of_another_evaluation(tmp_path: Path) -> None:
    begin("evaluate", f"hydra.run.dir={tmp_path}", "ckpt=latest")
    (tmp_path / "metrics.json").touch()
    with pytest.raises(SystemExit, match="holds the results of another run"):
        begin("evaluate", f"hydra.run.dir={tmp_path}", "ckpt=latest")


@pytest.mark.parametrize("job", [("train",), ("evaluate", "ckpt=latest")])
def test_the_folder_of_another_multirun(tmp_path: Path, job: tuple[str, ...]) -> None:
    """A search resumes in its folder."""
    begin_multirun(*job, f"hydra.sweep.dir={tmp_path}")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "metrics.json").touch()
    with pytest.raises(SystemExit, match="holds the runs of another multirun"):
        begin_multirun(*job, f"hydra.sweep.dir={tmp_path}")
    if job == ("train",):
        begin_multirun("train", "hparams_search=_search", f"hydra.sweep.dir={tmp_path}")

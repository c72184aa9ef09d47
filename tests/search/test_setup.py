"""A search with wrong options is refused in one line, before anything is written."""

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import ROOT, SMALL
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from stnrot.runs.command_line import one_line

SPACE = ["hparams_search=_search", "model=cnn", "task.optimizer.lr=interval(1e-4,1e-2)"]


@pytest.fixture
def refused(ends: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the command in this process, in an empty folder; it must end with one line, which is returned."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        line = str(ends("train.py", "-m", *SMALL, "debug=one_batch", *options))
        assert line.startswith("error: ")
        assert len(line.splitlines()) == 1
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return line

    return run


@pytest.mark.ci
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["task.optimizr.lr=interval(1,2)"], "unknown key task.optimizr.lr"),
        (["model/classifier=choice(conv,nonsense)"], "nonsense"),
        (["data.n_train=5000,6000"], "data.n_train=5000"),
        (["monitor.metric=val/nonsense"], "monitor.metric=val/nonsense: expected a metric of the validation, val/acc"),
        (["monitor.metric=test/accuracy"], "a search compares validation metrics, expected val/..."),
        (["monitor.mode=max", "hydra.sweeper.direction=minimize"], "expected maximize, as monitor.mode=max"),
        (["monitor.mode=best"], "monitor.mode=best: expected min or max"),
        (["task.optimizer.lr=1e-3"], "nothing to search"),
        (["task.optimizer.lr=interval(2,1)"], "task.optimizer.lr=interval(2,1): "),
        (["hydra.sweeper.custom_search_space=stnrot.none"], "stnrot.none: expected the dotted name of a function"),
        (["hparams_search=rot_stn", "model=rot_stn", "model.hypotheses=3"], "is both fixed and searched"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: expected a whole number of at least 1"),
        (["hydra.sweeper.storage=sqlite:///nowhere/study.db"], "there is no folder nowhere"),
        (["hydra.sweeper.storage=postgresql://me:secret@127.0.0.1:1/x"], "cannot use the storage postgresql://me:***@"),
        (["hydra.sweeper.storage=other.db"], "cannot use the storage other.db"),
        (["hydra.sweeper.storage=sqlite:///other.db"], "not made by a search of this version of the project"),
        (["hydra.sweeper.storage=sqlite:///songs.db"], "sqlite:///songs.db is the database of another program"),
        (["hydra.sweeper.sampler.seed=abc"], "hydra.sweeper.sampler.seed=abc: expected a whole number"),
        (["+hydra.sweeper.sampler.nonsense=3"], "hydra.sweeper.sampler cannot be built: "),
        (["ckpt_path=best.ckpt"], "ckpt_path=best.ckpt: a search trains each trial from the start"),
        (["start_from=best.ckpt"], "start_from=best.ckpt: a search trains each trial from the start"),
        (["trainer=ddp"], "asks for 2 processes"),
        (["hydra/launcher=nonsense"], "pip install -e '.[parallel]' brings joblib"),
    ],
)
def test_wrong_options(refused: Callable[..., str], options: list[str], words: str) -> None:
    optuna.create_study(storage="sqlite:///other.db", study_name="_search").ask()
    with closing(sqlite3.connect("songs.db")) as database:  # a table that many programs have
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    line = refused(*(SPACE if "hparams_search=rot_stn" not in options else []), *options)
    assert words in line
    assert "secret" not in line


def test_trials_of_a_lost_study(refused: Callable[..., str]) -> None:
    Path("outputs/search/_search/0/checkpoints").mkdir(parents=True)
    assert "holds the trials of a study that is not in sqlite:///outputs/search/_search/study.db" in refused(*SPACE)


BAD = (0, -1, 2.5, "abc", "", None, True, [], [1], {"a": 1}, math.nan, math.inf, 10**30)
GOOD: dict[str, tuple[object, ...]] = {  # of BAD
    "direction": BAD,  # compared with monitor.mode later
    "storage": ("abc",),
    "study_name": ("abc",),
    "n_trials": (),
    "n_jobs": (),
    "max_failure_rate": (0,),
    "params": (None, "", 0, [], {"a": 1}),
    "custom_search_space": ("abc", "", None),
    "sampler": (),
    "sampler.seed": (0, None),
}


@pytest.mark.usefixtures("unchecked")
def test_every_bad_value_of_an_option_of_a_search_is_one_line_that_names_the_option() -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", ["hparams_search=_search", "hydra.sweeper.study_name=x"], return_hydra_config=True)
    plain: Any = OmegaConf.to_container(config.hydra.sweeper)
    assert {*plain, "sampler.seed"} == {*GOOD, "_target_"}
    plain |= {"direction": "minimize", "storage": "x", "sampler": plain["sampler"] | {"seed": 1}}

    def refusal(option: str, value: object) -> str | None:
        changed = OmegaConf.create({"hydra": {"sweeper": plain}})
        OmegaConf.update(changed, f"hydra.sweeper.{option}", value, merge=False)
        try:
            instantiate(changed.hydra.sweeper)
        except HydraException as error:
            return one_line(error)
        return None

    for option, good in GOOD.items():
        for value in BAD:
            line = refusal(option, value)
            assert (line is None) == (repr(value) in map(repr, good)), (option, value, line)
            assert line is None or line.startswith(f"hydra.sweeper.{option}="), line

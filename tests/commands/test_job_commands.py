"""`stnrot train` and `stnrot evaluate`: the jobs of train.py and evaluate.py, from any folder."""

import logging
import runpy
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import NO_FIGURES, ROOT, SMALL, Called, composed, metrics_of, stnrot
from omegaconf import OmegaConf

from stnrot.config_files import CONFIGS


@pytest.fixture
def calls(called: Called, monkeypatch: pytest.MonkeyPatch) -> Iterator[Called]:
    """`called`, with what Hydra changes in this process restored afterwards."""
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    yield called
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize("job", ["train", "evaluate"])
def test_the_options_are_those_of_the_script(calls: Called, tmp_path: Path, job: str) -> None:
    options = ["trainer=cpu", "trainer.max_epochs=3"]
    printed = calls(job, "--cfg", "job", *options, cwd=tmp_path)[1]
    written = OmegaConf.to_container(composed(job, *options), resolve=False)
    assert yaml.safe_load(printed) == yaml.safe_load(OmegaConf.to_yaml(OmegaConf.create(written)))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("job", ["train", "evaluate"])
def test_help_names_the_command(calls: Called, monkeypatch, capsys, tmp_path: Path, job: str) -> None:
    printed = calls(job, "--help", cwd=tmp_path)[1]
    assert f"usage: stnrot {job} " in printed
    assert f"{job}.py" not in printed
    monkeypatch.setattr(sys, "argv", [f"{job}.py", "--help"])
    with suppress(SystemExit):
        runpy.run_path(str(ROOT / f"{job}.py"), run_name="__main__")
    assert capsys.readouterr().out == printed.replace(f"stnrot {job}", f"python {job}.py")


def test_a_folder_of_own_options(calls: Called, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 77\n")
    code, printed = calls("train", "--config-dir", "mine", "--cfg", "job", "experiment=own", cwd=tmp_path)
    assert code in (0, None)
    assert yaml.safe_load(printed)["seed"] == 77


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "data.batchsize=3"], "error: unknown key data.batchsize;"),
        (["train", "model=null"], "error: model=null: the job needs one"),
        (["evaluate", "ckpt=missing.ckpt"], "error: "),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    calls: Called, tmp_path: Path, arguments: list[str], said: str
) -> None:
    message = str(calls(*arguments, cwd=tmp_path)[0])
    assert message.startswith(said)
    assert len(message.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_an_unknown_flag_exits_with_2(calls: Called, tmp_path: Path) -> None:
    assert calls("train", "--nonsense", cwd=tmp_path)[0] == 2


def test_the_wheel_holds_the_option_files() -> None:
    """`.ci/light_install.py` looks into a wheel."""
    assert CONFIGS == ROOT / "configs"
    assert 'configs = "stnrot/configs"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.ci
def test_jobs_from_an_empty_folder(tmp_path: Path) -> None:
    """In processes of their own: a run, its evaluation, a multirun, and a run of two processes."""
    options = [*SMALL, NO_FIGURES, "model=cnn", "debug=one_batch"]
    for arguments, folder in (
        (["train", *options], "train"),
        (["evaluate", "ckpt=latest", "trainer=cpu", NO_FIGURES], "evaluate"),
    ):
        done = stnrot(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (run,) = (tmp_path / "outputs" / folder).glob("*/*")
        assert "test/accuracy" in metrics_of(run)
    done = stnrot("train", "-m", *options, "seed=1,2", "hydra.sweep.dir=both", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "both").iterdir()} >= {"0", "1", "jobs.csv"}
    done = stnrot("train", *options, "trainer=ddp", "data.batch_size=20", "hydra.run.dir=two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test/accuracy" in metrics_of(tmp_path / "two")
    assert {path.name for path in tmp_path.iterdir()} == {"outputs", "both", "two"}

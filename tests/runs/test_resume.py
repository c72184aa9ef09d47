"""Which run a command line resumes, and which options it may change."""

import shlex
import sys
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from stnrot.errors import InputError
from stnrot.runs.resume import resumed_config, to_resume


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that was moved after it had begun."""
    folder = tmp_path / "outputs" / "train" / "it's [1]"
    folder.mkdir(parents=True)
    last = {"dirpath": "/old/run/checkpoints", "every_n_steps": None, "every_minutes": 10}
    config = {
        "output_dir": "/old/run",
        "model": {"_target_": "stnrot.models.rotation.Rotation"},
        "task": {},
        "data": {"num_workers": 0, "root": "/old/running"},
        "trainer": {"max_epochs": 3},
        "callbacks": {"last": last, "finite": {"_target_": "stnrot.callbacks.finite_loss.FiniteLoss", "every": 10}},
        "checkpoint": {"every_n_steps": None, "every_minutes": 10},
    }
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    return folder


def test_the_configuration_of_a_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[2])
    cfg = resumed_config(
        ["resume=latest", "trainer.max_epochs=5", "checkpoint.every_n_steps=2", "+trainer.max_steps=9"]
    )
    assert cfg is not None
    assert cfg.output_dir == str(run)
    assert cfg.callbacks.last == {"dirpath": f"{run}/checkpoints", "every_n_steps": 2, "every_minutes": 10}
    assert cfg.data.root == "/old/running"  # begins alike, and is no path in the folder
    assert (cfg.trainer.max_epochs, cfg.trainer.max_steps) == (5, 9)
    assert cfg.model._target_ == "stnrot.layers.rotation.Rotation"  # its name of today
    finite = instantiate(cfg.callbacks.finite)  # its arguments of today, and what it did then
    assert (type(finite).__name__, finite.folder, finite.skip) == ("FiniteNumbers", None, 0)


def test_the_command_that_is_printed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "model=cnn"])
    python, script, option = shlex.split(to_resume(run))
    assert (python, script) == ("python", "train.py")
    cfg = resumed_config([option])
    assert cfg is not None
    assert cfg.output_dir == str(run)
    monkeypatch.setattr(sys, "argv", [str(Path(sys.modules["stnrot"].__path__[0]) / "jobs" / "train.py")])
    assert to_resume(run).startswith("stnrot train ")


@pytest.mark.parametrize("arguments", [[], ["seed=1"], ["resume=null"]])
def test_a_command_line_that_resumes_nothing(arguments: list[str]) -> None:
    assert resumed_config(arguments) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume=nowhere"], "resume=nowhere: expected latest, or the folder of a run"),
        (["resume=loop"], "resume=loop: expected latest, or the folder of a run"),
        (["resume=a/checkpoints/last.ckpt"], "expected the folder of a run, "),
        (["seed=2"], "seed=2: the run"),
        (["trainer.max_epochs=1,2"], "trainer.max_epochs=1,2: expected one value"),
        (["~trainer.max_epochs"], "expected one value"),
        (["model=cnn"], "another value would change its result"),
        (["data.root=["], "data.root=[: expected key=value"),
        (["-m"], "-m: expected no flag"),
    ],
)
def test_what_is_refused(run: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[2])
    Path("loop").symlink_to("loop")
    given = arguments if arguments[0].startswith("resume=") else ["resume=latest", *arguments]
    with pytest.raises(InputError) as raised:
        resumed_config(given)
    assert words in str(raised.value)


def test_a_folder_without_a_training(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = OmegaConf.load(run / "config.yaml")
    config.trial = 3
    OmegaConf.save(config, run / "config.yaml")
    line = f"resume='{run}'".replace("it's", r"it\'s")
    with pytest.raises(InputError, match="trial of a search"):
        resumed_config([line])
    config.ckpt = ["best.ckpt"]
    OmegaConf.save(config, run / "config.yaml")
    with pytest.raises(InputError, match="is an evaluation"):
        resumed_config([line])
    for text in ("a: [", "a: 1", "5"):
        (run / "config.yaml").write_text(text)
        with pytest.raises(InputError, match=r"config\.yaml (cannot be read|is not the configuration)"):
            resumed_config([line])
    monkeypatch.chdir(tmp_path / "outputs")
    with pytest.raises(InputError, match="no run below outputs/train"):
        resumed_config(["resume=latest"])

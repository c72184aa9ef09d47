"""What a person types to switch something off works: `null` and `~`, for a group or an entry, in both scripts."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NO_FIGURES, ROOT, SMALL, composed, evaluated, metrics_of

from stnrot.errors import InputError
from stnrot.runs.overrides import switch_groups_off

SMALLEST = ("model=cnn", "model.classifier.width=4", "data.batch_size=50")
RESULTS = {"metrics.json", "predictions.csv", "environment.json", "pictures"}
RUN = RESULTS | {"config.yaml", "checkpoints", "csv", "tensorboard"}
Train = Callable[..., set[str]]


@pytest.fixture
def left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Train:
    """Train as the command line would; returns what the folder of the run holds."""
    from train import train

    def run(*arguments: str) -> set[str]:
        small = [each for each in SMALL if not each.startswith("callbacks.")]
        overrides = switch_groups_off([*small, *SMALLEST, *arguments], ROOT / "configs")
        with caplog.at_level(logging.INFO):
            train(composed("train", *overrides, f"output_dir={tmp_path}"))
        return {path.name for path in tmp_path.iterdir()}

    return run


@pytest.mark.ci
@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ("logger=null", {"csv", "tensorboard"}),
        ("~logger", {"csv", "tensorboard"}),
        ("logger.tensorboard=null", {"tensorboard"}),
        ("~logger.tensorboard", {"tensorboard"}),
        ("logger.csv=null", {"csv"}),
        ("logger.csv=null logger.tensorboard=null", {"csv", "tensorboard"}),
        ("callbacks=null", RESULTS | {"checkpoints"}),
        ("~callbacks", RESULTS | {"checkpoints"}),
        ("callbacks=null logger=null", RUN - {"config.yaml"}),
        ("~callbacks.alignment_figures", {"pictures"}),
        ("callbacks.alignment_figures=null callbacks.predictions=null", {"pictures", "predictions.csv"}),
        ("callbacks.metrics=null", {"metrics.json"}),
        ("callbacks.best=null callbacks.last=null", {"checkpoints"}),
        ("~callbacks.best ~callbacks.last callbacks.learning_rate=null", {"checkpoints"}),
        ("+trainer.enable_checkpointing=false callbacks.progress=null ~logger", {"checkpoints", "csv", "tensorboard"}),
        ("callbacks.finite=null ~callbacks.progress callbacks.pose_figures=null", set()),
        ("task.scheduler=null", set()),
        ("~task.scheduler", set()),
        ("trainer.plugins=null trainer.gradient_clip_val=null", set()),
        ("data/augment=NULL experiment=null debug=null hparams_search=null", set()),
    ],
)
def test_in_training(left: Train, arguments: str, missing: set[str], caplog: pytest.LogCaptureFixture) -> None:
    """Everything else is written, and the hint for TensorBoard is printed only with a log for it."""
    assert left(*arguments.split()) == RUN - missing
    assert ("tensorboard --logdir" in caplog.text) == ("tensorboard" not in missing)


def test_groups_inside_the_model() -> None:
    arguments = ["-m", "model/augment=null", "data/augment@data.augment=null", "task.scheduler=null", "ckpt_path=null"]
    switched = switch_groups_off(arguments, ROOT / "configs")
    assert switched == ["-m", "~model/augment", "~data/augment@data.augment", *arguments[3:]]
    assert composed("train").model.augment is not None
    assert composed("train", *switch_groups_off(["model/augment=null"], ROOT / "configs")).model.augment is None


def test_a_group_that_the_job_needs(ends: Callable[..., object], tmp_path: Path, monkeypatch) -> None:
    from train import train

    monkeypatch.chdir(tmp_path)
    for group in ("data", "model", "task", "trainer"):
        off = switch_groups_off([f"{group}=null"], ROOT / "configs")
        with pytest.raises(InputError, match=f"^{group}=null: the job needs one"):
            train(composed("train", *off, "output_dir=unused"))
    assert str(ends("evaluate.py", "ckpt=latest", "trainer=null")).startswith("error: trainer=null: the job needs one")
    assert not any(tmp_path.iterdir())


@pytest.mark.ci
@pytest.mark.parametrize("argument", ["callbacks=null", "~callbacks", "callbacks.metrics=null", "data=null"])
def test_in_evaluation(finished: Path, tmp_path: Path, argument: str) -> None:
    from evaluate import evaluate

    folder = tmp_path / "results"
    folder.mkdir()
    overrides = switch_groups_off([argument], ROOT / "configs")
    ckpt = f"ckpt='{finished / 'checkpoints' / 'best.ckpt'}'"
    if argument == "callbacks.metrics=null":
        overrides.append(NO_FIGURES)
    metrics = evaluate(composed("evaluate", ckpt, f"output_dir={folder}", "trainer.accelerator=cpu", *overrides))
    expected = {name: value for name, value in metrics_of(finished).items() if name.startswith("test/")}
    assert metrics == pytest.approx(expected)
    written = {
        "callbacks.metrics=null": {"predictions.csv", "environment.json"},
        "data=null": RESULTS,
    }
    assert {path.name for path in folder.iterdir()} == written.get(argument, set()) | {"config.yaml"}


def test_in_a_multirun(ends: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its table: a job without metrics.json did not finish, one whose metrics.json is empty did."""
    monkeypatch.chdir(tmp_path)
    options = [*SMALL, *SMALLEST, "logger=null", NO_FIGURES, "seed=1,2"]
    with pytest.raises(pytest.fail.Exception):  # `ends` expects an exit, a multirun of complete jobs has none
        ends("train.py", "-m", *options, "+trainer.limit_val_batches=0", "+trainer.limit_test_batches=0")
    (sweep,) = (tmp_path / "outputs" / "train").glob("*/*-multirun")
    for number in "01":
        assert metrics_of(sweep / number) == {}
        assert not (sweep / number / "csv").exists()


def test_a_multirun_without_callbacks(
    ends: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A job that has no metrics.json has finished if its log ends so; the other one has not."""
    monkeypatch.chdir(tmp_path)
    options = ["data.n_train=100", "data.repeats=1", "trainer=cpu", "+trainer.fast_dev_run=true", *SMALLEST]
    said = ends("train.py", "-m", *options, "callbacks=null", "logger=null", "task.optimizer.lr=0.01,nonsense")
    assert str(said).startswith("error: 1 of 2 jobs did not finish")
    assert "job 1 did not finish" in capfd.readouterr().out.splitlines()


def test_evaluation_refuses_to_test_nothing(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer\.limit_test_batches=0: there is nothing to test"):
        evaluated(str(finished / "checkpoints" / "best.ckpt"), tmp_path / "out", "+trainer.limit_test_batches=0")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("evaluate.py", []),
        ("evaluate.py", ["ckpt=missing.ckpt"]),
        ("evaluate.py", ["ckpt=missing.ckpt", "hydra.run.dir=a/b/c"]),
        ("train.py", ["data.n_train=1001"]),
        ("train.py", ["trainer.max_epochs=0", "hydra.run.dir=runs/mine"]),
        ("train.py", ["task.optimizer.lr=nonsense", "trainer=cpu"]),
        ("train.py", ["task=register", "trainer=cpu", "callbacks.progress=null"]),
    ],
)
def test_a_refusal_leaves_no_folder(
    ends: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, arguments: list[str]
) -> None:
    """A folder that holds anything else stays, with what it holds."""
    monkeypatch.chdir(tmp_path)
    assert str(ends(script, *arguments)).startswith("error: ")
    assert not any(tmp_path.iterdir())
    Path("kept").mkdir()
    Path("kept/notes.txt").write_text("mine")
    assert str(ends(script, *arguments[:1], "hydra.run.dir=kept")).startswith("error: ")
    assert Path("kept/notes.txt").read_text() == "mine"

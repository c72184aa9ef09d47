"""Errors of the user: one line that names the error and the way out, exit status 1, no traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, command, composed
from PIL import Image

from stnrot.runs.command_line import one_line
from train import train

Fails = Callable[..., str]
# what Triton, which torch imports, says at exit on Python 3.13
LEAKS = ("nanobind: ", " - leaked ", " - ... skipped", "See https://nanobind")


@pytest.fixture
def fails(
    ends: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Fails:
    """Run a command in this process, in an empty folder; it must fail with one line, which is returned."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, script: str = "train.py") -> str:
        line = str(ends(script, *arguments))
        assert line.startswith("error: ")
        assert len(line.splitlines()) == 1
        assert "Traceback" not in "".join(capfd.readouterr())
        return line

    return run


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train.py", ["data.batchsize=3"], "unknown key data.batchsize"),  # refused by Hydra
        ("train.py", ["data.n_train=1001"], "data.n_train=1001: expected at most the 1000 "),  # and by the job
    ],
)
def test_the_command_prints_it_last_and_exits_with_1(
    tmp_path: Path, script: str, arguments: list[str], words: str
) -> None:
    done = command(script, *arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    said = [each for each in done.stderr.splitlines() if not each.startswith(LEAKS)]
    assert "\n".join(said).rstrip().endswith(line)
    assert words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model/encoder=cnn", "model.encoder.head=nonsense"], ["expected scalar or vector, got 'nonsense'"]),
        (["model.hypotheses=99"], ["model.hypotheses=99: expected 1 to"]),
        (["model/encoder=cnn", "model.hypotheses=2"], ["model.hypotheses=2: this encoder regresses one angle"]),
        (["task.optimizer.lr=fast"], ["task.optimizer"]),
        (["data=image_pairs", "data.source=image_folder"], ["data/source=image_folder"]),
        (["model.augment=deform"], ["choose with a slash, model/augment=deform"]),
        (["trainer.max_epochs=0"], ["trainer.max_epochs=0: expected a whole number of at least 1"]),
        (
            ["model.classifier.classes=12"],
            ["expected 10 logits, one for each class of the data, got 12"],
        ),
        (["task.angle_weight=-1"], ["task.angle_weight=-1: expected a number of at least 0"]),
        (["task.angle_spread_deg=90"], ["task.angle_spread_deg=90: expected a number from 0 to 60"]),
        (["task.consistency_weight=1", "model=cnn"], ["task.consistency_weight=1", "model=rot_stn"]),
        (["model.augment.stretch=-1"], ["augment.stretch=-1: expected a number from 0 to 1"]),
        (["model.encoder.dropout=1"], ["dropout=1: expected a number from 0 to 0.99"]),
        (["model.encoder.dropout_circles=1"], ["dropout_circles=1: expected a number from 0 to 0.99"]),
        (["model.encoder.angles=20000"], ["angles=20000: expected a whole number from 7 to 512"]),
        (["task=register", "data=image_pairs", "model=cnn"], ["expected model=rot_stn"]),
        ([*SMALL, "monitor.metric=val/nonsense", "debug=one_batch"], ["val/nonsense", "val/nll"]),
        (
            [*SMALL, "model.reference=learned", "model.image_shape=[1,20,20]", "debug=one_batch"],
            ["model.image_shape=[1, 20, 20]: expected the shape of the images, [1, 28, 28]"],
        ),
        (["data=rotated_mnist", "data.root=none"], ["data.root=", "data=rotated_digits"]),
        (["trainer.precision=16-true"], ["trainer.precision=16-true", "expected 16-mixed or bf16-true"]),
        (["+data.source.foo=1"], ["data.source: got an unexpected keyword argument 'foo'", "configs/data/source"]),
        (["+callbacks.figures.foo=1"], ["callbacks.figures: expected one of best, last"]),
        (["data=image_folder"], ["data.root"]),
        (["data=image_folder", "data.root=missing"], ["expected a folder"]),
    ],
)
def test_options_and_values(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception) as raised:  # noqa: PT011  # Hydra, Lightning or the project
        train(composed("train", *arguments, f"output_dir={tmp_path}"))
    line = one_line(raised.value)
    assert line is not None
    assert len(line.splitlines()) == 1
    for each in words:
        assert each in line


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("model=rotstn", "affine_stn"),
        ("model=null", "model=null: the job needs one"),
        ("trial=0", "trial=0: only a search sets it"),
        ("model.hypotheses=99", "model.hypotheses=99: expected 1 to"),
    ],
)
def test_the_command_refuses(fails: Fails, argument: str, words: str) -> None:
    assert words in fails(argument)


def test_a_search_without_m_leaves_nothing(fails: Fails, tmp_path: Path) -> None:
    assert "expected python train.py -m" in fails("hparams_search=rot_stn")
    assert not any(tmp_path.iterdir())


def test_places_that_cannot_be_written(fails: Fails) -> None:
    Path("file").write_text("kept")
    line = fails("hydra.run.dir=file/run")
    assert "file" in line
    assert "hydra.run.dir" in line
    assert Path("file").read_text() == "kept"


def test_one_class(fails: Fails) -> None:
    for k in range(10):
        Path("mine/only").mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 30), 20 * k).save(f"mine/only/{k}.png")
    line = fails("data=image_folder", "data.root=mine")
    assert "mine" in line
    assert "1 class" in line


def test_truncated_image_in_a_worker(fails: Fails) -> None:
    for k in range(20):
        path = Path("mine") / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), 60 + k).save(path)
    path.write_bytes(path.read_bytes()[:300])
    options = ["data=image_folder", "data.root=mine", "data.source.memory_gb=1e-9", "data.num_workers=1"]
    line = fails(*options, "trainer.accelerator=cpu", "data.source.val_fraction=0.3")
    assert path.name in line


def test_checkpoints_that_do_not_fit(fails: Fails, job: Callable[..., tuple[float, Path]]) -> None:
    small = [*SMALL, "debug=one_batch"]
    job("debug=one_batch", "model=cnn")
    ckpt = Path("run/checkpoints/last.ckpt")
    before = ckpt.read_bytes()

    assert "another model (CNN, here RotSTN)" in fails(*small, "model=rot_stn", f"ckpt_path={ckpt}")
    assert "holds the checkpoints of a run already" in fails(*small, "model=cnn", "hydra.run.dir=run")
    assert "another model (CNN, here RotSTN)" in fails(*small, "model=rot_stn", f"start_from={ckpt}")
    assert "no checkpoint at" in fails(*small, "ckpt_path=missing.ckpt")
    assert "give one" in fails(*small, "model=cnn", f"ckpt_path={ckpt}", f"start_from={ckpt}")
    Path("text.ckpt").write_text("not a checkpoint")
    assert "text.ckpt is not a readable checkpoint" in fails("ckpt=text.ckpt", script="evaluate.py")
    torch.save({"weights": torch.zeros(3)}, "other.ckpt")
    assert "not written by train.py" in fails("ckpt=other.ckpt", script="evaluate.py")
    assert ckpt.read_bytes() == before

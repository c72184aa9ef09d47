"""`experiment=conjugate` as a whole job: it finds the hidden rotation, and shows that it does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import composed, epochs
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluate import evaluate
from stnrot.data.conjugate import ConjugateData
from stnrot.errors import InputError
from stnrot.runs.checkpoints import read_checkpoint, rebuild
from stnrot.runs.command_line import one_line
from train import train

SMALL = ("experiment=conjugate", "data.dim=6", "data.samples=2000", "data.batch_size=50", "trainer.accelerator=cpu")
QUIET = ("callbacks.progress=null",)
NO_FIGURES = ("callbacks.rotation_figures=null",)


def job(folder: Path, *overrides: str) -> float:
    folder.mkdir(exist_ok=True)
    return train(composed("train", *SMALL, *QUIET, "trainer.max_epochs=10", f"output_dir={folder}", *overrides))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", ["householder", "cayley", "newton_schulz", "penalty"])
def test_finds_the_hidden_rotation(tmp_path: Path, method: str) -> None:
    job(tmp_path, f"model.rotation.method={method}", "task.optimizer.lr=0.03", *NO_FIGURES)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test/axes_max_deg"] < 3
    assert metrics["test/defect"] < (0.05 if method == "penalty" else 1e-5)

    path = tmp_path / "checkpoints" / "best.ckpt"
    task = rebuild(read_checkpoint(path), path)
    data = ConjugateData(dim=6, samples=2000, scale=2.0, noise=0.0, batch_size=10, seed=9, split_seed=0)
    data.setup()
    found, hidden = (model.rotation.matrix().detach().double() for model in (task.model, data.truth))
    cosine = (found @ hidden.T).abs()
    assert (cosine.max(0).values > 0.998).all()  # a signed permutation, whichever
    assert (cosine.max(1).values > 0.998).all()
    z = torch.randn(50, 6)
    torch.testing.assert_close(task.model(z), data.truth(z), rtol=0, atol=0.1)


def test_is_on_tensorboard_and_in_files(tmp_path: Path) -> None:
    job(tmp_path, "trainer.max_epochs=2")
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {"val/rotation", "test/rotation"} <= set(events.Tags()["images"])
    assert {"val/axes_max_deg", "val/defect", "train/loss"} <= set(events.Tags()["scalars"])
    assert len(events.Images("val/rotation")) == 2
    for folder in ("epoch_000", "epoch_001", "test"):
        assert Image.open(tmp_path / "pictures" / folder / "rotation.png").size[0] > 400


def test_a_resumed_run_is_the_whole_run(tmp_path: Path) -> None:
    options = ("task.scheduler=null", *NO_FIGURES)
    whole = job(tmp_path / "whole", "trainer.max_epochs=2", *options)
    job(tmp_path / "half", "trainer.max_epochs=1", *options)
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    rest = job(tmp_path / "rest", "trainer.max_epochs=2", *options, f"ckpt_path={last}")
    assert rest == pytest.approx(whole, rel=1e-4)
    assert epochs(tmp_path / "rest") == {1}


def test_is_tested_again_on_its_own_samples_alone(tmp_path: Path) -> None:
    job(tmp_path / "run", "trainer.max_epochs=1")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"

    def again(name: str, *overrides: str) -> dict[str, float]:
        folder = f"output_dir={tmp_path / name}"
        return evaluate(composed("evaluate", *QUIET, f"ckpt={checkpoint}", "trainer=cpu", folder, *overrides))

    first = json.loads((tmp_path / "run" / "metrics.json").read_text())
    first.pop("val/loss")
    assert again("again") == pytest.approx(first)
    assert again("other", "+data.split_seed=1")["test/axes_max_deg"] > 10  # another rotation is hidden there
    with pytest.raises(InputError, match="dim=6, this data has 5"):
        again("narrow", "+data.dim=5")
    with pytest.raises(InputError, match="trained on data with dim, this has channels"):
        again("pictures", "data=rotated_digits")


def test_bad_numbers_are_one_line(tmp_path: Path) -> None:
    for overrides, line in (
        (("data.dim=1",), "data.dim=1: expected a whole number of at least 2"),
        (("model.rotation.method=svd",), "method='svd': expected one of householder"),
        (("model.rotation.reflections=5",), "reflections=5: expected an even number from 2 to 6"),
        (("task.optimizer.lr=-1",), "task.optimizer cannot be built: Invalid learning rate"),
        (("task.penalty_weight=-1",), "task.penalty_weight=-1: expected a number of at least 0"),
    ):
        with pytest.raises(Exception, match=r"expected|Invalid") as raised:
            job(tmp_path, *overrides)
        assert line in str(one_line(raised.value))


def test_the_command_prints_one_line_for_a_bad_method(ends: Callable[..., object], tmp_path: Path) -> None:
    line = str(ends("train.py", *SMALL, "model.rotation.method=svd", f"hydra.run.dir={tmp_path}"))
    assert line.startswith("error: ")
    assert "method='svd': expected one of householder, angle, cayley" in line
    assert len(line.splitlines()) == 1

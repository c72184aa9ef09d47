"""Every kind of file that the commands write is still read as it was before version 0.4.

The files in `before_0_4` are of that version. A small model was trained for two epochs, published and exported, and it
predicted for three of the six images:

    stnrot train model=rot_stn model.encoder.width=4 model.encoder.radii=4 model.encoder.angles=16 \
        model.classifier.width=2 model.hypotheses=2 data.n_train=200 trainer.max_epochs=2
    stnrot publish RUN published --about about.md --licence mit
    stnrot export RUN --out model.onnx
    stnrot export RUN --format safetensors --out model.safetensors
    stnrot predict images/0.png images/1.png images/2.png --model published --out published.csv

`study.log` is the journal of the search of `test_a_search_goes_on`.
"""

import csv
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Called, stnrot

from stnrot.runs.checkpoints import read_checkpoint

OLD = Path(__file__).parent / "before_0_4"
COLUMNS = ("image", "class", "probability", "angle_deg", "confidence", "others")


@pytest.mark.parametrize("name", ["best.ckpt", "published", "model.safetensors", "model.onnx"])
def test_a_model_predicts_what_it_did(name: str, called: Called) -> None:
    with (OLD / "published.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    images = [row["image"] for row in expected]
    status, printed = called("predict", *images, "--model", name, "--json", cwd=OLD)
    assert status == 0
    for line, row in zip(printed.splitlines(), expected, strict=True):
        answer = json.loads(line)
        assert (answer["image"], answer["class"]) == (row["image"], row["class"])
        for column, exact in (("probability", 1e-3), ("angle_deg", 0.1), ("confidence", 1e-3)):
            assert answer[column] == pytest.approx(float(row[column]), abs=exact)


def test_a_table_is_continued(called: Called, tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    table = tmp_path / "old" / "published.csv"
    before = table.read_bytes()
    status, _ = called("predict", "images", "--model", "published", "--out", table.name, cwd=tmp_path / "old")
    assert status == 0
    assert table.read_bytes().startswith(before)
    with table.open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"images/{number}.png" for number in range(6)]


def test_a_study_is_reported(called: Called, tmp_path: Path) -> None:
    shutil.copy(OLD / "study.log", tmp_path)
    status, printed = called("study", "study.log", cwd=tmp_path)
    assert status == 0
    assert "model.classifier.width=2" in printed


@pytest.mark.slow
def test_a_search_goes_on(tmp_path: Path) -> None:
    """Two trials are finished, so the same command with three trials runs one."""
    shutil.copy(OLD / "study.log", tmp_path)
    options = ["model.classifier.width=2", "data.n_train=100", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    study = ("hparams_search=rot_stn", "hydra.sweeper.study_name=old", "hydra.sweeper.storage=study.log")
    options.append("trainer.precision=32-true")
    done = stnrot("train", "-m", *study, "hydra.sweeper.n_trials=3", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [each.name for each in (tmp_path / "outputs" / "search" / "old").iterdir() if each.is_dir()] == ["2"]


def test_models_name_the_version_that_wrote_them(digits_run: Path) -> None:
    assert read_checkpoint(digits_run / "checkpoints" / "best.ckpt")["stnrot"] == version("stnrot")
    assert read_checkpoint(OLD / "published")["stnrot"] == "0.3.0"

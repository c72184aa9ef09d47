"""trainer=ddp: several processes end with the results of one."""

import logging
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
from conftest import NO_FIGURES, SMALL, command, composed, metrics_of
from hydra.utils import instantiate

from stnrot.jobs.build import log_batch
from train import train

Job = Callable[..., tuple[float, Path]]


@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.ci), pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_end_with_the_metrics_of_one(job: Job, processes: int, tmp_path: Path) -> None:
    """Dropout is off, because each process draws its own. The weights have 64 bits, because training amplifies rounding
    errors. The encoder is polar: max pooling would decide ties by rounding errors."""
    options = [
        "data=image_pairs",
        "task=register",
        "model.encoder.dropout=0",
        "trainer.precision=64-true",
        "data.n_train=200",
        "data.repeats=1",
        "trainer.max_epochs=2",
        "data.batch_size=40",
    ]
    job(*options, NO_FIGURES, folder=tmp_path / "one")
    several = ["trainer=ddp", f"trainer.devices={processes}", "hydra.run.dir=several"]
    done = command("train.py", *SMALL, *options, *several, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{processes} processes, each with {40 // processes} samples of a batch" in done.stdout
    assert_same_results(tmp_path / "one", tmp_path / "several", rows=500)
    assert len(list((tmp_path / "several").glob("*.log"))) == 1  # of the first process


def assert_same_results(one: Path, several: Path, rows: int | None, of: str = "") -> None:
    """Compare the metrics and the index of each row of predictions.csv, if there is one."""
    expected = {name: value for name, value in metrics_of(one).items() if name.startswith(of)}
    found = metrics_of(several)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=2e-3), name
    if rows is not None:
        tables = [(run / "predictions.csv").read_text().splitlines() for run in (one, several)]
        assert len(tables[0]) == len(tables[1]) == rows + 1
        assert [row.split(",")[:2] for row in tables[0]] == [row.split(",")[:2] for row in tables[1]]


PAIRS = ("task=register", "data=image_pairs", "data.repeats=1", "model.encoder.dropout=0")
IMAGES = (*PAIRS, "data/source=image_folder", "data.source.image_size=[24,32]")
STREAMED = ("data.source.memory_gb=1e-6", "data.num_workers=1", "data.source.val_fraction=0.2")
POSES = (
    "data=rendered",
    "data.camera.height=32",
    "data.camera.width=32",
    "model=pose_net",
    "model.side=32",
    "task=pose",
    "trainer.precision=32-true",
)
POINTS = ("data=conjugate", "data.dim=4", "model=conjugate", "task=conjugate", "callbacks=conjugate")


@pytest.mark.parametrize(
    ("processes", "options", "rows"),
    [
        # the batches of the validation set
        pytest.param(4, IMAGES, 6, id="images: 3, 3", marks=pytest.mark.slow),
        pytest.param(3, (*IMAGES, *STREAMED), 6, id="streamed: 3, 3, 2", marks=pytest.mark.ci),
        pytest.param(4, (*POSES, "data.samples=50"), None, id="poses: 3, 2", marks=pytest.mark.slow),
        pytest.param(3, (*POINTS, "data.samples=70"), None, id="points: 3, 2, 2", marks=pytest.mark.slow),
    ],
)
def test_batches_smaller_than_the_number_of_processes(
    mine: Path, processes: int, options: tuple[str, ...], rows: int | None, tmp_path: Path
) -> None:
    """If the validation set were cut into batches of at most `batch_size`, a process would have no sample of some."""
    common = [
        "trainer.precision=64-true",
        *options,
        f"data.batch_size={processes}",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "+trainer.limit_train_batches=3",
        "callbacks.progress.refresh_rate=0",
    ]
    common += [f"data.root={mine}"] * (rows is not None)
    one, several = tmp_path / "one", tmp_path / "several"
    one.mkdir()
    train(composed("train", *common, f"output_dir={one}"))
    done = command("train.py", *common, "trainer=ddp", f"trainer.devices={processes}", f"hydra.run.dir={several}")
    assert done.returncode == 0, done.stderr
    assert_same_results(one, several, rows)


def test_the_batch_that_is_logged_is_the_one_that_is_used(caplog: pytest.LogCaptureFixture) -> None:
    """Ten samples in batches of 100: four processes have two each, and two samples are left out."""
    data = instantiate(composed("train", "data.n_train=10", "data.repeats=1").data, _convert_="all")
    data.setup()
    trainer = L.Trainer(accelerator="cpu", devices=4, strategy="ddp", accumulate_grad_batches=3, logger=False)
    with caplog.at_level(logging.INFO, "train"):
        log_batch(data, trainer)
    assert "4 processes, each with 2 samples of a batch; a step of the optimizer sees 8 samples" in caplog.text
    assert "data.batch_size=100 counts" in caplog.text


@pytest.mark.slow
def test_evaluation_by_three_processes(job: Job, tmp_path: Path) -> None:
    """500 test images in batches of at most 3 would be 167 batches, of which one has two images."""
    job("task=register", "data=image_pairs", "trainer.precision=64-true", NO_FIGURES, folder=tmp_path / "one")
    options = ["trainer=ddp", "trainer.devices=3", "trainer.accelerator=cpu", "trainer.precision=64-true"]
    ckpt = tmp_path / "one" / "checkpoints" / "best.ckpt"
    several = tmp_path / "several"
    done = command("evaluate.py", f"ckpt={ckpt}", "+data.batch_size=3", *options, f"hydra.run.dir={several}")
    assert done.returncode == 0, done.stderr
    assert_same_results(tmp_path / "one", several, rows=500, of="test/")

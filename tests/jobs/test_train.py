"""Whole jobs in this process: what every model and task writes to the disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NO_FIGURES, metrics_of, rows
from omegaconf import OmegaConf
from PIL import Image
from sklearn.metrics import accuracy_score

from stnrot.errors import InputError


@pytest.mark.parametrize(
    ("name", "options", "figures"),
    [
        ("rot_stn", (), {"angle_posterior"}),
        ("rot_stn", ("model.reference=learned",), {"angle_posterior", "learned_reference"}),
        ("rot_stn", ("model/encoder=cnn",), {"learned_reference"}),
        ("affine_stn", (), set()),
        ("cnn", (), set()),
    ],
)
def test_a_run_leaves_everything(job, name: str, options: tuple[str, ...], figures: set[str]) -> None:
    metric, folder = job(f"model={name}", *options)
    metrics = metrics_of(folder)
    logged = [float(row["val/nll"]) for row in rows(folder / "csv" / "version_0" / "metrics.csv") if row["val/nll"]]
    assert metric == metrics["val/nll"] == pytest.approx(min(logged))
    table = rows(folder / "predictions.csv")
    assert len(table) == 500
    oracle = accuracy_score([r["class"] for r in table], [r["predicted_class"] for r in table])
    assert metrics["test/accuracy"] == pytest.approx(oracle, abs=1e-6)
    if name != "cnn":
        kind = "angle_dispersion" if name == "affine_stn" else "angle"
        errors = np.array(
            [float(r["angle_error_less_mean_deg" if name == "affine_stn" else "angle_error_deg"]) for r in table]
        )
        true = np.array([float(r["angle_deg"]) for r in table])
        predicted = np.array([float(r["predicted_angle_deg"]) for r in table])
        rotation = np.exp(1j * np.radians(predicted - true))
        if name == "affine_stn":  # trained without known angles: its errors are relative to its own upright
            rotation *= np.exp(-1j * np.angle(rotation.sum()))
        np.testing.assert_allclose(rotation.real, np.cos(np.radians(errors)), atol=1e-5)
        assert metrics[f"test/{kind}_median_deg"] == pytest.approx(np.median(np.abs(errors)), abs=1e-2)
        assert metrics[f"test/{kind}_within_5deg"] == pytest.approx(np.mean(np.abs(errors) <= 5), abs=3e-3)

    expected = {"alignment", "confusion", "accuracy_by_angle"}
    expected |= {"angle_error", "angle_polar"} if name != "cnn" else set()
    expected |= figures
    for part in ("epoch_000", "test"):
        drawn = {path.stem: Image.open(path) for path in (folder / "pictures" / part).iterdir()}
        assert drawn.keys() == expected
        assert all(min(image.size) > 100 for image in drawn.values())
        assert all(len(image.getcolors(10**6)) > 3 for name, image in drawn.items() if name != "learned_reference")
    for file in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "csv/version_0/metrics.csv"):
        assert (folder / file).is_file()
    assert list((folder / "tensorboard").glob("events.*"))


def test_register_learns_pairs_without_labels(job) -> None:
    weights = ("task.angle_weight=0", "task.photometric_weight=1")
    _, folder = job("task=register", "data=image_pairs", "data.repeats=2", *weights)
    metrics = metrics_of(folder)
    assert {"test/loss", "test/photometric_loss", "test/angle_median_deg"} <= metrics.keys()
    assert "test/accuracy" not in metrics
    table = rows(folder / "predictions.csv")
    assert "predicted_class" not in table[0]
    assert float(table[0]["angle_deg"]) != 0
    assert {p.stem for p in (folder / "pictures" / "test").iterdir()} == {
        "alignment",
        "angle_error",
        "angle_polar",
        "angle_posterior",
    }


def test_register_to_a_learned_reference_reports_dispersion(job) -> None:
    weights = ("task.angle_weight=0", "task.photometric_weight=1")
    _, folder = job("task=register", "model.reference=learned", *weights)
    metrics = metrics_of(folder)
    assert "test/angle_dispersion_median_deg" in metrics
    assert "test/angle_median_deg" not in metrics


def test_the_self_supervised_term_alone_trains(job) -> None:
    weights = (
        "task.angle_weight=0",
        "task.photometric_weight=0",
        "task.consistency_weight=1",
        NO_FIGURES,
    )
    _, folder = job("task=register", "model.reference=learned", *weights)
    metrics = metrics_of(folder)
    assert metrics["test/loss"] == pytest.approx(metrics["test/consistency_loss"])


def test_the_shown_sample_is_fixed_and_balanced(job, monkeypatch) -> None:
    from stnrot.callbacks.alignment_figures import AlignmentFigures

    seen: list[list[int]] = []
    finish = AlignmentFigures.finish

    def spy(self, trainer, task, part, rows, shown):
        labels = trainer.datamodule.splits.val.label
        if part == "val":
            seen.append([int(labels[sample.index]) for sample in shown] + [sample.index for sample in shown])
        return finish(self, trainer, task, part, rows, shown)

    monkeypatch.setattr(AlignmentFigures, "finish", spy)
    job("trainer.max_epochs=2", "+trainer.limit_test_batches=1")
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert sorted(seen[0][:10]) == list(range(10))


def test_a_loss_that_is_no_number_stops_the_run(job) -> None:
    with pytest.raises(InputError, match=r"weights is inf in epoch 0, step 1, .* lower task\.optimizer\.lr"):
        job(
            "task.optimizer.lr=1e30",
            "trainer.gradient_clip_val=null",
            "task.scheduler=null",
            "trainer.max_epochs=5",
        )


@pytest.mark.parametrize("options", [(), ("model/encoder=cnn",), ("model=affine_stn",), ("model=cnn",)])
def test_weights_of_16_bits(job, options: tuple[str, ...]) -> None:
    _, folder = job("debug=one_batch", "data.batch_size=16", "trainer.precision=bf16-true", NO_FIGURES, *options)
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert weights["model.classifier.linear.weight"].dtype is torch.bfloat16
    assert len(rows(folder / "predictions.csv")) == 16


def test_the_saved_configuration_is_resolved(finished: Path) -> None:
    config = OmegaConf.load(finished / "config.yaml")
    assert config["data_spec"]["classes"] == 10
    assert config["data"]["n_train"] == 100

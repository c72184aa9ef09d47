"""Whole jobs in this process: every model and task, and what they leave on disk."""

import json
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import rows
from PIL import Image
from sklearn.metrics import accuracy_score

from stnrot.errors import InputError
from stnrot.runs.checkpoints import AtomicCheckpointIO, check_targets, read_checkpoint, rebuild


@pytest.mark.parametrize(
    ("name", "options", "pictures"),
    [
        ("rot_stn", (), {"angle_posterior"}),
        ("rot_stn", ("model.reference=learned",), {"angle_posterior", "learned_reference"}),
        ("rot_stn", ("model/encoder=cnn",), {"learned_reference"}),
        ("affine_stn", (), set()),
        ("cnn", (), set()),
    ],
)
def test_a_run_leaves_everything(job, name: str, options: tuple[str, ...], pictures: set[str]) -> None:
    metric, folder = job(f"model={name}", *options)
    metrics = json.loads((folder / "metrics.json").read_text())
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
        turned = np.exp(1j * np.radians(predicted - true))
        if name == "affine_stn":  # was taught no upright: its errors are about its own
            turned *= np.exp(-1j * np.angle(turned.sum()))
        np.testing.assert_allclose(turned.real, np.cos(np.radians(errors)), atol=1e-5)
        assert metrics[f"test/{kind}_median_deg"] == pytest.approx(np.median(np.abs(errors)), abs=1e-2)
        assert metrics[f"test/{kind}_within_5deg"] == pytest.approx(np.mean(np.abs(errors) <= 5), abs=3e-3)

    expected = {"alignment", "confusion", "accuracy_by_angle"}
    expected |= {"angle_error", "angle_polar"} if name != "cnn" else set()
    expected |= pictures
    for part in ("epoch_000", "test"):
        pictures = {p.stem: Image.open(p) for p in (folder / "pictures" / part).iterdir()}
        assert pictures.keys() == expected
        assert all(min(p.size) > 100 for p in pictures.values())
        assert all(len(p.getcolors(10**6)) > 3 for n, p in pictures.items() if n != "learned_reference")
    for file in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "csv/version_0/metrics.csv"):
        assert (folder / file).is_file()
    assert list((folder / "tensorboard").glob("events.*"))


def test_checkpoints_are_plain_data_and_rebuild(job) -> None:
    _, folder = job("callbacks.alignment_figures=null")
    path = folder / "checkpoints" / "best.ckpt"
    checkpoint = read_checkpoint(path)
    assert checkpoint["config"]["model"]["_target_"] == "stnrot.models.rot_stn.RotSTN"
    task = rebuild(checkpoint, path)
    assert not task.training
    image = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(task.model(image, None).log_probability.exp().sum(1), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(task.state_dict(), checkpoint["state_dict"], atol=0, rtol=0)


def test_a_checkpoint_cannot_build_what_is_not_ours() -> None:
    check_targets(
        {
            "_target_": "stnrot.models.cnn.CNN",
            "classifier": {"_target_": "stnrot.models.classifiers.conv.ConvClassifier"},
        }
    )
    for target in (
        "os.system",
        "stnrot.data.sources.files.os.system",
        "stnrot.runs.checkpoints.torch.load",
        "builtins.eval",
    ):
        with pytest.raises(InputError, match="not part of stnrot"):
            check_targets({"a": [{"_target_": target}]})
    with pytest.raises(InputError, match="expected plain values"):
        check_targets({"classifier": "${oc.create:{_target_: builtins.print, _args_: [x]}}"})


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2, "half": torch.zeros(10**6), "bad": lambda: None}, path)
    many = {"epoch": 3} | {str(k): torch.zeros(50_000) for k in range(300)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):  # torch's own error says `unexpected pos`
            AtomicCheckpointIO().save_checkpoint(many, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    try:
        with pytest.raises(KeyboardInterrupt):
            AtomicCheckpointIO().save_checkpoint(many, path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert torch.load(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_register_learns_pairs_without_labels(job) -> None:
    weights = ("task.angle_weight=0", "task.photometric_weight=1")
    _, folder = job("task=register", "data=image_pairs", "data.repeats=2", *weights)
    metrics = json.loads((folder / "metrics.json").read_text())
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
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "test/angle_dispersion_median_deg" in metrics
    assert "test/angle_median_deg" not in metrics


def test_more_epochs_than_the_schedule_was_made_for(job, tmp_path: Path) -> None:
    _, part = job("model=cnn", "debug=one_batch", folder=tmp_path / "part")
    options = ("model=cnn", "debug=one_batch", f"ckpt_path={part / 'checkpoints' / 'last.ckpt'}")
    with pytest.raises(InputError, match=r"planned for 1 steps, this run has 2: give the same"):
        job(*options, "trainer.max_epochs=2", folder=tmp_path / "rest")


def test_a_run_begins_with_the_weights_of_another(job, tmp_path: Path) -> None:
    """At a rate of zero it also ends with them; its steps are its own."""
    _, first = job("model=cnn", "debug=one_batch", "trainer.max_epochs=2", folder=tmp_path / "first")
    given = first / "checkpoints" / "last.ckpt"
    options = ("model=cnn", "debug=one_batch", "seed=2", "task.optimizer.lr=0", f"start_from={given}")
    _, second = job(*options, folder=tmp_path / "second")
    before, after = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu") for run in (first, second)
    )
    weights = [name for name in before["state_dict"] if name.endswith(("weight", "bias"))]
    assert weights
    for name in weights:
        assert torch.equal(before["state_dict"][name], after["state_dict"][name]), name
    assert (before["global_step"], after["global_step"]) == (2, 1)


def test_the_self_supervised_term_trains_alone(job) -> None:
    weights = (
        "task.angle_weight=0",
        "task.photometric_weight=0",
        "task.consistency_weight=1",
        "callbacks.alignment_figures=null",
    )
    _, folder = job("task=register", "model.reference=learned", *weights)
    metrics = json.loads((folder / "metrics.json").read_text())
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
    job("trainer.max_epochs=2")
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert sorted(seen[0][:10]) == list(range(10))


def test_a_loss_that_is_no_number_stops_the_run(job) -> None:
    with pytest.raises(InputError, match=r"loss became .* lower task\.optimizer\.lr"):
        job(
            "task.optimizer.lr=1e30",
            "trainer.gradient_clip_val=null",
            "task.scheduler=null",
            "trainer.max_epochs=5",
        )


@pytest.mark.parametrize("options", [(), ("model/encoder=cnn",), ("model=affine_stn",), ("model=cnn",)])
def test_weights_of_16_bits(job, options: tuple[str, ...]) -> None:
    _, folder = job("debug=one_batch", "trainer.precision=bf16-true", *options)
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert weights["model.classifier.linear.weight"].dtype is torch.bfloat16
    assert len(rows(folder / "predictions.csv")) == 100

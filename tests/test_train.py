"""Whole jobs in this process: every model, data set and task, and what they leave on disk."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, composed
from PIL import Image
from sklearn.metrics import accuracy_score

from stnrot.checkpoint import AtomicCheckpointIO, check_targets, read_checkpoint, rebuild
from stnrot.errors import InputError


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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
    assert metrics["test/accuracy"] == metric
    table = rows(folder / "predictions.csv")
    assert len(table) == 500
    oracle = accuracy_score([r["class"] for r in table], [r["predicted_class"] for r in table])
    assert metric == pytest.approx(oracle, abs=1e-6)
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
    _, folder = job()
    path = folder / "checkpoints" / "best.ckpt"
    checkpoint = read_checkpoint(path)
    assert checkpoint["config"]["model"]["_target_"] == "stnrot.models.rot_stn.RotSTN"
    task = rebuild(checkpoint, path)
    image = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(task.model(image, None).log_probability.exp().sum(1), torch.ones(3), atol=1e-5, rtol=0)


def test_a_checkpoint_cannot_build_what_is_not_ours() -> None:
    check_targets(
        {
            "_target_": "stnrot.models.cnn.CNN",
            "classifier": {"_target_": "stnrot.models.classifier.ConvClassifier"},
        }
    )
    for target in (
        "os.system",
        "stnrot.data.files.os.system",
        "stnrot.checkpoint.torch.load",
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


def test_register_reads_a_manifest(job, pair_manifest) -> None:
    path, _ = pair_manifest
    _, folder = job(
        "task=register",
        "data=image_pairs",
        "data/source=manifest",
        f"data.root={path}",
        "data.n_train=null",
        "data.source.image_size=[32,32]",
        "data.source.val_fraction=0.25",
        "data.source.test_fraction=0.25",
    )
    table = rows(folder / "predictions.csv")
    assert all(Path(row["file"]).is_file() for row in table)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user's folder: forty crops of two photographs, in two classes."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(p) for p in load_sample_images().images]
    for k in range(40):
        path = tmp_path / "mine" / ("temple", "flower")[k % 2] / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photographs[k % 2].crop((10 * k, 5 * k, 10 * k + 120, 5 * k + 90)).save(path)
    return tmp_path / "mine"


FOLDER = ("data=image_folder", "data.source.image_size=[24,32]", "data.n_train=null", "data.batch_size=10")
STREAMED = ("data.source.memory_gb=1e-6", "data.num_workers=1")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_users_folder(job, mine: Path, streamed: bool) -> None:
    _, folder = job(*FOLDER, f"data.root={mine}", *(STREAMED if streamed else ()))
    table = rows(folder / "predictions.csv")
    assert {row["class"] for row in table} == {"temple", "flower"}
    assert all(row["class"] in row["file"] for row in table)


def test_with_workers_too_a_resumed_run_is_the_run(job, mine: Path, tmp_path: Path) -> None:
    options = (*FOLDER, f"data.root={mine}", *STREAMED, "task.scheduler=null")
    _, whole = job(*options, "trainer.max_epochs=4", folder=tmp_path / "whole")
    _, part = job(*options, "trainer.max_epochs=2", folder=tmp_path / "part")
    last = part / "checkpoints" / "last.ckpt"
    _, rest = job(*options, "trainer.max_epochs=4", f"ckpt_path={last}", folder=tmp_path / "rest")
    assert json.loads((rest / "metrics.json").read_text()) == json.loads((whole / "metrics.json").read_text())


def test_more_epochs_than_the_schedule_was_made_for(job, tmp_path: Path) -> None:
    _, part = job("model=cnn", "debug=one_batch", folder=tmp_path / "part")
    options = ("model=cnn", "debug=one_batch", f"ckpt_path={part / 'checkpoints' / 'last.ckpt'}")
    with pytest.raises(InputError, match=r"planned for 1 steps, .* for 2: give the same"):
        job(*options, "trainer.max_epochs=2", folder=tmp_path / "rest")


def test_evaluation_without_ground_truth(job, pair_manifest, tmp_path: Path) -> None:
    """Trained with known angles, tested on pairs of which nothing is known."""
    from evaluate import evaluate

    _, run = job("task=register", "data=image_pairs")
    path, _ = pair_manifest
    lines = [line.split(",")[:2] for line in path.read_text().splitlines()]
    (tmp_path / "bare.csv").write_text("\n".join(map(",".join, lines)))
    (tmp_path / "again").mkdir()
    overrides = ["data=image_pairs", "data/source=manifest", f"data.root={tmp_path / 'bare.csv'}"]
    overrides += ["data.source.image_size=[28,28]", "data.source.val_fraction=0", "data.source.test_fraction=1"]
    ckpt = run / "checkpoints" / "last.ckpt"
    evaluate(composed("evaluate", f"ckpt={ckpt}", f"output_dir={tmp_path / 'again'}", *overrides))
    table = rows(tmp_path / "again" / "predictions.csv")
    assert len(table) == 8
    assert "predicted_angle_deg" in table[0]
    assert "angle_deg" not in table[0]


def test_the_self_supervised_term_trains_alone(job) -> None:
    weights = ("task.angle_weight=0", "task.photometric_weight=0", "task.consistency_weight=1")
    _, folder = job("task=register", "model.reference=learned", *weights)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test/loss"] == pytest.approx(metrics["test/consistency_loss"])


def test_the_shown_sample_is_fixed_and_balanced(job, monkeypatch) -> None:
    from stnrot.callbacks.watch import Watch

    seen: list[list[int]] = []
    write = Watch._write

    def spy(self, trainer, part, drawn, error):
        labels = trainer.datamodule.splits.val.label
        if part == "val":
            seen.append([int(labels[s["index"]]) for s in self._shown] + [s["index"] for s in self._shown])
        return write(self, trainer, part, drawn, error)

    monkeypatch.setattr(Watch, "_write", spy)
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


def test_options_compose() -> None:
    for data in ("rotated_digits", "rotated_mnist", "mnist_rot", "image_pairs"):
        for model in ("rot_stn", "affine_stn", "cnn"):
            config = composed("train", f"data={data}", f"model={model}")
            assert config.model.classifier.width == 32
    assert composed("train", "task=register", "data=image_pairs").model.classifier is None
    assert composed("train", "data=rotated_mnist", "data.max_angle_deg=90", "data.n_train=100").data.n_train == 100
    for experiment in sorted((ROOT / "configs" / "experiment").glob("*.yaml")):
        if experiment.stem.startswith("pairs_"):
            assert composed("train", f"experiment={experiment.stem}").model.classifier is None
            continue
        for options in ((), ("model/encoder=cnn",), ("model=cnn", "data/augment=deform"), ("model=affine_stn",)):
            assert composed("train", f"experiment={experiment.stem}", *options).model.classifier.width == 32
    for trainer in ("auto", "cpu", "gpu", "ddp"):
        assert composed("train", f"trainer={trainer}").trainer.precision == "auto"


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "experiment").iterdir()), ids=lambda file: file.stem)
def test_the_command_in_the_header_of_every_experiment_runs(job, mine: Path, file: Path) -> None:
    (line,) = (line for line in file.read_text().splitlines() if line.startswith("# python train.py "))
    options = line.removeprefix("# python train.py ")
    options = options.replace("data.root=data", f"data.root={os.environ['STNROT_MNIST']}")
    options = options.replace("data.root=FOLDER", f"data.root={mine} data.n_train=null")
    metric, folder = job(*options.split(), "debug=one_batch")
    assert 0 <= metric <= (10 if file.stem.startswith("pairs_") else 1)  # a loss of pairs, else an accuracy
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert Image.open(folder / "pictures" / "test" / "alignment.png").size[0] > 100


@pytest.mark.parametrize("options", [(), ("model/encoder=cnn",), ("model=affine_stn",), ("model=cnn",)])
def test_weights_of_16_bits(job, options: tuple[str, ...]) -> None:
    _, folder = job("debug=one_batch", "trainer.precision=bf16-true", *options)
    weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert weights["model.classifier.linear.weight"].dtype is torch.bfloat16
    assert len(rows(folder / "predictions.csv")) == 100

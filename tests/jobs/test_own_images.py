"""Whole jobs on images of a user: a folder of images, a manifest of pairs."""

import math
from pathlib import Path

import pytest
from conftest import NO_FIGURES, composed, epochs, metrics_of, rows

FOLDER = ("data=image_folder", "data.source.image_size=[24,32]", "data.n_train=null", "data.batch_size=10")
STREAMED = ("data.source.memory_gb=1e-6", "data.num_workers=1")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_users_folder(job, mine: Path, streamed: bool) -> None:
    _, folder = job(*FOLDER, f"data.root={mine}", *(STREAMED if streamed else ()))
    table = rows(folder / "predictions.csv")
    assert {row["class"] for row in table} == {"temple", "flower"}
    assert all(row["class"] in row["file"] for row in table)


def test_a_resumed_run_with_workers_is_the_whole_run(job, mine: Path, tmp_path: Path) -> None:
    options = (*FOLDER, f"data.root={mine}", *STREAMED, "task.scheduler=null", NO_FIGURES)
    _, whole = job(*options, "trainer.max_epochs=3", folder=tmp_path / "whole")
    _, part = job(*options, "trainer.max_epochs=1", folder=tmp_path / "part")
    last = part / "checkpoints" / "last.ckpt"
    _, rest = job(*options, "trainer.max_epochs=3", f"ckpt_path={last}", folder=tmp_path / "rest")
    assert metrics_of(rest) == metrics_of(whole)
    assert epochs(rest) == {1, 2}


def test_register_reads_a_manifest(job, pair_manifest) -> None:
    path, angles = pair_manifest
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
    assert len(table) == 2
    for row in table:
        file = Path(row["file"])
        assert file.is_file()
        assert math.remainder(float(row["angle_deg"]) - angles[int(file.stem[-1])], 360) == pytest.approx(0, abs=1e-3)


def test_evaluation_without_ground_truth(job, pair_manifest, tmp_path: Path) -> None:
    """Trained with known angles, tested on pairs without."""
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

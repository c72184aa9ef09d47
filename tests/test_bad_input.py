"""What a user can get wrong: one line that names it and the way out, exit status 1, no stack."""

from pathlib import Path

import torch
from conftest import SMALL, command
from PIL import Image


def fails(*arguments: str, cwd: Path, script: str = "train.py") -> str:
    """Run a command that must fail with one line; return the line."""
    done = command(script, *arguments, cwd=cwd)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert done.stderr.rstrip().endswith(line)
    return line


def test_unknown_keys_and_options(tmp_path: Path) -> None:
    assert "data.batchsize" in fails("data.batchsize=3", cwd=tmp_path)
    line = fails("model=rotstn", cwd=tmp_path)
    assert "rotstn" in line
    assert "affine_stn" in line
    assert "expected scalar or vector, got 'nonsense'" in fails(
        "model/encoder=cnn", "model.encoder.head=nonsense", cwd=tmp_path
    )
    assert "model.hypotheses=99: expected 1 to" in fails("model.hypotheses=99", cwd=tmp_path)
    assert "model.hypotheses=2: this encoder regresses one angle" in fails(
        "model/encoder=cnn", "model.hypotheses=2", cwd=tmp_path
    )
    assert "task.optimizer" in fails("task.optimizer.lr=fast", cwd=tmp_path)
    assert "data/source=image_folder" in fails("data=image_pairs", "data.source=image_folder", cwd=tmp_path)


def test_groups_and_values(tmp_path: Path) -> None:
    assert "choose with a slash, model/augment=deform" in fails("model.augment=deform", cwd=tmp_path)
    assert "~model/augment" in fails("model/augment=null", cwd=tmp_path)
    assert "trainer.max_epochs=0: expected a whole number of at least 1" in fails("trainer.max_epochs=0", cwd=tmp_path)
    assert "task.angle_weight=-1: expected a number of at least 0" in fails("task.angle_weight=-1", cwd=tmp_path)
    assert "expected model=rot_stn" in fails("task=register", "data=image_pairs", "model=cnn", cwd=tmp_path)
    line = fails(*SMALL, "monitor.metric=val/nonsense", "debug=one_batch", cwd=tmp_path)
    assert "val/nonsense" in line
    assert "val/nll" in line


def test_a_search_without_m_leaves_nothing(tmp_path: Path) -> None:
    assert "expected python train.py -m" in fails("hparams_search=rot_stn", cwd=tmp_path)
    assert not any(tmp_path.iterdir())


def test_missing_data(tmp_path: Path) -> None:
    line = fails("data=rotated_mnist", f"data.root={tmp_path / 'none'}", cwd=tmp_path)
    assert "data.root=" in line
    assert "data=rotated_digits" in line
    assert "data.root" in fails("data=image_folder", cwd=tmp_path)
    assert "expected a folder" in fails("data=image_folder", "data.root=missing", cwd=tmp_path)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    line = fails("hydra.run.dir=file/run", cwd=tmp_path)
    assert "file" in line
    assert "hydra.run.dir" in line
    assert (tmp_path / "file").read_text() == "kept"


def test_one_class(tmp_path: Path) -> None:
    for k in range(10):
        (tmp_path / "mine" / "only").mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 30), 20 * k).save(tmp_path / "mine" / "only" / f"{k}.png")
    line = fails("data=image_folder", f"data.root={tmp_path / 'mine'}", cwd=tmp_path)
    assert "mine" in line
    assert "1 class" in line


def test_too_many_training_images(tmp_path: Path) -> None:
    line = fails("data.n_train=1001", cwd=tmp_path)
    assert "data.n_train=1001" in line
    assert "1000" in line


def test_truncated_image_in_a_worker(tmp_path: Path) -> None:
    for k in range(20):
        path = tmp_path / "mine" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), 60 + k).save(path)
    path.write_bytes(path.read_bytes()[:300])
    options = [
        "data=image_folder",
        f"data.root={tmp_path / 'mine'}",
        "data.source.memory_gb=1e-9",
        "data.num_workers=1",
    ]
    line = fails(*options, "trainer.accelerator=cpu", "data.source.val_fraction=0.3", cwd=tmp_path)
    assert path.name in line


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    small = [*SMALL, "debug=one_batch"]
    assert command("train.py", *small, "model=cnn", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    ckpt = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = ckpt.read_bytes()

    line = fails(*small, "model=rot_stn", f"ckpt_path={ckpt}", cwd=tmp_path)
    assert "another model (CNN, here RotSTN)" in line
    assert "holds the checkpoints of a run already" in fails(*small, "model=cnn", "hydra.run.dir=run", cwd=tmp_path)
    assert "no checkpoint at" in fails(*small, "ckpt_path=missing.ckpt", cwd=tmp_path)
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    assert "text.ckpt is not a readable checkpoint" in fails("ckpt=text.ckpt", cwd=tmp_path, script="evaluate.py")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    assert "not written by train.py" in fails("ckpt=other.ckpt", cwd=tmp_path, script="evaluate.py")
    assert "no run below outputs/train" in fails("ckpt=latest", cwd=tmp_path, script="evaluate.py")
    assert ckpt.read_bytes() == before

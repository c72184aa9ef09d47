"""A published folder, read back with safetensors, json and yaml alone, and by the commands that take a checkpoint."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Called, evaluated, metrics_of, refused, rows
from PIL import Image
from safetensors.torch import load_file, save_file

from stnrot import Aligner
from stnrot.errors import InputError
from stnrot.runs.checkpoints import read_checkpoint, rebuild

ABOUT = "# Ten digits\n\nFor a test.\n"


def published(run: Path, called: Called, folder: Path, *options: str) -> Path:
    """Publish a run; return the folder of the model."""
    (folder.parent / "about.md").write_text(ABOUT)
    status, _ = called(*arguments(run, folder), *options, cwd=run)
    assert status == 0
    return folder


def arguments(run: Path, folder: Path) -> list[object]:
    return ["publish", run, folder, "--about", folder.parent / "about.md", "--licence", "mit"]


def test_a_model_can_be_given_away(digits_run: Path, called: Called, tmp_path: Path) -> None:
    folder = published(digits_run, called, tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    saved = torch.load(digits_run / "checkpoints" / "best.ckpt")
    assert all(
        torch.equal(saved["state_dict"][name], value) for name, value in load_file(folder / "model.safetensors").items()
    )
    text = (folder / "config.json").read_text()
    assert json.loads(text)["run"]["data_spec"]["class_names"] == [str(digit) for digit in range(10)]
    assert str(digits_run) not in text
    _, front, card = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit"
    metrics = metrics_of(digits_run)
    assert ABOUT in card
    assert f"| test/accuracy | {metrics['test/accuracy']:.4g} |" in card

    tested = metrics_of(evaluated(str(folder), tmp_path / "evaluation"))
    assert tested["test/nll"] == pytest.approx(metrics["test/nll"], rel=1e-5)
    image = torch.rand(28, 28)
    assert torch.equal(
        Aligner(folder)(image, image).angle, Aligner(digits_run / "checkpoints" / "best.ckpt")(image, image).angle
    )

    pixels = (torch.rand(28, 28) * 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "image.png")
    (tmp_path / "pairs.csv").write_text("image,reference\nimage.png,image.png\n")
    status, _ = called("align", "--manifest", "pairs.csv", "--out", "angles.csv", "--ckpt", folder, cwd=tmp_path)
    assert status == 0
    assert rows(tmp_path / "angles.csv")[0]["model"].startswith("model ")

    assert "holds files of a model: expected a new or empty folder" in refused(
        called, folder, *arguments(digits_run, folder)
    )
    assert "no checkpoint at" in refused(called, folder, *arguments(folder, tmp_path / "other"))


def test_damaged_and_forged_models_are_one_line(digits_run: Path, called: Called, tmp_path: Path) -> None:
    folder = published(digits_run, called, tmp_path / "model")
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole, described = weights.read_bytes(), json.loads(config.read_text())
    weights.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is not a readable model"):
        read_checkpoint(folder)
    weights.write_bytes(whole)
    for key, value in (("_target_", "os.system"), ("encoder", {"_target_": "builtins.exec", "_args_": ["1"]})):
        forged = described | {"run": described["run"] | {"model": described["run"]["model"] | {key: value}}}
        config.write_text(json.dumps(forged))
        with pytest.raises(InputError, match="not part of stnrot"):
            rebuild(read_checkpoint(folder), folder)
    for text in ("[]", "{", '{"run": 3}', "[" * 10**5):
        config.write_text(text)
        with pytest.raises(InputError, match=r"is not a readable model|was not written by train\.py"):
            read_checkpoint(folder)
    config.write_text(json.dumps(described))
    save_file({"model.other": torch.zeros(1)}, weights)
    with pytest.raises(InputError, match="is a checkpoint of another model"):
        rebuild(read_checkpoint(folder), folder)
    weights.unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors: expected the folder of a published model"):
        read_checkpoint(folder)


def test_half_the_size(digits_run: Path, called: Called, tmp_path: Path) -> None:
    folder, half = (
        published(digits_run, called, tmp_path / "model"),
        published(digits_run, called, tmp_path / "half", "--half"),
    )
    sizes = [(each / "model.safetensors").stat().st_size for each in (half, folder)]
    assert sizes[0] < 0.6 * sizes[1]
    image = torch.rand(4, 1, 28, 28)
    found = [rebuild(read_checkpoint(each), each).model(image, None).log_probability for each in (half, folder)]
    torch.testing.assert_close(*found, atol=0.05, rtol=0)

"""A published folder, read back with safetensors, json and yaml alone, and by the commands that take a checkpoint."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Called, evaluated, metrics_of, refused, rows
from huggingface_hub import ModelCard
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
    (digits_run / ".hydra").mkdir(exist_ok=True)
    options = ["data.root=mine", "seed=1", "model.classifier.weights=/home/me/w.pth", "+data.source.root=/home/me"]
    (digits_run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(options))
    folder = published(digits_run, called, tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    saved = torch.load(digits_run / "checkpoints" / "best.ckpt")
    published_weights = load_file(folder / "model.safetensors")
    assert published_weights.keys() == saved["state_dict"].keys()
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in published_weights.items())
    text = (folder / "config.json").read_text()
    assert json.loads(text)["run"]["data_spec"]["class_names"] == [str(digit) for digit in range(10)]
    assert str(digits_run) not in text
    _, front, card = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit"
    read_by_hub = ModelCard.load(folder / "README.md").data
    assert (read_by_hub.license, read_by_hub.library_name) == ("mit", "stnrot")
    metrics = metrics_of(digits_run)
    assert ABOUT in card
    assert str(tmp_path) not in card
    assert "/home/me" not in card
    assert "`python train.py seed=1`" in card
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

    assert "is not empty: expected a new or empty folder" in refused(called, folder, *arguments(digits_run, folder))
    assert "no checkpoint at" in refused(called, folder, *arguments(folder, tmp_path / "other"))
    (tmp_path / "file").touch()
    assert "cannot be made a folder" in refused(called, folder, *arguments(digits_run, tmp_path / "file"))
    for licence in ("", "yes: [", "a\nlicense: b"):
        other = ["publish", digits_run, tmp_path / "new", "--about", tmp_path / "about.md", "--licence", licence]
        assert "expected a name of the Hugging Face hub" in " ".join(called(*other, cwd=tmp_path)[0].split())
    (tmp_path / "about.md").write_text("no title")
    assert "begins with a title" in refused(called, folder, *arguments(digits_run, tmp_path / "new"))


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


def test_a_model_that_cannot_be_written_leaves_no_part(
    digits_run: Path, called: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "about.md").write_text(ABOUT)
    monkeypatch.setattr("stnrot.runs.publish.CARD", "none/README.md")  # an error of the file system, after the weights
    assert "model cannot be written: [Errno 2]" in str(
        called(*arguments(digits_run, tmp_path / "model"), cwd=tmp_path)[0]
    )
    assert not list((tmp_path / "model").iterdir())


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

"""Exported files say what the model says: run by ONNX Runtime, torch.export and the loader, on real images."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ENVIRONMENT, Called, made_once, model, rows
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from stnrot import OnnxPredictor, load
from stnrot.cli import main
from stnrot.errors import InputError
from stnrot.export.graph import exported_program, write_onnx
from stnrot.export.parity import check_parity, differences
from stnrot.prediction.image_spec import ImageSpec
from stnrot.prediction.predictions import Predictions
from stnrot.prediction.predictor import Predictor
from stnrot.runs.checkpoints import read_checkpoint, rebuild

WITHOUT_TORCH = """
import sys
from stnrot.cli import main
sys.argv = ["stnrot", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"torch", "lightning", "hydra", "omegaconf", "sklearn"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.fixture(scope="session")
def exported(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the exported model of `digits_run`, and ten digits in files."""

    def make(folder: Path) -> None:
        for k, digit in enumerate(load_digits().images[:10]):
            Image.fromarray((digit * 15.9).astype(np.uint8)).resize((20, 20)).rotate(36 * k).save(folder / f"{k}.png")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["stnrot", "export", str(digits_run), "--out", str(folder / "model.onnx")])
            with pytest.raises(SystemExit) as stopped:
                main()
        assert stopped.value.code == 0

    return made_once(tmp_path_factory, "exported", make)


@pytest.mark.ci
def test_onnx_runtime_computes_what_the_model_computes(exported: Path, digits_run: Path) -> None:
    path = digits_run / "checkpoints" / "best.ckpt"
    original = rebuild(read_checkpoint(path), path).model
    pixels = np.stack([np.asarray(Image.open(exported / f"{k}.png").resize((28, 28))) for k in range(10)])[:, None]
    images = torch.from_numpy(pixels).float() / 255
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    for count in (1, 3, 10):
        with torch.inference_mode():
            expected = original(images[:count], None)
        found = dict(
            zip(
                (x.name for x in session.get_outputs()),
                session.run(None, {"image": images[:count].numpy()}),
                strict=True,
            )
        )
        assert np.abs(found["probability"] - expected.log_probability.exp().numpy()).max() < 2e-4
        off = np.abs(np.rad2deg(found["angle"] - expected.orientation.angle.numpy())) % 360
        assert np.minimum(off, 360 - off).max() < 0.01
        assert (found["confidence"] <= found["confidence_45"] + 1e-6).all()
        np.testing.assert_allclose(found["quarters"].sum(1), 1, atol=1e-4)  # they share the circle


@pytest.mark.ci
def test_the_file_says_what_it_reads(exported: Path) -> None:
    saved = onnx.load(exported / "model.onnx")
    (described,) = [json.loads(each.value) for each in saved.metadata_props if each.key == "stnrot"]
    expected = {"channels": 1, "height": 28, "width": 28, "fit": "crop", "disc": False, "classes": list("0123456789")}
    assert {name: described[name] for name in expected} == expected
    assert "counter-clockwise" in described["angle"]
    assert "from 0 (black) to 1 (white)" in described["input"]
    (image,) = saved.graph.input
    assert [each.dim_param or each.dim_value for each in image.type.tensor_type.shape.dim] == ["batch", 1, 28, 28]
    kinds = {node.op_type for node in saved.graph.node}
    assert kinds.isdisjoint({"DFT", "STFT", "Resize", "BatchNormalization", "If", "Loop", "Sequence"})
    assert {each.version for each in saved.opset_import} == {18}


@pytest.mark.ci
def test_predict_runs_the_file_without_torch(exported: Path, digits_run: Path, called: Called, tmp_path: Path) -> None:
    names = [str(exported / f"{k}.png") for k in range(10)]
    arguments = ["predict", *names, "--out", str(tmp_path / "onnx.csv"), "--model", str(exported / "model.onnx")]
    line = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=100, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert called("predict", *names, "--out", "torch.csv", "--model", digits_run, cwd=tmp_path)[0] == 0
    for found, expected in zip(rows(tmp_path / "onnx.csv"), rows(tmp_path / "torch.csv"), strict=True):
        assert found["class"] == expected["class"]
        for name in ("probability", "angle_deg", "confidence"):
            assert float(found[name]) == pytest.approx(float(expected[name]), abs=0.011)
        assert len(found["others"].split()) == len(expected["others"].split()) == 2
    found = OnnxPredictor(exported / "model.onnx")([Image.open(names[0]), names[1]])
    assert found.label == [row["class"] for row in rows(tmp_path / "onnx.csv")[:2]]


@pytest.mark.ci
def test_one_file_of_safetensors_is_the_model(exported: Path, digits_run: Path, called: Called, tmp_path: Path) -> None:
    options = ("--format", "safetensors", "--images", exported / "1.png", "--images", exported / "2.png")
    status, printed = called("export", digits_run, *options, cwd=tmp_path)
    assert status == 0
    assert "largest difference on 2 given images: angle 0.0e+00 degrees" in printed
    image = exported / "3.png"
    found, expected = load(tmp_path / "model.safetensors")(image), load(digits_run)(image)
    assert torch.equal(found.probability, expected.probability)
    assert torch.equal(found.angle, expected.angle)


def test_a_file_that_differs_is_refused() -> None:
    expected = Predictions(("a", "b"), angle=np.array([[np.pi - 1e-6]]), probability=np.array([[0.25, 0.75]]))
    same = Predictions((), angle=np.array([[-np.pi + 1e-6]]), probability=np.array([[0.2501, 0.7499]]))
    assert differences(same, expected) == pytest.approx({"angle": np.rad2deg(2e-6), "probability": 1e-4}, rel=1e-3)
    assert check_parity(same, expected, "1 image").startswith("largest difference on 1 image: angle 1.1e-04 degrees")
    for off in (
        Predictions((), angle=np.array([[0.999 * np.pi]]), probability=np.array([[0.25, 0.75]])),
        Predictions((), angle=expected.angle, probability=np.array([[0.2503, 0.7497]])),
        Predictions((), angle=np.array([[np.nan]]), probability=expected.probability),
    ):
        with pytest.raises(InputError, match="differs from the original on 1 image"):
            check_parity(off, expected, "1 image")


@pytest.mark.ci
def test_what_is_refused(exported: Path, digits_run: Path, called: Called, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    saved = onnx.load(exported / "model.onnx")
    saved.metadata_props[0].value = json.dumps(json.loads(saved.metadata_props[0].value) | {"classes": ["a"]})
    onnx.save(saved, tmp_path / "classes.onnx")
    del saved.metadata_props[:]
    onnx.save(saved, tmp_path / "other.onnx")
    before = sorted(tmp_path.iterdir())
    image = exported / "1.png"
    for arguments, message in (
        (("predict", image, "--model", "broken.onnx"), "expected a file that stnrot export wrote"),
        (("predict", image, "--model", "nowhere.onnx"), "expected a file that stnrot export wrote"),
        (("predict", image, "--model", "other.onnx"), "has no metadata of stnrot"),
        (("predict", image, "--model", "classes.onnx"), "has 1 names of classes"),
        (("predict", image, "--model", "broken.safetensors"), "is not a readable model"),
        (("export", digits_run, "--out", "other.onnx"), "--out=other.onnx: expected a new file"),
        (("export", digits_run, "--out", "a/b.onnx"), "in a folder that exists"),
        (("export", digits_run, "--out", "model.pt2"), "ends in .onnx"),
        (("export", digits_run, "--format", "pt2", "--int8"), "--int8 came with --format pt2"),
        (("export", "photos"), "the validation images of"),
        (("export", "nowhere"), "expected the folder of a run of train.py"),
    ):
        status, _ = called(*arguments, cwd=tmp_path)
        assert isinstance(status, str), arguments
        assert message in status
        assert len(status.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (("rot_stn",), (3, 45, 32)),
        (("rot_stn", "model.encoder.shift=0.1"), (1, 80, 80)),
        (("rot_stn", "model/encoder=p4", "model.encoder.mirrored=true"), (3, 48, 48)),
        (("rot_stn", "model/encoder=cnn", "model.hypotheses=1"), (1, 28, 28)),
        (("affine_stn",), (1, 28, 28)),
        (("cnn",), (1, 28, 28)),
    ],
)
@pytest.mark.parametrize("fixed", [False, True])
def test_every_model_exports(
    options: tuple[str, ...], shape: tuple[int, int, int], fixed: bool, digits_run: Path, tmp_path: Path
) -> None:
    """With sizes that are resized; also as a program of torch, whose shapes are fixed."""
    predictor = load(digits_run)
    sizes = dict(zip(("channels", "height", "width"), shape, strict=True))
    predictor.spec = ImageSpec(**sizes, fit="crop", disc=True, classes=tuple("0123456789"))
    predictor.model = model(*options, shape=shape).eval()
    pixels = [Image.fromarray(each[:300, :300]).resize(shape[:0:-1]) for each in load_sample_images().images]
    pixels = [image.rotate(70 * k).convert("RGB" if shape[0] == 3 else "L") for k in range(3) for image in pixels]
    images = (
        np.stack([np.atleast_3d(np.asarray(image)).transpose(2, 0, 1) for image in pixels]).astype(np.float32) / 255
    )
    expected = predictor.predict(torch.from_numpy(images))
    write_onnx(predictor, tmp_path / "model.onnx", fixed)
    check_parity(OnnxPredictor(tmp_path / "model.onnx").predict(images), expected, "the photographs")
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert kinds.isdisjoint({"DFT", "Resize"})
    if fixed:
        assert "NonZero" not in kinds
        program = exported_program(predictor, True).module()
        with torch.inference_mode():
            found = Predictions((), **program(torch.from_numpy(images)))
        check_parity(found, expected, "the photographs")


class Classes(torch.nn.Module):
    """The log-probabilities of a model alone: torch.export knows no record of ours."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model(image, None).log_probability


@pytest.mark.ci
def test_an_export_leaves_the_model_as_it_was(digits_run: Path) -> None:
    """A plain export of torch needs fixed shapes, also after an export without them."""
    predictor = load(digits_run)
    exported_program(predictor, False)
    plain = torch.export.export(Classes(predictor.model.cpu()), (torch.rand(2, 1, 28, 28),))
    assert "nonzero" not in str(plain.graph)


@pytest.mark.slow
def test_openvino_computes_the_same(exported: Path) -> None:
    openvino = pytest.importorskip("openvino")
    file = exported / "model.onnx"
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    session = onnxruntime.InferenceSession(file)
    names = [each.name for each in session.get_outputs()]
    for count in (1, 4):
        image = np.random.default_rng(count).random((count, 1, 28, 28), dtype=np.float32)
        found = compiled({"image": image})
        for name, expected in zip(names, session.run(names, {"image": image}), strict=True):
            np.testing.assert_allclose(found[name], expected, atol=2e-4)


@pytest.mark.slow
def test_photographs_pt2_and_int8(called: Called, digits_run: Path, exported: Path, tmp_path: Path) -> None:
    for k, pixels in enumerate(load_sample_images().images):
        Image.fromarray(pixels).rotate(40 * k, expand=True).save(tmp_path / f"{k}.jpg")
    status, printed = called("export", "photos", "--images", "*.jpg", cwd=tmp_path)
    assert status == 0
    assert "on 2 given images" in printed
    found = OnnxPredictor(tmp_path / "model.onnx")([tmp_path / "0.jpg", tmp_path / "1.jpg"])
    expected = load("photos")([tmp_path / "0.jpg", tmp_path / "1.jpg"])
    assert differences(found, expected)["angle"] < 0.01
    assert called("export", digits_run, "--format", "pt2", cwd=tmp_path)[0] == 0
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert isinstance(load(digits_run), Predictor)
    for count in (1, 4):
        assert program(torch.rand(count, 1, 28, 28))["angle"].shape == (count, 3)
    status, printed = called("export", digits_run, "--int8", "--out", "small.onnx", cwd=tmp_path)
    if status == 0:
        assert (tmp_path / "small.onnx").stat().st_size < (exported / "model.onnx").stat().st_size
    else:
        assert "--int8 does not hold the accuracy" in str(status)

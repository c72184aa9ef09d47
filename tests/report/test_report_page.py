"""The page of `stnrot report`, read back with html.parser; its numbers against scikit-learn, SciPy and torchmetrics."""

import base64
import csv
import json
import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Called, composed, metrics_of, refused, rows
from PIL import Image
from scipy.stats import binned_statistic
from sklearn.metrics import confusion_matrix
from torchmetrics.classification import BinaryCalibrationError

from stnrot.errors import InputError
from stnrot.report import confusion
from stnrot.report.blocks import Cell, Note, Picture, Table
from stnrot.report.by_angle import EDGES, accuracy_in_bins
from stnrot.report.curves import _from_csv, _from_tensorboard, read_curves, section
from stnrot.report.overview import differences, numbers
from stnrot.report.page import page
from stnrot.report.predictions import Predictions, read_predictions
from stnrot.report.reliability import reliability
from stnrot.report.run_folder import read_run

EVIL = "<script>alert('$x$')</script>"
VOID = {"meta", "img", "br"}
DRAWING = "data:image/svg+xml;base64,"


class Page(HTMLParser):
    """Everything a test asks about a page; a tag that is not closed in order is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []  # tag, text
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    @property
    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag != "style")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def digits_page(digits_run: Path) -> str:
    """The page about one run."""
    return page([read_run(digits_run)])


def drawings(found: Page) -> list[str]:
    """Return the SVG images of a page."""
    sources = [str(each["src"]) for each in found.all("img")]
    return [base64.b64decode(each.removeprefix(DRAWING)).decode() for each in sources if each.startswith(DRAWING)]


def changed(run: Path, folder: Path, *names: str) -> Path:
    """Copy some files of a run."""
    folder.mkdir()
    for name in names:
        shutil.copy(run / name, folder / name)
    return folder


def test_all_numbers_are_on_the_page(digits_run: Path, digits_page: str) -> None:
    found = Page(digits_page)
    metrics = metrics_of(digits_run)
    assert set(metrics.values()) <= {float(str(each["value"])) for each in found.all("data")}
    assert f"{100 * metrics['test/accuracy']:.2f} %" in found.text
    assert f"{metrics['test/angle_median_deg']:.2f}°" in found.text
    assert f"{metrics['test/nll']:.4g} nats" in found.text
    for known in ("Classify", "RotSTN", f"torch {torch.__version__}", version("stnrot"), "1 of 1"):
        assert known in found.text


def test_the_page_needs_nothing_else(digits_page: str) -> None:
    found = Page(digits_page)
    tags = {name for name, _ in found.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    addresses = [
        str(value)
        for _, attributes in found.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "background")
    ]
    assert len(addresses) > 20
    assert all(each.startswith(("data:image/", "#")) for each in addresses)
    assert {each["href"] for each in found.all("a")} == {f"#{each['id']}" for each in found.all("section")}
    assert "://" not in re.sub(r'="data:[^"]*"', "", digits_page)
    assert not re.search(r"url\(|@import", digits_page)
    (policy,) = [each["content"] for each in found.all("meta") if "http-equiv" in each]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert len(drawings(found)) > 8
    for drawing in drawings(found):
        assert drawing.startswith("<svg")
        assert not re.search(r"<script|@import|<!DOCTYPE|url\((?!#)", drawing)
        assert all(each.startswith("#") for each in re.findall(r'href="([^"]*)"', drawing))
        assert not re.search(r"(fill|stroke): ?#(000000|ffffff)", drawing)  # would not follow the dark scheme


def test_figures_have_captions_and_alternatives(digits_page: str) -> None:
    found = Page(digits_page)
    assert len(found.all("figcaption")) == len(found.all("figure")) > 8
    assert all(len(str(each["alt"])) > 10 for each in found.all("img"))
    for words in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert words in digits_page


def test_the_confusion_matrix_is_that_of_scikit_learn(digits_run: Path, digits_page: str) -> None:
    table = rows(digits_run / "predictions.csv")
    expected = confusion_matrix([row["class"] for row in table], [row["predicted_class"] for row in table])
    inside = digits_page.partition('<table class="matrix">')[2].partition("</table>")[0]
    shown = [int(each) for each in re.findall(r"<td class=[^>]*>(\d+)</td>", inside)]
    assert np.array_equal(np.reshape(shown, (10, 10)), expected)
    assert re.findall(r'scope="row">(.)<', inside) == list("0123456789")


def test_reliability_and_accuracy_by_angle(digits_run: Path, digits_page: str) -> None:
    table = rows(digits_run / "predictions.csv")
    confidence = np.array([float(row["confidence"]) for row in table])
    right = np.array([row["class"] == row["predicted_class"] for row in table])
    wide = np.random.default_rng(0).random(2000)  # the run is sure of nothing
    for sure, hit in ((confidence, right), (wide, wide > 0.4)):
        found = reliability(sure, hit)
        metric = BinaryCalibrationError(n_bins=10)
        metric.update(torch.from_numpy(sure), torch.from_numpy(hit).int())
        assert found.calibration_error == pytest.approx(float(metric.compute()), abs=1e-6)
        for values, expected in ((found.accuracy, hit), (found.confidence, sure)):
            oracle = binned_statistic(sure, expected.astype(float), bins=10, range=(0, 1)).statistic
            np.testing.assert_allclose(values, oracle, atol=1e-12)
    assert f"this run {reliability(confidence, right).calibration_error:.2%}" in Page(digits_page).text

    rotation = -np.array([float(row["angle_deg"]) for row in table])
    count, share = accuracy_in_bins(rotation, right)
    oracle = binned_statistic(rotation, right.astype(float), bins=EDGES)
    np.testing.assert_allclose(share, oracle.statistic, atol=1e-12)
    assert count.sum() == len(table)
    shown = {float(str(each["value"])) for each in Page(digits_page).all("data")}
    assert {float(value) for value in share} <= shown


def test_the_samples_are_aligned_by_the_predicted_angle(digits_run: Path, digits_page: str) -> None:
    """Pillow rotates each input by the angle of predictions.csv; the worst cases are the surest misread images."""
    table = {row["index"]: row for row in rows(digits_run / "predictions.csv")}
    images: dict[tuple[str, str], np.ndarray] = {}
    for each in Page(digits_page).all("img"):
        if label := re.match(r"(input|aligned) of image (\d+),", str(each["alt"])):
            content = base64.b64decode(str(each["src"]).partition(",")[2])
            images[label[2], label[1]] = np.asarray(Image.open(BytesIO(content)), np.float64)
    indices = {index for index, _ in images}
    assert 20 <= len(indices) <= 44
    for index in indices:
        angle = float(table[index]["predicted_angle_deg"])
        turned = Image.fromarray(images[index, "input"].astype(np.uint8)).rotate(angle, Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(turned, np.float64) - images[index, "aligned"]).mean() < 3
    wrong = [row for row in table.values() if row["class"] != row["predicted_class"]]
    assert {row["index"] for row in sorted(wrong, key=lambda row: -float(row["confidence"]))[:12]} <= indices
    far = sorted(table.values(), key=lambda row: -abs(float(row["angle_error_deg"])))[:12]
    assert {row["index"] for row in far} <= indices


def test_names_are_only_text(digits_run: Path, tmp_path: Path) -> None:
    folder = changed(digits_run, tmp_path / "<img src=x onerror=alert(1)>", "config.yaml", "metrics.json")
    table = rows(digits_run / "predictions.csv")
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*table[0], "file"])
        writer.writeheader()
        for row in table:
            names = {name: row[name].replace("3", EVIL) for name in ("class", "predicted_class")}
            writer.writerow(row | names | {"file": f'/home/me/data/"><b>{row["index"]}.png'})
    (folder / "metrics.json").write_text(json.dumps(metrics_of(digits_run) | {f"test/{EVIL}": float("nan")}))
    text = page([read_run(folder)])
    found = Page(text)
    assert not found.all("script")
    assert not found.all("b")
    assert all("onerror" not in attributes for _, attributes in found.tags)
    assert sum(EVIL in shown for _, shown in found.texts) > 2
    assert "/home" not in found.text
    assert "the data of the run have changed since its test" in found.text  # so no image is shown for another


def test_what_is_missing_is_named_and_the_rest_stands(digits_run: Path, tmp_path: Path, called: Called) -> None:
    bare = changed(digits_run, tmp_path / "bare", "metrics.json", "config.yaml")
    found = Page(page([read_run(bare)]))
    assert set(metrics_of(digits_run).values()) <= {float(str(each["value"])) for each in found.all("data")}
    assert "There is no predictions.csv" in found.text
    assert f"stnrot evaluate ckpt={bare}/checkpoints/best.ckpt" in found.text
    assert "No log of the epochs" in found.text

    begun = changed(digits_run, tmp_path / "begun", "config.yaml")
    shutil.copytree(digits_run / "csv", begun / "csv")
    (begun / "checkpoints").mkdir()
    (begun / "checkpoints" / "last.ckpt").touch()
    status, printed = called("report", begun, "--out", "begun.html", cwd=tmp_path)
    assert status == 0
    assert printed.splitlines()[0] == f"{begun} is not finished: the report has what there is"
    found = Page((tmp_path / "begun.html").read_text())
    assert f"stnrot train resume={begun}" in found.text
    assert metrics_of(digits_run)["val/nll"] in {float(str(each["value"])) for each in found.all("data")}
    status, printed = called("report", begun, digits_run, "--overwrite", "--out", "begun.html", "--json", cwd=tmp_path)
    first, second = json.loads(printed.splitlines()[0])["runs"]
    assert (status, first["finished"], first["metrics"]["val/nll"]) == (0, False, metrics_of(digits_run)["val/nll"])
    assert second == {"folder": str(digits_run), "finished": True, "metrics": metrics_of(digits_run)}

    (bare / "predictions.csv").write_text("index,confidence\n1,high\n")
    assert "Predictions.csv cannot be read: could not convert" in Page(page([read_run(bare)])).text


def test_several_runs_side_by_side(digits_run: Path, tmp_path: Path) -> None:
    other = changed(digits_run, tmp_path / "other", "config.yaml", "predictions.csv")
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("hypotheses: 3", "hypotheses: 1"))
    better = {
        name: value + (0.1 if name == "test/accuracy" else -0.1) for name, value in metrics_of(digits_run).items()
    }
    (other / "metrics.json").write_text(json.dumps(better))
    solid = tmp_path / "solid"
    solid.mkdir()
    (solid / "config.yaml").write_text("task: {_target_: stnrot.tasks.pose.EstimatePose}\nseed: 4\n")
    (solid / "metrics.json").write_text('{"test/angle_mean_deg": 3.5}')

    runs = [read_run(digits_run), read_run(other)]
    (table, _) = numbers(runs).blocks
    assert isinstance(table, Table)
    best = {cell.value for _, cells in table.rows for cell in cells if cell.best}
    assert {better["test/accuracy"], better["test/nll"]} <= best
    assert metrics_of(digits_run)["test/accuracy"] not in best
    options = differences(runs)
    assert options is not None
    assert options.blocks == [Table("", ["", "run 1", "run 2"], [("model.hypotheses", [Cell("3"), Cell("1")])])]

    text = Page(page([runs[1], read_run(solid)])).text
    assert "The runs have different tasks" in text
    assert "The runs have different data" in text
    assert "3.50°" in text
    assert "There is no predictions.csv" not in text  # this task writes none


def test_bad_arguments_are_one_line(digits_run: Path, tmp_path: Path, called: Called) -> None:
    (tmp_path / "report.html").write_text("mine")
    (tmp_path / "note.txt").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "add --overwrite to replace it" in refused(called, folder, "report", digits_run, "--out", "../report.html")
    assert "there is no folder" in refused(called, folder, "report", digits_run, "--out", "none/report.html")
    assert "is not a run: expected the folder of a run" in refused(called, folder, "report", folder)
    assert "does not exist" in refused(called, folder, "report", tmp_path / "none")
    assert "is a file" in refused(called, folder, "report", tmp_path / "note.txt")
    shutil.copytree(digits_run, tmp_path / "runs" / "one")
    assert f"but holds 1: give {tmp_path}/runs/*/" in refused(called, folder, "report", tmp_path / "runs")
    broken = changed(digits_run, tmp_path / "broken", "config.yaml")
    (broken / "metrics.json").write_text("{")
    assert "metrics.json cannot be read" in refused(called, folder, "report", broken)
    (broken / "metrics.json").unlink()
    (broken / "config.yaml").write_text("a: [")
    assert "config.yaml cannot be read" in refused(called, folder, "report", broken)
    shutil.copy(digits_run / "config.yaml", broken)
    status, _ = called("report", broken, "--out", tmp_path / "report.html", "--overwrite", cwd=folder)
    assert status == 0
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no rows"),
        ("index,confidence\n0,0.5\n1\n", "a row has more or fewer cells than the header"),
        ("index,confidence\n0,0.5,7\n", "a row has more or fewer cells than the header"),
        ("index,confidence\n0,nan\n", "a number is NaN or infinite"),
        ("index;confidence\n0;0.5\n", "expected a column index"),
        (f"index\n{10**40}\n", "too large"),
        ("index\n-1\n", "an index is negative"),
    ],
)
def test_predictions_that_are_cut_or_edited_are_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "predictions.csv").write_text(text)
    assert reason in str(read_predictions(read_run(tmp_path)))


def test_predictions_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "predictions.csv").write_text("index,class\n3,a\n", encoding="utf-8-sig")
    found = read_predictions(read_run(tmp_path))
    assert isinstance(found, Predictions)
    assert found.index.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("data: x", "data"),
        ("model: [1]", "model"),
        ("data_spec: {class_names: 5}", "data_spec.class_names"),
        ("ckpt: []", "ckpt"),
        ("ckpt: best.ckpt", "ckpt"),
    ],
)
def test_an_edited_configuration_is_one_line(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=f"config.yaml: {wrong} is not what a run has written"):
        read_run(tmp_path)


def test_the_command_of_an_ensemble_names_every_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("ckpt: [a.ckpt, b.ckpt]")
    assert read_run(tmp_path).to_evaluate() == "stnrot evaluate 'ckpt=[a.ckpt,b.ckpt]'"


def test_the_caption_of_a_curve_names_what_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "csv" / "version_0").mkdir(parents=True)
    (tmp_path / "csv" / "version_0" / "metrics.csv").write_text(
        "epoch,train/loss,val/loss,val/accuracy\n0,2,1,0.5\n1,1,1,0.6\nnan,1,1,1\ninf,1,1,1\n"
    )
    (tmp_path / "metrics.json").write_text("{}")
    run = replace(read_run(tmp_path), config={"task": {}})
    found = section([run], ["this run"])
    assert found is not None
    captions = [each.caption for each in found.blocks if isinstance(each, Picture)]
    assert captions == ["Loss. Thick: validation; thin and dashed: training.", "Accuracy. Validation."]


def test_logs_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number too large for the axis leaves a gap. A file that cannot be read is refused in one line."""
    (tmp_path / "config.yaml").write_text("task: {}")
    run = read_run(tmp_path)
    table, events = tmp_path / "csv" / "version_0" / "metrics.csv", tmp_path / "tensorboard" / "events.out"
    table.parent.mkdir(parents=True)
    table.write_text("epoch,val/loss\n0,1e308\n1,-1e308\n2,3\n")
    found = section([run], ["this run"])
    assert found is not None
    assert [each.kind for each in found.blocks] == ["picture"]
    monkeypatch.setattr("stnrot.report.curves.MOST_PICTURES", 1)
    table.write_text("epoch,val/loss,val/nll,val/accuracy\n0,1,1,1\n")
    found = section([run], ["this run"])
    assert found is not None
    assert [each.kind for each in found.blocks] == ["picture", "note"]
    assert found.blocks[-1] == Note("The curves of 2 more metrics are left out.")
    table.write_text("x" * 10**6)
    with pytest.raises(InputError, match="cannot be read: field larger than field limit"):
        read_curves(run)
    table.unlink()
    events.parent.mkdir()
    os.mkfifo(events)
    with pytest.raises(InputError, match="got a named pipe"):
        read_curves(run)


def test_a_matrix_of_very_many_classes_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    names = "".join(f"{k},a{k},b{k}\n" for k in range(1001))
    (tmp_path / "predictions.csv").write_text(f"index,class,predicted_class\n{names}")
    run = read_run(tmp_path)
    found = read_predictions(run)
    assert isinstance(found, Predictions)
    assert confusion.blocks(run, found) == [Note("The matrix of 2,002 classes is too large for this page.")]


def test_curves_of_both_logs_are_the_same(digits_run: Path) -> None:
    run = read_run(digits_run)
    table, events = _from_csv(run), _from_tensorboard(run)
    names = [name for name in table if name.startswith(("train/", "val/"))]
    assert len(names) > 8
    for name in names:
        assert events[name] == pytest.approx(table[name], rel=1e-6)


def test_a_run_records_what_it_depends_on(digits_run: Path) -> None:
    found = json.loads((digits_run / "environment.json").read_text())
    assert found["stnrot"] == version("stnrot")
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["processes"] == 1
    assert 0 < found["minutes"] < 60


@pytest.mark.ci
@pytest.mark.parametrize(
    ("options", "figure"), [("experiment=torus_pose", "poses"), ("experiment=conjugate", "rotation")]
)
def test_other_tasks(tmp_path: Path, options: str, figure: str) -> None:
    from train import train

    train(composed("train", options, "debug=one_batch", "trainer.accelerator=cpu", f"output_dir={tmp_path}"))
    found = Page(page([read_run(tmp_path)]))
    assert set(metrics_of(tmp_path).values()) <= {float(str(each["value"])) for each in found.all("data")}
    assert f"Figure {figure} of the test" in {str(each["alt"]) for each in found.all("img")}
    assert "class=matrix" not in found.text

"""`stnrot predict` on real files: its tables are read with csv and json alone, its images with Pillow."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ENVIRONMENT, Called, rows
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from stnrot import load

COLUMNS = ["image", "class", "probability", "angle_deg", "confidence", "others", "model", "error"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with digits of two sizes, in folders, and a broken file."""
    for k, digit in enumerate(load_digits().images[:12]):
        path = tmp_path / "scans" / ("a", "b")[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digit * 15.9).astype(np.uint8)).resize((28 + 4 * (k % 3),) * 2).save(path)
    (tmp_path / "scans" / "b" / "broken.png").write_text("nothing")
    return tmp_path


def test_a_table_grows_and_resumes(digits_run: Path, called: Called, folder: Path) -> None:
    status, printed = called("predict", "scans/a", "--model", digits_run, "--out", "out.csv", cwd=folder)
    assert (status, printed) == (0, "6 images in out.csv\n")
    first = rows(folder / "out.csv")
    assert list(first[0]) == COLUMNS
    status, printed = called("predict", "scans", "--model", digits_run, "--out", "out.csv", cwd=folder)
    assert (status, printed) == (1, "13 images in out.csv, 1 with an error: see that column\n")
    table = rows(folder / "out.csv")
    assert table[:6] == first
    (bad,) = [row for row in table if row["error"]]
    assert bad["image"] == "scans/b/broken.png"
    assert "it has none of the image formats" in bad["error"]
    predictor = load(digits_run)
    for row in table[:8]:
        found = predictor(folder / row["image"])
        assert row["class"] == found.label[0]
        assert float(row["probability"]) == pytest.approx(found.probability.max().item(), abs=1e-4)
        angles = found.angle[0].double().rad2deg().tolist()
        assert float(row["angle_deg"]) == pytest.approx(angles[0], abs=0.01)
        assert [float(each.split(":")[0]) for each in row["others"].split()] == pytest.approx(angles[1:], abs=0.01)

    assert called("predict", "scans/a/0.png", "--model", digits_run, "--out", "out.csv", cwd=folder)[0] == 0
    assert rows(folder / "out.csv") == table  # the error of an image that is not given stays
    Image.new("L", (30, 30), 90).save(folder / "scans" / "b" / "broken.png")
    status, _ = called("predict", "scans", "--model", digits_run, "--out", "out.csv", cwd=folder)
    assert status == 0
    assert not any(row["error"] for row in rows(folder / "out.csv"))
    assert len(rows(folder / "out.csv")) == 13


def test_patterns_standard_input_and_json(
    digits_run: Path, called: Called, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = os.fsencode(folder) + b"/\xff [1].png"  # no UTF-8, and no pattern
    shutil.copy(folder / "scans" / "a" / "2.png", strange)
    listed = b"scans/a/0.png\r\n\nscans/b/broken.png\n./scans/a/0.png\n" + strange + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    status, printed = called("predict", "-", "scans/*/1*.png", "--model", digits_run, "--json", cwd=folder)
    assert status == 1
    answers = [json.loads(line) for line in printed.splitlines()]
    names = ["scans/a/0.png", "scans/b/broken.png", os.fsdecode(strange)]
    names += ["scans/a/10.png", "scans/b/1.png", "scans/b/11.png"]
    assert [each["image"] for each in answers] == names
    assert answers[1].keys() == {"image", "error"}
    assert isinstance(answers[0]["angle_deg"], float)
    assert len(answers[0]["others"]) == 2
    assert "error" not in answers[2]
    status, _ = called("predict", strange.decode(errors="surrogateescape"), "--model", digits_run, cwd=folder)
    assert status == 0
    for _ in range(2):
        status, _ = called("predict", ".", "--model", digits_run, "--out", "all.csv", cwd=folder)
        assert status == 1
    status, printed = called("predict", "scans/a/0.png", "--model", digits_run, cwd=folder)
    assert status == 0
    assert printed.startswith(f"scans/a/0.png  {answers[0]['class']} 0.")
    assert "degrees, confidence 0." in printed


def test_aligned_images_are_pillows_and_resume(digits_run: Path, called: Called, folder: Path) -> None:
    """Also images of one name in two folders, a finished table, grey of 16 bits, pages, and a file that is kept."""
    scans = folder / "scans"
    (scans / "b" / "broken.png").unlink()
    photograph = Image.fromarray(load_sample_images().images[0][:201, :201])
    deep = Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257)
    photograph.save(scans / "a" / "same.png")
    deep.save(scans / "b" / "same.png")
    photograph.save(scans / "pages.tif", save_all=True, append_images=[photograph])
    before = {path: path.read_bytes() for path in scans.rglob("*.*")}
    arguments = ("predict", "scans", "--model", digits_run, "--out", "out.csv")
    assert called(*arguments, cwd=folder)[0] == 0
    table = rows(folder / "out.csv")
    out = scans / "aligned"  # among the images
    (out / "a").mkdir(parents=True)
    (out / "a" / "0.png").write_text("mine")
    status, printed = called(*arguments, "--save-aligned", "scans/aligned", cwd=folder)
    assert (status, printed) == (1, "15 images in out.csv, 1 with an error: see that column\n")
    (failed,) = [row for row in rows(folder / "out.csv") if row["error"]]
    assert failed["image"] == "scans/pages.tif"
    assert "it holds several images" in failed["error"]
    assert [row | {"error": ""} for row in rows(folder / "out.csv")] == table
    assert {path: path.read_bytes() for path in before} == before
    assert len([path for path in out.rglob("*.*") if path.is_file()]) == 14
    assert (out / "a" / "0.png").read_text() == "mine"
    y, x = np.mgrid[:201, :201] - 100
    inside = x**2 + y**2 < 95**2
    angles = {row["image"]: float(row["angle_deg"]) for row in table}
    for name, mode, scale in (("a/same.png", "RGB", 1), ("b/same.png", "I;16", 257)):
        written = Image.open(out / name)
        assert (written.mode, written.size) == (mode, (201, 201))
        turned = photograph.rotate(angles[f"scans/{name}"], Image.Resampling.BICUBIC)
        expected = np.asarray(turned if mode == "RGB" else turned.convert("L"), dtype=float)
        assert np.abs(np.asarray(written, dtype=float) / scale - expected)[inside].mean() < 2
    (out / "b" / "same.png").unlink()
    scans.joinpath("pages.tif").unlink()
    assert called(*arguments, "--save-aligned", "scans/aligned", cwd=folder)[0] == 0
    assert (out / "b" / "same.png").is_file()
    (out / "b" / "same.png").unlink()
    whole = (folder / "out.csv").read_text()
    line = next(line for line in whole.splitlines() if line.startswith("scans/b/same.png,"))
    for text in ('"0,1"', "", "nan"):
        cells = line.split(",")
        edited = whole.replace(line, ",".join([*cells[:3], text, *cells[4:]]))
        (folder / "out.csv").write_text(edited, newline="")
        status, _ = called(*arguments, "--save-aligned", "scans/aligned", cwd=folder)
        expected = f"out.csv: the row of scans/b/same.png has angle_deg={text.strip(chr(34))}: expected a number"
        assert expected in str(status)
        assert (folder / "out.csv").read_text() == edited.replace("\r\n", "\n")
    message = called("predict", "scans", "--model", digits_run, "--save-aligned", "scans", cwd=folder)[0]
    assert "--save-aligned=scans: scans/a/0.png is one of the images" in str(message)


def test_what_is_refused(digits_run: Path, called: Called, folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "other.csv").write_text("a,b\n1,2\n")
    model = ("--model", digits_run)
    for arguments, message in (
        (("scans", "--model", "nowhere"), "--model=nowhere: expected the folder of a run of train.py"),
        (("empty", *model), "empty has no images"),
        (("*.jpg", *model), "*.jpg matches no file"),
        (("scans", *model, "--out", "out.csv", "--json"), "--json came with --out"),
        (("scans", *model, "--out", "other.csv"), "other.csv is not a table of this command"),
        (("scans", *model, "--out", "nowhere/out.csv"), "in a folder that exists"),
        (("", *model), "expected names of image files, got an empty one"),
        (("x" * 300 + "*", *model), "matches no file"),
    ):
        status, _ = called("predict", *arguments, cwd=folder)
        assert isinstance(status, str), arguments
        assert message in status
        assert len(status.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["empty", "other.csv", "scans"]
    assert (folder / "other.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(digits_run: Path, folder: Path) -> None:
    for k in range(3000):
        (folder / f"{k}.png").write_bytes((folder / "scans" / "a" / "0.png").read_bytes())
    line = [sys.executable, "-m", "stnrot.cli", "predict", "*.png", "--model", str(digits_run), "--out", "out.csv"]
    process = subprocess.Popen(line, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and (not (folder / "out.csv").exists() or len(rows(folder / "out.csv")) < 300):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    done = len(rows(folder / "out.csv"))
    assert 300 <= done < 3000
    subprocess.run(line, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    table = rows(folder / "out.csv")
    assert len({row["image"] for row in table}) == len(table) == 3000

"""`stnrot align --stack`: the series of frames of a user, the drift table and its plot."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from conftest import ENVIRONMENT, Called, refused, rows
from PIL import Image
from sklearn.datasets import load_sample_image

DEGREES = 0.4  # a frame


def write_frames(folder: Path, count: int, side: int = 64) -> None:
    """Write frames that drift."""
    folder.mkdir(exist_ok=True)
    photograph = load_sample_image("china.jpg")[..., 1]
    for k in range(count):
        matrix = cv2.getRotationMatrix2D((320, 210), -DEGREES * k, 1)
        matrix[:, 2] += ((side - 1) / 2 - 320 + 3 * np.sin(k / 9), (side - 1) / 2 - 210)
        frame = cv2.warpAffine(photograph, matrix, (side, side), flags=cv2.INTER_CUBIC)
        Image.fromarray(frame).save(folder / f"{k}.png")


def test_a_folder_of_frames(called: Called, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 12)
    code, printed = called("align", "--stack", "frames", "--out", "aligned", cwd=tmp_path)
    assert (code, printed) == (0, "12 frames in aligned, their drift in aligned/drift.csv\n")
    table = rows(tmp_path / "aligned" / "drift.csv")
    columns = "frame,angle_deg,shift_x,shift_y,scale,overlap,confidence,to,motion,model,error"
    assert ",".join(table[0]) == columns
    for k, row in enumerate(table):
        assert row["frame"] == f"frames/{k}.png"
        assert float(row["angle_deg"]) == pytest.approx(DEGREES * k, abs=0.15)
        assert (row["to"], row["motion"], row["model"]) == ("first", "rigid", "correlation")
    with Image.open(tmp_path / "aligned" / "drift.png") as plot:
        assert plot.size == (720, 480)
        assert len(np.unique(np.asarray(plot))) > 10
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "aligned").iterdir() if path.name != "drift.png"}
    assert called("align", "--stack", "frames", "--out", "aligned", cwd=tmp_path)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files, "nothing is done again"


def test_a_bad_frame_gives_the_exit_code_1(called: Called, tmp_path: Path) -> None:
    write_frames(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"not an image")
    frames = ["0.png", "1.png", "2.png"]
    code, printed = called("align", "--stack", *frames, "--out", "stack.tif", "--motion", "similarity", cwd=tmp_path)
    assert code == 1
    assert printed == "3 frames in stack.tif, their drift in stack_drift.csv, 1 with an error: see that column\n"
    assert "cannot read the image 1.png" in rows(tmp_path / "stack_drift.csv")[1]["error"]
    with Image.open(tmp_path / "stack_drift.png") as plot:
        assert plot.size == (720, 720)


def test_without_matplotlib_there_is_no_plot(
    called: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_frames(tmp_path, 2)
    monkeypatch.delitem(sys.modules, "stnrot.callbacks.figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    errors: list[str] = []
    monkeypatch.setattr(sys.stderr, "write", errors.append)
    code, _ = called("align", "--stack", "0.png", "1.png", "--out", "out", cwd=tmp_path)
    assert code == 0
    assert "no out/drift.png: the plot of the drift needs the package matplotlib" in "".join(errors)
    assert not (tmp_path / "out" / "drift.png").exists()


@pytest.mark.ci
@pytest.mark.parametrize("out", ["out", pytest.param("out.tif", marks=pytest.mark.slow)])
def test_a_killed_process_is_resumed(called: Called, out: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 400)
    arguments = ["align", "--stack", "frames", "--out", out]
    line = [str(Path(sys.executable).with_name("stnrot")), *arguments]
    table = tmp_path / ("out/drift.csv" if out == "out" else "out_drift.csv")
    process = subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (table.exists() and len(table.read_text().splitlines()) > 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    message = str(called(*arguments, cwd=tmp_path)[0])
    assert message.startswith(f"error: {table.relative_to(tmp_path)} is being written by another process")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = table.read_text()
    assert len(before.splitlines()) < 400
    message = str(called(*arguments, "--motion", "rotation", cwd=tmp_path)[0])
    assert "has results of the motion rigid, expected those of rotation" in message
    assert called(*arguments, cwd=tmp_path)[0] == 0
    assert table.read_text().startswith(before)
    found = rows(table)
    assert [row["frame"] for row in found] == [f"frames/{k}.png" for k in range(400)]
    assert float(found[-1]["angle_deg"]) == pytest.approx((DEGREES * 399 + 180) % 360 - 180, abs=0.5)
    if out == "out":
        assert len(list((tmp_path / "out").iterdir())) == 402
    else:
        aligned = tifffile.imread(tmp_path / out)
        assert aligned.shape == (400, 64, 64)
        assert np.all(aligned.max((1, 2)) > 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0.png", "1.png", "2.png"], "expected two images, IMAGE REFERENCE, got 3 images; give both, or --manifest"),
        (["0.png", "1.png", "--to", "mean"], "--to mean came without --stack"),
        (["--stack", "0.png", "1.png"], "--stack needs --out: expected a folder or a TIFF file"),
        (["--stack", "--out", "out"], "the number of frames is 0: expected at least two"),
        (["--stack", "0.png", "1.png", "--out", "out", "--json"], "--json came with --stack"),
        (["--stack", "0.png", "--out", "out", "--manifest", "a.csv"], "--manifest came with --stack"),
        (["movie.tif", "0.png"], "the image movie.tif has several pages: expected one; align all pages with stnrot"),
    ],
)
def test_an_input_error_is_one_line(called: Called, tmp_path: Path, arguments: list[str], words: str) -> None:
    write_frames(tmp_path, 3)
    tifffile.imwrite(tmp_path / "movie.tif", np.zeros((3, 16, 16), np.uint8), photometric="minisblack")
    assert words in refused(called, tmp_path, "align", *arguments)

"""`--share` and `stnrot merge`: the tables of several machines together are the table of one."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import Called, refused, rows
from PIL import Image
from sklearn.datasets import load_digits

from stnrot.errors import InputError
from stnrot.runs.tables.growing_table import locked
from stnrot.runs.tables.share import read_share


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with seven digits and a broken file."""
    (tmp_path / "scans").mkdir()
    for k, digit in enumerate(load_digits().images[:7]):
        Image.fromarray((digit * 15.9).astype(np.uint8)).resize((28, 28)).save(tmp_path / "scans" / f"{k}.png")
    (tmp_path / "scans" / "4.png").write_text("nothing")
    return tmp_path


def test_predictions(digits_run: Path, called: Called, folder: Path) -> None:
    line = ("predict", "scans", "--model", digits_run, "--out")
    for number in (1, 2, 3):
        called(*line, f"{number}.csv", "--share", f"{number}/3", "--save-aligned", "aligned", cwd=folder)
    assert [row["image"] for row in rows(folder / "2.csv")] == ["scans/1.png", "scans/4.png"]
    status, printed = called("merge", "1.csv", "2.csv", "3.csv", "--out", "all.csv", cwd=folder)
    assert (status, printed) == (1, "7 rows in all.csv, 1 with an error: see that column\n")
    called(*line, "whole.csv", cwd=folder)
    assert (folder / "all.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    assert sorted(each.name for each in (folder / "aligned").iterdir()) == [f"{k}.png" for k in (0, 1, 2, 3, 5, 6)]

    Image.new("L", (28, 28)).save(folder / "scans" / "4.png")  # mended, and read again by one of them
    called("predict", "scans/4.png", "--model", digits_run, "--out", "again.csv", cwd=folder)
    before = (folder / "all.csv").read_bytes()
    assert "--out all.csv exists" in str(called("merge", "1.csv", "again.csv", "--out", "all.csv", cwd=folder)[0])
    assert (folder / "all.csv").read_bytes() == before
    status, printed = called("merge", "all.csv", "again.csv", "--out", "all.csv", "--overwrite", cwd=folder)
    assert (status, printed) == (0, "7 rows in all.csv\n")
    assert [row["image"] for row in rows(folder / "all.csv")] == [f"scans/{k}.png" for k in (0, 4, 1, 2, 3, 5, 6)]
    assert (folder / "all.csv").read_bytes() != before


@pytest.mark.parametrize("motion", ["rotation", "rigid"])
def test_pairs(called: Called, pair_manifest: tuple[Path, list[float]], motion: str) -> None:
    manifest = pair_manifest[0]
    with manifest.open("a") as file:
        file.write("missing.png,reference0.png,0,china\n")
    line, folder = ("align", "--manifest", manifest, "--motion", motion, "--out"), manifest.parent
    for number in (1, 2):
        called(*line, f"{number}.csv", "--share", f"{number}/2", cwd=folder)
    called(*line, "whole.csv", cwd=folder)
    assert called("merge", "2.csv", "1.csv", "--out", "all.csv", cwd=folder)[0] == 1
    found, whole = rows(folder / "all.csv"), rows(folder / "whole.csv")
    assert [row["line"] for row in found] == [str(k) for k in range(2, 11)]
    # images of other portions are aligned together: sums in another order
    matrix = (f"m{i}{j}" for i in "01" for j in "012")
    numbers = {"angle_deg", "confidence", "shift_x", "shift_y", "scale", "overlap", *matrix}
    for one, other in zip(found, whole, strict=True):
        assert one.keys() == other.keys()
        for name, text in one.items():
            if name in numbers and text:
                assert float(text) == pytest.approx(float(other[name]), abs=2e-3), name
            else:
                assert text == other[name]
    assert "another manifest" in refused(called, folder, *line, "1.csv", "--share", "2/2")
    assert called(*line, "1.csv", "--share", "1/2", cwd=folder)[0] == 1  # resumed; the missing file is tried again


def test_tables_that_do_not_belong_together(called: Called, tmp_path: Path) -> None:
    columns = ["line", "image", "reference", "angle_deg", "confidence", "model", "error"]
    tables = {
        "a": [[2, "a", "b", 1, 1, "correlation", ""]],
        "other_model": [[3, "a", "b", 1, 1, "best.ckpt 0123", ""]],
        "other_images": [[2, "c", "b", 1, 1, "correlation", ""]],
    }
    for name, lines in tables.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *lines])
    (tmp_path / "notes.csv").write_text("x,y\n1,2\n")
    (tmp_path / "images.csv").write_text("image,class,probability,angle_deg,confidence,others,model,error\n")
    for name, words in (
        ("other_model.csv", "other_model.csv has results of the model best.ckpt 0123"),
        ("other_images.csv", "other_images.csv has other images in line 2"),
        ("notes.csv", "notes.csv: expected a table of stnrot predict --out or stnrot align --manifest"),
        ("images.csv", "images.csv: expected a table of stnrot predict --out or stnrot align --manifest"),
        ("missing.csv", "missing.csv: expected a table"),
    ):
        assert words in refused(called, tmp_path, "merge", "a.csv", name, "--out", "all.csv")
    whole = (tmp_path / "a.csv").read_bytes()
    for end in (0, 10, len(whole) - 9, len(whole) - 1):  # nothing, a part of the header, of a row, no line break
        (tmp_path / "cut.csv").write_bytes(whole[:end].rstrip())
        assert "cut.csv ends within a row" in refused(called, tmp_path, "merge", "a.csv", "cut.csv", "--out", "all.csv")
    assert "there is no folder" in refused(called, tmp_path, "merge", "a.csv", "--out", "none/all.csv")
    assert "--share came without --manifest" in refused(called, tmp_path, "align", "a.png", "b.png", "--share", "1/2")
    refusal = refused(called, tmp_path, "predict", "a.png", "--model", "digits", "--share", "3/2")
    assert refusal.startswith("error: --share=3/2: expected I/N with I from 1 to N")


@pytest.mark.parametrize("text", ["0/2", "1", "1/0", "-1/2", "1/2/3", "a/b", "", "٣/8", "1/99999999999"])
def test_shares_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected I/N"):
        read_share(text)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_shares_are_disjoint_and_complete(count: int) -> None:
    parts = [read_share(f"{k}/{count}").of(range(7)) for k in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == list(range(7))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_tables_that_cannot_be_read(called: Called, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "good.csv").write_bytes(b"line,image,reference,angle_deg,confidence,model,error\r\n")
    (tmp_path / "long.csv").write_text("x" * 10**6)
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert "cannot be read: field larger" in refused(called, tmp_path / "in", "merge", "../long.csv", "--out", "a.csv")
    assert "got no file" in refused(called, tmp_path / "in", "merge", "../loop.csv", "--out", "a.csv")
    with locked(tmp_path / "good.csv"):
        line = ("merge", "../good.csv", "--out", "../good.csv", "--overwrite")
        assert "is being written by another process" in refused(called, tmp_path / "in", *line)
        line = ("merge", "../good.csv", "--out", "new.csv")
        assert "wait until it ends, then start again" in refused(called, tmp_path / "in", *line)
    for out, shown in (("\udcff\x1b.csv", r"\udcff\x1b.csv"), ("loop.csv", "loop.csv")):
        assert called("merge", "good.csv", "--out", out, cwd=tmp_path) == (0, f"0 rows in {shown}\n")
        assert (tmp_path / out).read_bytes() == (tmp_path / "good.csv").read_bytes()

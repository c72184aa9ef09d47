"""`stnrot align` on files: in a process of its own, and more often called in this one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest
from conftest import ENVIRONMENT, Called, refused, rows, stnrot
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

COMMAND = Path(sys.executable).with_name("stnrot")
TURN = 33.0


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """image.png in colour, 200 x 160, and reference.jpg in grey: the same rotated by Pillow."""
    whole = Image.fromarray(load_sample_image("china.jpg"))
    for name, turn in (("image.png", 0.0), ("reference.jpg", TURN)):
        turned = whole.rotate(turn, Image.Resampling.BICUBIC, center=(300, 200)).crop((200, 120, 400, 280))
        (turned if name == "image.png" else turned.convert("L")).save(tmp_path / name)
    return tmp_path


def test_one_pair(pair: Path) -> None:
    done = stnrot("align", "image.png", "reference.jpg", "--out", "aligned.png", cwd=pair)
    assert done.returncode == 0, done.stderr
    angle, confidence, *_ = (line.split() for line in done.stdout.splitlines())
    assert angle[0] == "angle"
    assert float(angle[1]) == pytest.approx(TURN, abs=0.1)
    assert float(confidence[1]) > 0.95
    aligned = Image.open(pair / "aligned.png")
    assert (aligned.mode, aligned.size) == ("RGB", (200, 160))
    expected = Image.open(pair / "image.png").rotate(TURN, Image.Resampling.BICUBIC)
    inner = (slice(40, 120), slice(60, 140))
    assert np.abs(np.asarray(aligned, float)[inner] - np.asarray(expected, float)[inner]).mean() < 2


def test_a_shifted_pair(called: Called, pair: Path) -> None:
    shifted = Image.open(pair / "image.png").crop((20, -10, 190, 160))  # to the left and down
    shifted.save(pair / "shifted.png")
    code, printed = called("align", "shifted.png", "image.png", "--motion", "rigid", "--out", "back.png", cwd=pair)
    assert code == 0, printed
    angle, confidence, shift, overlap = (line.split() for line in printed.splitlines())
    assert abs(float(angle[1])) < 0.1
    assert float(confidence[1]) > 0.9
    assert (float(shift[1]), float(shift[5])) == pytest.approx((5.0, -5.0), abs=0.2)
    assert float(overlap[1]) == pytest.approx(0.85, abs=0.02)
    back, image = (np.asarray(Image.open(pair / name), float) for name in ("back.png", "image.png"))
    assert np.abs(back - image)[2:-2, 22:188].mean() < 1
    code, printed = called("align", "shifted.png", "image.png", "--motion", "rigid", "--json", cwd=pair)
    assert json.loads(printed)["matrix"] == [
        pytest.approx([1, 0, 20], abs=0.3),
        pytest.approx([0, 1, -10], abs=0.3),
    ]


def test_a_scaled_pair(called: Called, pair: Path) -> None:
    Image.open(pair / "image.png").resize((250, 200), Image.Resampling.BICUBIC).save(pair / "scaled.png")
    command = ("align", "scaled.png", "image.png", "--motion", "similarity")
    code, printed = called(*command, cwd=pair)
    assert code == 0, printed
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines] == ["angle", "confidence", "shift", "scale", "overlap"]
    assert float(lines[0][1]) == pytest.approx(0, abs=0.1)
    assert float(lines[3][1]) == pytest.approx(0.8, rel=0.005)
    answer = json.loads(called(*command, "--json", cwd=pair)[1])
    assert answer["scale"] == pytest.approx(float(lines[3][1]), abs=1e-4)
    assert answer["shift"] == pytest.approx([0, 0], abs=0.2)
    assert answer["matrix"] == [pytest.approx([0.8, 0, -0.1], abs=0.2), pytest.approx([0, 0.8, -0.1], abs=0.2)]


def test_json_has_the_angles_of_a_symmetric_image(called: Called, tmp_path: Path) -> None:
    y, x = np.mgrid[:80, :80] - 39.5
    bar = Image.fromarray(((np.abs(x) < 30) & (np.abs(y) < 6)).astype(np.uint8) * 255)
    bar.save(tmp_path / "bar.png")
    bar.rotate(25, Image.Resampling.BICUBIC).save(tmp_path / "turned.png")
    code, printed = called("align", "bar.png", "turned.png", "--json", cwd=tmp_path)
    assert code == 0
    answer = json.loads(printed)
    assert answer.keys() == {"image", "reference", "angle_deg", "confidence", "mirrored", "hypotheses"}
    assert answer["mirrored"] is False, "a bar is its own mirror image"
    assert sorted(h["angle_deg"] % 180 for h in answer["hypotheses"]) == pytest.approx([25, 25], abs=0.5)
    assert answer["confidence"] < 0.6


def test_a_mirrored_image_is_named(called: Called, pair: Path) -> None:
    ImageOps.mirror(Image.open(pair / "image.png")).save(pair / "mirrored.png")
    code, printed = called("align", "mirrored.png", "reference.jpg", cwd=pair)
    assert code == 0
    assert printed.splitlines()[-1].split()[:7] == [
        "mirrored",
        "the",
        "mirror",
        "image",
        "of",
        "mirrored.png",
        "matches",
    ]
    assert json.loads(called("align", "mirrored.png", "reference.jpg", "--json", cwd=pair)[1])["mirrored"] is True
    assert "mirror" not in called("align", "image.png", "reference.jpg", cwd=pair)[1]


def test_bad_rows_of_a_manifest_do_not_stop_it(called: Called, pair: Path) -> None:
    Image.new("L", (50, 50), 9).save(pair / "plain.png")
    (pair / "broken.png").write_bytes(b"not an image")
    Image.open(pair / "image.png").rotate(-50, Image.Resampling.BICUBIC).crop((40, 20, 160, 140)).save(
        pair / "part.png"
    )
    lines = [
        ("image.png,reference.jpg", TURN, ""),
        ("image.png,", None, "line 3: the reference is empty"),
        ("broken.png,image.png", None, "broken.png"),
        ("reference.jpg,image.png", -TURN, ""),
        ("plain.png,plain.png", None, "one colour"),
        ("missing.png,image.png", None, "missing.png does not exist"),
        ("image.png,image.png", 0.0, ""),
        (f"{300 * 'x'}.png,image.png", None, 300 * "x"),
        ("in\u2028two.png,image.png", None, "does not exist"),
        ("", None, "line 11: the image is empty"),
        ("image.png,image.png", 0.0, ""),
    ]
    (pair / "pairs.csv").write_text("image,reference\n" + "\n".join(line for line, _, _ in lines) + "\n\n")
    code, printed = called("align", "--manifest", "pairs.csv", "--out", "results.csv", cwd=pair)
    assert code == 1
    assert printed == "11 pairs in results.csv, 7 with an error: see that column\n"
    found = rows(pair / "results.csv")
    assert [row["line"] for row in found] == [str(2 + k) for k in range(11)]
    for row, (line, degrees, words) in zip(found, lines, strict=True):
        assert f"{row['image']},{row['reference']}" == (line or ",")
        assert words in row["error"]
        assert (f"relative to the folder of the table, {pair};" in row["error"]) == ("does not exist" in words)
        assert (row["angle_deg"] == "") == (degrees is None) == bool(row["error"])
        if degrees is not None:
            assert float(row["angle_deg"]) == pytest.approx(degrees, abs=0.1)
            assert float(row["confidence"]) > 0.9

    Image.open(pair / "image.png").save(pair / "missing.png")  # what had an error is tried again
    (pair / "pairs.csv").write_text((pair / "pairs.csv").read_text().replace("broken.png", "reference.jpg"))
    _, printed = called("align", "--manifest", "pairs.csv", "--out", "results.csv", cwd=pair)
    assert printed == "11 pairs in results.csv, 5 with an error: see that column\n"
    again = {row["line"]: row for row in rows(pair / "results.csv")}
    assert len(again) == 11
    assert abs(float(again["7"]["angle_deg"])) < 0.1
    assert again["2"] == found[0]


def test_a_manifest_opens_each_file_twice(called: Called, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for the header, once for the pixels."""
    (pair / "pairs.csv").write_text("image,reference\nimage.png,reference.jpg\n")
    opened: list[str] = []
    original = Path.open

    def recorded(path: Path, *arguments: Any, **options: Any) -> IO[Any]:
        opened.append(path.name)
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", recorded)
    assert called("align", "--manifest", "pairs.csv", "--out", "results.csv", cwd=pair)[0] == 0
    images = ["image.png", "reference.jpg"]
    assert sorted(name for name in opened if name in images) == [images[0], *images, images[1]]


def test_a_table_of_shifted_pairs_has_the_matrices_of_opencv(called: Called, pair: Path) -> None:
    """Of two pairs, one of different sizes. The columns suffice to move an image onto its reference."""
    image = cv2.imread(str(pair / "image.png"))
    made = {}
    for name, size, degrees, shift in (("turned.png", (170, 150), 50, (12, -7)), ("part.png", (90, 96), -140, (-9, 5))):
        matrix = cv2.getRotationMatrix2D((99.5, 79.5), degrees, 1.0)
        matrix[:, 2] += (np.array(size) - 1) / 2 - (99.5, 79.5) + shift
        cv2.imwrite(str(pair / name), cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC))
        made[name] = matrix
    Image.new("L", (90, 90), 9).save(pair / "plain.png")
    lines = "".join(f"image.png,{name}\n" for name in (*made, "plain.png"))
    (pair / "pairs.csv").write_text("image,reference\n" + lines)
    command = ("align", "--manifest", "pairs.csv", "--motion", "rigid", "--out", "results.csv")
    assert called(*command, cwd=pair) == (1, "3 pairs in results.csv, 1 with an error: see that column\n")
    *found, plain = rows(pair / "results.csv")
    assert plain["motion"] == "rigid"
    assert "one colour" in plain["error"]
    for row, (name, expected) in zip(found, made.items(), strict=True):
        matrix = np.array([row[f"m{k}{n}"] for k in range(2) for n in range(3)], float).reshape(2, 3)
        corners = np.array([[0, 0, 1], [199, 0, 1], [0, 159, 1], [199, 159, 1]]).T
        assert np.abs((matrix - expected) @ corners).max() < 0.5
        reference = cv2.imread(str(pair / name))
        height, width = reference.shape[:2]
        shift = expected @ (99.5, 79.5, 1) - [(width - 1) / 2, (height - 1) / 2]
        assert [float(row["shift_x"]), float(row["shift_y"])] == pytest.approx(shift, abs=0.3)
        assert float(row["scale"]) == 1
        seen = cv2.warpAffine(np.ones(image.shape[:2]), matrix, (width, height)) > 0.99
        assert float(row["overlap"]) == pytest.approx(seen.mean(), abs=0.02)
        moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC)
        assert np.abs(moved.astype(float) - reference)[seen].mean() < 3


def test_a_table_is_resumed_with_its_motion(called: Called, pair: Path) -> None:
    """The first table is as it was before there were motions."""
    (pair / "pairs.csv").write_text("image,reference\nimage.png,reference.jpg\nimage.png,image.png\n")
    old = "line,image,reference,angle_deg,confidence,model,error\r\n"
    old += "2,image.png,reference.jpg,32.0000,0.9000,correlation,\r\n"
    (pair / "results.csv").write_text(old, newline="")
    manifest = ("align", "--manifest", "pairs.csv", "--out")
    words = "results.csv has results of the motion rotation, expected those of rigid: choose another --out"
    assert words in refused(called, pair, *manifest, "results.csv", "--motion", "rigid")
    assert called(*manifest, "results.csv", cwd=pair)[0] == 0
    assert (pair / "results.csv").read_bytes().decode().startswith(old + "3,image.png,image.png,")

    assert called(*manifest, "moved.csv", "--motion", "rigid", cwd=pair)[0] == 0
    complete = (pair / "moved.csv").read_text()
    first = complete.index("\n", complete.index("\n") + 1) + 1
    (pair / "moved.csv").write_text(complete[: first + 9])
    for motion in ("rotation", "similarity"):
        words = f"moved.csv has results of the motion rigid, expected those of {motion}: choose another --out"
        assert words in refused(called, pair, *manifest, "moved.csv", "--motion", motion)
    assert called(*manifest, "moved.csv", "--motion", "rigid", cwd=pair)[0] == 0
    assert (pair / "moved.csv").read_text() == complete


@pytest.mark.ci
def test_an_interrupted_table_is_resumed(called: Called, pair: Path) -> None:
    (pair / "pairs.csv").write_text("image,reference\n" + "image.png,reference.jpg\n" * 600)
    command = [str(COMMAND), "align", "--manifest", "pairs.csv", "--out", "results.csv"]
    process = subprocess.Popen(command, cwd=pair, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    results = pair / "results.csv"
    while not (results.exists() and results.stat().st_size > 2000):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    (pair / "link.csv").symlink_to("results.csv")
    second = stnrot("align", "--manifest", "pairs.csv", "--out", "results.csv", cwd=pair)
    assert second.returncode == 1
    assert second.stderr.startswith("error: results.csv is being written by another process"), second
    linked, _ = called("align", "--manifest", "pairs.csv", "--out", "link.csv", cwd=pair)
    assert str(linked).startswith("error: link.csv is being written by another process")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = results.read_text()
    assert len(before.splitlines()) < 600
    results.write_text(before + "77,image.p")  # as if a row had been half written
    assert called("align", "--manifest", "pairs.csv", "--out", "results.csv", cwd=pair)[0] == 0
    assert results.read_text().startswith(before[: before.rindex("\n") + 1])
    found = rows(results)
    assert [row["line"] for row in found] == [str(2 + k) for k in range(600)]
    assert len({row["angle_deg"] for row in found}) == 1
    unchanged = results.stat().st_mtime_ns
    assert called("align", "--manifest", "pairs.csv", "--out", "results.csv", cwd=pair)[0] == 0
    assert results.stat().st_mtime_ns == unchanged


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["image.png"], "expected two images, IMAGE REFERENCE, got one image; give both, or --manifest"),
        (["image.png", "missing.png"], "there is no image missing.png"),
        (["image.png", "reference.jpg", "--ckpt", "none.ckpt"], "no checkpoint at none.ckpt"),
        (
            ["image.png", "reference.jpg", "--out", "aligned.xyz"],
            "--out aligned.xyz: expected the name of an image file, such as aligned.png",
        ),
        (["image.png", "reference.jpg", "--out", "none/a.png"], "--out none/a.png: there is no folder none"),
        (["image.png", "reference.jpg", "--out", "./image.png"], "--out image.png is an input image"),
        (["--manifest", "quote.csv", "--out", "results.csv"], "cannot read quote.csv as CSV"),
        (["--manifest", "pairs.csv"], "--manifest needs --out"),
        (["image.png", "--manifest", "pairs.csv", "--out", "results.csv"], "IMAGE came with --manifest: expected one"),
        (["--manifest", "pairs.csv", "--json"], "--json came with --manifest: expected one pair or a table"),
        (
            ["--manifest", "none.csv", "--out", "results.csv"],
            "there is no file none.csv: expected a CSV file with the columns image,reference; give its path",
        ),
        (["--manifest", "bad.csv", "--out", "results.csv"], "bad.csv: expected a column 'reference'"),
        (["--manifest", "empty.csv", "--out", "results.csv"], "empty.csv: expected at least one pair"),
        (["--manifest", "pairs.csv", "--out", "other.csv"], "other.csv has the results of another manifest (line 2)"),
        (["--manifest", "pairs.csv", "--out", "pairs.csv"], "pairs.csv is not a table of this command"),
        (["--manifest", "pairs.csv", "--out", "nowhere/results.csv"], "cannot write nowhere/results.csv"),
        (["--manifest", "pairs.csv", "--out", "."], "cannot write .: expected a file"),
    ],
)
def test_an_input_error_is_one_line(called: Called, pair: Path, arguments: list[str], words: str) -> None:
    (pair / "pairs.csv").write_text("image,reference\nimage.png,reference.jpg\n")
    (pair / "bad.csv").write_text("image,angle\nimage.png,2\n")
    (pair / "empty.csv").write_text("image,reference\n")
    (pair / "quote.csv").write_text('image,reference\n"image.png,reference.jpg\nimage.png,reference.jpg\n')
    (pair / "other.csv").write_text(
        "line,image,reference,angle_deg,confidence,model,error\n2,x.png,y.png,1,1,correlation,\n"
    )
    assert words in refused(called, pair, "align", *arguments)

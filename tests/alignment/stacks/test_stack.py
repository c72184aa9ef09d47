"""Stacks of frames with a known drift, which OpenCV makes."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from conftest import rows
from PIL import Image
from pystackreg import StackReg
from sklearn.datasets import load_sample_image

from stnrot import InputError, align
from stnrot.alignment.stacks import frame_alignment
from stnrot.alignment.stacks import frames as frames_module
from stnrot.alignment.stacks import stack as stack_module
from stnrot.alignment.stacks.frames import list_frames
from stnrot.alignment.stacks.reference_kind import ReferenceKind
from stnrot.alignment.stacks.stack import align_stack

SIDE = 64
CHINA = load_sample_image("china.jpg")
MIDDLE = np.array([(SIDE - 1) / 2] * 2)


def drifting(count: int, channels: int = 1, degrees: float = 1.5, factor: float = 1.0) -> tuple[np.ndarray, list[Any]]:
    """Return frames, and of each the angle, the shift and the scale that put it onto the first."""
    made, expected = [], []
    for k in range(count):
        matrix = cv2.getRotationMatrix2D((320, 210), degrees * k, factor**k)
        matrix[:, 2] += MIDDLE - (320, 210) + (0.6 * k, -0.4 * k)
        frame = cv2.warpAffine(CHINA, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA)
        noise = np.random.default_rng(k).normal(0, 3, frame.shape)
        made.append(np.clip(frame + noise, 0, 255).astype(np.uint8))
        onto = _square(_matrix(0, 1, 0)) @ np.linalg.inv(_square(_matrix(degrees * k, factor**k, k)))
        middle = onto[:2] @ (*MIDDLE, 1) - MIDDLE
        expected.append((-degrees * k, *middle, factor**-k))
    stack = np.stack(made)
    return (stack if channels == 3 else stack[..., 1]), expected


def _matrix(degrees: float, scale: float, k: int) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((320, 210), degrees, scale)
    matrix[:, 2] += MIDDLE - (320, 210) + (0.6 * k, -0.4 * k)
    return matrix


def _square(matrix: np.ndarray) -> np.ndarray:
    return np.vstack((matrix, (0, 0, 1)))


def write(folder: Path, frames: np.ndarray) -> list[Path]:
    """Write PNG files."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"frame{k}.png" for k in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    return paths


def check(table: list[dict[str, str]], expected: list[Any], scale: float = 1e-6) -> None:
    """Compare a drift table with the true drift."""
    for row, (degrees, x, y, size) in zip(table, expected, strict=True):
        assert float(row["angle_deg"]) == pytest.approx(degrees, abs=0.25)
        assert (float(row["shift_x"]), float(row["shift_y"])) == pytest.approx((x, y), abs=0.25)
        assert float(row["scale"]) == pytest.approx(size, abs=scale)
        assert float(row["confidence"]) > 0.9
        assert row["error"] == ""


@pytest.mark.parametrize("to", ["first", "previous", "mean"])
def test_the_drift_is_that_of_opencv(to: Any, tmp_path: Path) -> None:
    frames, expected = drifting(8, channels=3)
    write(tmp_path / "frames", frames)
    table = align_stack(tmp_path / "frames", tmp_path / "out", to=to)
    assert table == rows(tmp_path / "out" / "drift.csv")
    assert [Path(row["frame"]).name for row in table] == [f"frame{k}.png" for k in range(8)]
    check(table, expected)
    aligned = np.stack([np.asarray(Image.open(tmp_path / "out" / f"frame{k}.png")) for k in range(8)])
    assert aligned.shape == frames.shape
    inside = (aligned.min(-1) > 0)[:, 8:-8, 8:-8, None]
    before, after = (np.abs(each[:, 8:-8, 8:-8] - each[0, 8:-8, 8:-8].astype(float)) for each in (frames, aligned))
    assert (after * inside).sum() / inside.sum() < 0.4 * (before * inside).sum() / inside.sum()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"drift.csv", *(f"frame{k}.png" for k in range(8))}


@pytest.mark.parametrize("to", ["first", "previous"])
def test_a_scale_and_another_size(to: ReferenceKind, tmp_path: Path) -> None:
    frames, expected = drifting(5, factor=0.98)
    paths = write(tmp_path, frames)
    Image.fromarray(frames[2][6:]).save(paths[2])  # without the rows at the top
    table = align_stack(paths, tmp_path / "out.tif", to=to, motion="similarity")
    assert table[2]["error"] == ""
    onto = math.radians(-expected[2][0])
    lower = 3 * expected[2][3]  # the middle of the part lies 3 pixels below that of the frame
    expected[2] = (expected[2][0], expected[2][1] + lower * -math.sin(onto), expected[2][2] + lower * math.cos(onto), 1)
    expected[2] = (*expected[2][:3], 0.98**-2)
    check(table, expected, scale=0.01)
    assert tifffile.imread(tmp_path / "out.tif").shape == frames.shape


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_a_file_of_many_pages(kind: str, tmp_path: Path) -> None:
    frames, expected = drifting(4)
    scaled = frames.astype(kind) * {"uint8": 1, "uint16": 100, "float32": 0.125}[kind]
    scaled = scaled.astype(kind)
    tifffile.imwrite(tmp_path / "movie.tif", scaled, photometric="minisblack")
    table = align_stack(tmp_path / "movie.tif", tmp_path / "stack.tif")
    check(table, expected)
    assert table[3]["frame"] == f"{tmp_path / 'movie.tif'} page 4"
    aligned = tifffile.imread(tmp_path / "stack.tif")
    assert (aligned.dtype, aligned.shape) == (scaled.dtype, scaled.shape)
    assert np.array_equal(aligned[0], scaled[0])
    found = align(frames[3][..., None], frames[0][..., None], motion="rigid")
    there = cv2.warpAffine(scaled[3], found.matrix[0].numpy(), (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    assert np.abs(aligned[3].astype(float) - there)[12:-12, 12:-12].mean() < 0.01 * scaled.max()
    align_stack(tmp_path / "movie.tif", tmp_path / "out", motion="rotation")
    page = tifffile.imread(tmp_path / "out" / "movie_0004.tif")
    assert (page.dtype, page.shape) == (scaled.dtype, scaled[0].shape)


def test_pystackreg_finds_the_same(tmp_path: Path) -> None:
    frames, _ = drifting(3, degrees=0.5)
    tifffile.imwrite(tmp_path / "movie.tif", frames, photometric="minisblack")
    table = align_stack(tmp_path / "movie.tif", tmp_path / "out", to="previous")
    matrices = StackReg(StackReg.RIGID_BODY).register_stack(frames.astype(float), reference="previous")
    for row, matrix in zip(table, matrices, strict=True):  # from points of the first frame to those of the others
        assert float(row["angle_deg"]) == pytest.approx(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])), abs=0.2)
        middle = (np.linalg.inv(matrix) @ (*MIDDLE, 1))[:2] - MIDDLE
        assert (float(row["shift_x"]), float(row["shift_y"])) == pytest.approx(middle, abs=0.2)


@pytest.mark.parametrize(("out", "to"), [("out.tif", "first"), ("out", "previous"), ("out.tif", "mean")])
def test_an_interrupted_stack_is_resumed(out: str, to: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, expected = drifting(7)
    paths = write(tmp_path, frames)
    monkeypatch.setattr(frames_module, "MAX_FRAMES", 2)
    whole = align_stack(paths, tmp_path / f"whole_{out}", to=to)
    write_frame, written = stack_module._write, []

    def interrupted(*arguments: Any) -> Any:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(arguments[1])
        return write_frame(*arguments)

    monkeypatch.setattr(stack_module, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        align_stack(paths if to == "mean" else paths[:6], tmp_path / out, to=to)
    first = rows(tmp_path / "out" / "drift.csv" if out == "out" else tmp_path / "out_drift.csv")
    again: list[int] = []
    monkeypatch.setattr(stack_module, "_write", lambda *given: (again.append(given[1]), write_frame(*given))[1])
    table = align_stack(paths, tmp_path / out, to=to)
    assert len(first) > 1
    assert table[: len(first)] == first
    assert sorted(again) == list(range(len(first), 7))
    check(table, expected)
    for row, other in zip(table, whole, strict=True):
        assert float(row["angle_deg"]) == pytest.approx(float(other["angle_deg"]), abs=2e-3)
    pair = [_pixels(tmp_path / each) for each in (out, f"whole_{out}")]
    assert np.abs(pair[0] - pair[1]).max() <= 2
    assert not list(tmp_path.rglob(".*"))


def test_an_interrupted_mean_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, expected = drifting(6)
    paths = write(tmp_path, frames)
    monkeypatch.setattr(frames_module, "MAX_FRAMES", 2)
    read, kept = [], frame_alignment._aligned

    def interrupted(items: Any, align: Any) -> Any:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.extend(int(frame.stem[5:]) for frame, _ in items)
        return kept(items, align)

    monkeypatch.setattr(frame_alignment, "_aligned", interrupted)
    with pytest.raises(KeyboardInterrupt):
        align_stack(paths, tmp_path / "out", to="mean")
    read.append(-1)
    check(align_stack(paths, tmp_path / "out", to="mean"), expected)
    assert read == [1, 2, 3, 4, -1, 5, *range(6)]


def _pixels(out: Path) -> np.ndarray:
    if out.suffix:
        return tifffile.imread(out).astype(float)
    return np.stack([np.asarray(Image.open(out / f"frame{k}.png"), float) for k in range(7)])


def test_a_frame_that_fails_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "MAX_FRAMES", 4)
    frames, expected = drifting(8)
    paths = write(tmp_path, frames)
    paths[2].write_bytes(paths[2].read_bytes()[:500])
    Image.new("L", (SIDE, SIDE), 9).save(paths[4])
    Image.fromarray(CHINA[:SIDE, :SIDE]).save(paths[6])
    for to in ("previous", "mean"):
        out = tmp_path / f"{to}.tif"
        table = align_stack(paths, out, to=to)
        assert [k for k, row in enumerate(table) if row["error"]] == [2, 4, 6]
        assert f"cannot read the image {paths[2]}" in table[2]["error"]
        assert "one colour" in table[4]["error"]
        assert "its mode is RGB, that of the first frame L: expected one mode" in table[6]["error"]
        kept = [k for k in range(8) if k not in (2, 4, 6)]
        check([table[k] for k in kept], [expected[k] for k in kept])
        pages = tifffile.imread(out)
        assert [k for k in range(8) if pages[k].max() == 0] == [2, 4, 6]
    repaired = write(tmp_path, frames)
    check(align_stack(repaired, tmp_path / "previous.tif", to="previous"), expected)


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    paths = write(tmp_path, drifting(11)[0])
    outputs = [tmp_path / "frame3.png"]
    expected = [paths[k] for k in range(11) if k != 3]
    assert [frame.path for frame in list_frames([tmp_path], outputs)] == expected
    assert [frame.path for frame in list_frames(sorted(paths), outputs)] == expected
    assert [frame.path for frame in list_frames(paths[::-1], [])] == paths[::-1]


def test_one_image_of_several_pages_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", drifting(2)[0], photometric="minisblack")
    with pytest.raises(InputError, match=r"movie\.tif has several pages: expected one; .* stnrot align --stack"):
        align(tmp_path / "movie.tif", tmp_path / "movie.tif")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with frames and with two stacks that are aligned."""
    folder = tmp_path_factory.mktemp("stacks")
    paths = write(folder, drifting(3)[0])
    (folder / "other").mkdir()
    Image.new("L", (SIDE, SIDE)).save(folder / "other" / "frame1.png")
    (folder / "empty").mkdir()
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        for out, to in (("done", "first"), ("done.tif", "mean")):
            align_stack([path.name for path in paths[:2]], out, to=to)
    return folder


@pytest.mark.parametrize(
    ("frames", "out", "options", "words"),
    [
        (["frame0.png"], "out", {}, "the number of frames is 1: expected at least two"),
        (["frame0.png", "none.png"], "out", {}, "there is no file none.png"),
        (["empty"], "out", {}, "the folder empty has no images"),
        (["frame1.png", "frame0.png", "frame1.png"], "out", {}, "the frame frame1.png came 2 times"),
        (["frame0.png", "frame1.png", "other"], "out", {}, "two files of the folder out would have the name frame1"),
        (["other", "frame1.png"], "out.tif", {}, "can be aligned to the first, other/frame1.png: image has"),
        (["frame0.png", "frame1.png"], "none/out", {}, "--out none/out: there is no folder none"),
        (
            ["frame0.png", "frame1.png"],
            "out.png",
            {},
            "--out out.png: expected a folder, or a TIFF",
        ),
        (["frame0.png", "frame1.png"], "other", {}, "the folder other has other files"),
        (["frame0.png", "frame1.png"], "done", {"motion": "rotation"}, "has results of the motion rigid"),
        (["frame0.png", "frame1.png"], "done", {"to": "mean"}, "has results of the to first, expected those of mean"),
        (["frame0.png", "frame2.png"], "done", {}, "has the frames of another stack, such as frame1.png"),
        (["frame2.png", "frame0.png", "frame1.png"], "done", {}, "has the frames of another stack"),
        (["frame0.png", "frame1.png", "frame2.png"], "done.tif", {"to": "mean"}, "aligned to the mean of other frames"),
        (["frame0.png", "frame1.png"], "out", {"to": "last"}, "to: expected one of first, previous, mean, got 'last'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(
    world: Path, frames: list[str], out: str, options: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    before = {path: path.is_dir() or path.read_bytes() for path in world.rglob("*")}
    with pytest.raises(InputError) as refused:
        align_stack(frames, out, **options)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path: path.is_dir() or path.read_bytes() for path in world.rglob("*")} == before

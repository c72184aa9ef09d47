"""The index of image headers. The ground truth is a start that opens every file."""

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from stnrot.data.image_set import Splits
from stnrot.data.sources import headers
from stnrot.data.sources.header_index import index_folder, index_lock, read_index
from stnrot.data.sources.image_folder import ImageFolder
from stnrot.data.sources.manifest import Manifest
from stnrot.errors import InputError

OPTIONS = {
    "image_size": (8, 8),
    "fit": "crop",
    "channels": None,
    "max_pixels": 1000,
    "on_bad_image": "error",
    "memory_gb": 1e-9,
    "val_fraction": 0.25,
    "test_fraction": 0.25,
}


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of few files, that were just written, in a cache folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(headers, "WORTH", 2)
    monkeypatch.setattr(headers, "SETTLED", 0)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers were read."""
    names: list[str] = []

    def read(path: Path, max_pixels: int) -> headers.ImageHeader:
        names.append(path.name)
        return read_header(path, max_pixels)

    read_header = headers.read_header
    monkeypatch.setattr(headers, "read_header", read)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for k in range(12):
        path = root / f"class {k % 2}" / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + k, 8), 20 * k).save(path)
    return root


def start(root: Path, **options: object) -> Splits:
    return ImageFolder(**OPTIONS | options)(root, 0)


def facts(splits: Splits) -> list[object]:
    parts = (splits.train, splits.val, splits.test)
    return [splits.classes, *((part.shape, [*part.names], part.label.tolist()) for part in parts)]


def test_a_second_start_opens_no_file(folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = facts(start(folder))
    assert sorted(opened) == [f"{k:02d}.png" for k in range(12)]
    opened.clear()
    assert facts(start(folder)) == first
    monkeypatch.chdir(folder)
    assert facts(start(Path()))[0] == first[0]  # the same folder by another path
    assert not opened
    (folder / "class 0" / "12.png").write_bytes((folder / "class 0" / "10.png").read_bytes())
    monkeypatch.setattr(headers, "WORTH", 99)  # without an index
    plain = facts(start(folder))
    monkeypatch.setattr(headers, "WORTH", 2)
    opened.clear()
    assert facts(start(folder)) == plain
    assert opened == ["12.png"]


def colour(path: Path) -> None:
    """Make a grey file one in colour, of the same size and with the same time of its last change."""
    old, size = path.stat(), path.stat().st_size
    Image.new("RGB", (8, 8), "red").save(path, "BMP")
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, old.st_mtime_ns)


@pytest.mark.parametrize("change", ["removed", "moved", "in colour", "larger", "broken", "linked"])
def test_a_change_is_noticed(folder: Path, opened: list[str], change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "class 0" / "04.png"
    if change == "in colour":
        path.write_bytes(path.read_bytes().ljust(1000, b"\0"))
    assert start(folder).train.shape == (1, 8, 8)
    if change == "removed":
        path.unlink()
    elif change == "moved":
        path.rename(folder / "class 1" / "04.png")
    elif change == "in colour":
        colour(path)
    elif change == "larger":
        Image.new("L", (40, 30)).save(path)
    elif change == "broken":
        path.write_bytes(b"no image")
    else:
        path.unlink()
        path.symlink_to(folder / "class 1" / "05.png")
    opened.clear()
    found = result(folder)
    assert opened == ([] if change == "removed" else ["04.png"])
    monkeypatch.setattr(headers, "WORTH", 99)
    assert found == result(folder)
    assert ("cannot read the image" in found) == (change == "broken")
    assert ("40 x 30: expected at most 1000 pixels" in found) == (change == "larger")
    assert ("(3, 8, 8)" in found) == (change == "in colour")


def result(folder: Path) -> str:
    try:
        return str(facts(start(folder)))
    except InputError as error:
        return str(error)


def test_files_that_changed_a_moment_ago_are_not_kept(folder: Path, opened: list[str], monkeypatch) -> None:
    monkeypatch.setattr(headers, "SETTLED", 60 * 10**9)
    start(folder)
    start(folder)
    assert len(opened) == 24  # all files were younger than a minute


def test_the_limit_of_pixels_is_that_of_today(folder: Path) -> None:
    start(folder)
    with pytest.raises(InputError, match=r"08\.png is 16 x 8: expected at most 127 pixels"):
        start(folder, max_pixels=127)
    start(folder)


@pytest.mark.parametrize("damage", ["cut", "bit", "foreign", "empty", "version"])
def test_a_broken_index_is_written_anew(folder: Path, opened: list[str], damage: str, tmp_path: Path) -> None:
    first = facts(start(folder))
    path = index_folder(folder) / "index.npz"
    whole = path.read_bytes()
    if damage == "bit":
        place = whole.index(b"class 0")
        path.write_bytes(whole[:place] + b"klass" + whole[place + 5 :])
    elif damage == "foreign":
        other = tmp_path / "other"
        folder.rename(other)
        start(other)
        other.rename(folder)
        path.write_bytes((index_folder(other) / "index.npz").read_bytes())
    elif damage == "version":
        path.write_bytes(whole.replace(b"version.npy", b"noisrev.npy"))
    else:
        path.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    opened.clear()
    assert facts(start(folder)) == first
    assert len(opened) == 12
    assert facts(start(folder)) == first
    assert len(opened) == 12
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_without_a_cache_folder_every_start_opens_all(folder: Path, opened: list[str], monkeypatch, caplog) -> None:
    blocked = folder / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert facts(start(folder)) == facts(start(folder))
    assert len(opened) == 24
    assert "without an index, the next start opens all 12 files again" in caplog.text


def test_processes_that_start_together_take_turns(folder: Path, opened: list[str], caplog) -> None:
    caplog.set_level("INFO")
    with index_lock(folder):
        other = threading.Thread(target=start, args=(folder,))
        other.start()
        while "waiting for its index" not in caplog.text:
            assert other.is_alive()
            time.sleep(0.01)
        assert not opened
    start(folder)
    other.join()
    assert len(opened) == 12  # one of the two has read the index of the other


def test_a_manifest_has_an_index(pair_manifest, opened: list[str]) -> None:
    path, _ = pair_manifest
    first, second = (Manifest(**OPTIONS | {"max_pixels": 10**6})(path, 0) for _ in range(2))
    assert len(opened) == 16
    assert facts(first) == facts(second)
    assert len(read_index(path).facts) == 16

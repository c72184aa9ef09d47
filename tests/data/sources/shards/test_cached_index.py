"""Shards of others: their index is made once, without a wait for other sets, and without much memory."""

import io
import os
import tarfile
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import stnrot.data.sources.shards.cached_index as cached_index
from stnrot.data.sources.cache_folder import cache_folder
from stnrot.data.sources.shards.index import ROW, index_name
from stnrot.data.sources.shards.local import LocalShards
from stnrot.data.sources.shards.scan import Sample, samples_of
from stnrot.data.sources.shards.sets import OpenedShards, open_local

NAMES = ("a.png", "two\nlines.png", "zero\0byte.png")


def shards_in(root: Path, shards: int = 2) -> Path:
    """Write shards of three images, whose classes are 0, 1 and 2."""
    root.mkdir()
    file = io.BytesIO()
    Image.new("L", (20, 20)).save(file, "PNG")
    for number in range(shards):
        with tarfile.open(root / f"{number}.tar", "w") as tar:
            for label, name in enumerate(NAMES):
                cls = f"{name.removesuffix('png')}cls"
                for member, content in ((name, file.getvalue()), (cls, str(label).encode())):
                    info = tarfile.TarInfo(member)
                    info.size, info.pax_headers = len(content), {"path": member}
                    tar.addfile(info, io.BytesIO(content))
    return root


def kept(root: Path) -> Path:
    """Open a set; return the folder of its index."""
    store = open_local(root).index
    assert isinstance(store, LocalShards)
    return store.folder


def test_the_index_has_the_rows_of_numpy_and_the_names(tmp_path: Path) -> None:
    folder = kept(root := shards_in(tmp_path / "set"))
    table = (folder / index_name("train")).read_bytes()
    rows = [
        (number, sample.offset, sample.size, label)
        for number in range(2)
        for label, sample in enumerate(samples_of(root / f"{number}.tar"))
    ]
    assert table == np.array(rows, ROW).tobytes()
    lines = (folder / "train.names.txt").read_text().splitlines()
    assert lines == [f"{k}.tar/{name}" for k in range(2) for name in ("a.png", r"two\nlines.png", r"zero\x00byte.png")]


def test_a_set_that_has_moved_has_the_same_fingerprint(tmp_path: Path) -> None:
    root = shards_in(tmp_path / "set")
    before = open_local(root).info.fingerprint
    moved = root.rename(tmp_path / "moved")
    os.utime(moved / "0.tar", (1, 1))
    assert open_local(moved).info.fingerprint == before
    (moved / "1.tar").unlink()
    assert open_local(moved).info.fingerprint != before


def test_only_the_images_of_one_shard_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Sample] = weakref.WeakSet()

    def scanned(path: Path) -> list[Sample]:
        assert not alive
        found = samples_of(path)
        alive.update(found)
        return found

    monkeypatch.setattr(cached_index, "samples_of", scanned)
    assert open_local(shards_in(tmp_path / "set", 3)).info.splits["train"].shard_lengths == (3, 3, 3)


def test_what_a_killed_scan_has_left_is_removed(tmp_path: Path) -> None:
    folder = kept(root := shards_in(tmp_path / "set"))
    left = folder.rename(folder.with_name(f".{folder.name}"))  # all but its last step
    (left / "half").touch()
    assert kept(root) == folder
    assert "half" not in [each.name for each in folder.iterdir()]
    assert [each for each in (cache_folder() / "shard_indexes").iterdir() if each.is_dir()] == [folder]


def test_only_jobs_of_the_same_set_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = kept(root := shards_in(tmp_path / "set"))
    (folder / "info.json").unlink()
    found: list[OpenedShards] = []
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # as while another job scans it
        waiting = threading.Thread(target=lambda: found.append(open_local(root)))
        waiting.start()
        deadline = time.monotonic() + 20
        while "waiting for its index" not in caplog.text:
            assert waiting.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        open_local(shards_in(tmp_path / "other"))
        assert not found
    waiting.join()
    assert found[0].info.classes == ("0", "1", "2")
    assert f"another process reads the shards in {root}" in caplog.text
    assert str(tmp_path / "other") not in caplog.text

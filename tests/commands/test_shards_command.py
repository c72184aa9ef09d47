"""`stnrot shards`: whole sets or nothing; only a folder of shards is replaced."""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree

import pytest
from conftest import Called
from PIL import Image

from stnrot.data.sources.shards.new_folder import new_folder
from stnrot.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with twelve images of two classes."""
    for k in range(12):
        path = tmp_path / "mine" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((20, 20), 60 + k).save(path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_set_is_written_and_replaced(called: Called, folder: Path) -> None:
    line = ("shards", "mine", "out", "--val-fraction", "0.34", "--test-fraction", 0)
    (folder / ".out.stnrot-new").mkdir()  # of a process that was killed
    (folder / ".out.stnrot-new" / "train-000000.tar").write_text("a part")
    status, printed = called(*line, cwd=folder)
    assert (status, printed) == (
        0,
        "train: 8 images in 1 shards\nval: 4 images in 1 shards\nwritten: out\n",
    )
    before = contents(folder)
    info = json.loads((folder / "out" / "info.json").read_text())
    assert info["classes"] == ["a", "b"]
    assert info["grey"]
    assert "error: OUT out exists" in str(called(*line, cwd=folder)[0])
    assert contents(folder) == before
    assert called(*line, "--overwrite", cwd=folder)[0] == 0
    assert contents(folder) == before  # the same bytes
    assert called(*line, "--overwrite", "--seed", 1, "--shard-mb", "0.0103", cwd=folder)[0] == 0
    assert len(list((folder / "out").glob("train-*.tar"))) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["mine", "out"]


def test_nothing_is_written_after_an_error(called: Called, folder: Path) -> None:
    copytree(folder / "mine", folder / "fine")
    (folder / "mine" / "a" / "broken.png").write_text("no image")
    (folder / "notes").mkdir()
    (folder / "notes" / "info.json").write_text("{}")
    (folder / "notes" / "diary.txt").write_text("x")
    (folder / "link").symlink_to("notes")
    before = contents(folder)
    for arguments, words in (
        (("mine", "out"), "--on-bad-image skip leaves it out"),
        (("mine", "none/out"), "there is no folder none"),
        (
            ("mine", "out", "--val-fraction", 0.6, "--test-fraction", 0.6),
            "--val-fraction=0.6: expected at most 1 - 0.6",
        ),
        (("fine", "out", "--val-fraction", 0, "--test-fraction", 1), "FOLDER fine: no image is left for training"),
        (("none", "out"), "FOLDER none: expected a folder of images"),
        (("mine", "notes", "--overwrite"), "holds other files than shards"),
        (("mine", "link", "--overwrite"), "holds other files than shards"),
        (("mine", ".", "--overwrite"), "OUT . holds FOLDER mine"),
        (("mine", "mine", "--overwrite"), "OUT mine holds FOLDER mine"),
        (("mine", "out", "--shard-mb", "0"), "--shard-mb=0.0: expected"),
        (("mine", "out", "--val-fraction", "2"), "--val-fraction=2.0: expected a number from 0 to 1"),
    ):
        message = str(called("shards", *arguments, cwd=folder)[0])
        assert message.startswith("error: ")
        assert len(message.strip().splitlines()) == 1
        assert words in message
        assert contents(folder) == before
        assert sorted(path.name for path in folder.iterdir()) == ["fine", "link", "mine", "notes"]
    assert called("shards", "mine", "out", "--on-bad-image", "skip", cwd=folder)[0] == 0
    assert (folder / "out" / "train.names.txt").read_text().count("\n") == 8


def test_names_that_are_no_text(called: Called, folder: Path) -> None:
    source = folder / "mine" / "a" / "0.png"
    os.rename(source, os.fsencode(source.parent) + b"/\xff two\nlines.PNG")
    assert called("shards", "mine", "out", "--val-fraction", 0, "--test-fraction", 0, cwd=folder)[0] == 0
    names = (folder / "out" / "train.names.txt").read_text().splitlines()
    assert len(names) == 12
    assert r"a/\udcff two\nlines.PNG" in names


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_appears_while_shards_are_written_stays(overwrite: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = "holds other files than shards" if overwrite else "exists: expected a new folder"
    with ExitStack() as written:
        new = written.enter_context(new_folder(out, overwrite))
        (new / "info.json").write_text("{}")
        out.mkdir()
        (out / "thesis.txt").write_text("three years")
        with pytest.raises(InputError, match=words):
            written.close()
    assert (out / "thesis.txt").read_text() == "three years"
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["out"]

"""Names in one array, and the order of a folder. The ground truth is what Python's own lists and paths give."""

import os
import pickle
from pathlib import Path

import numpy as np

from stnrot.data.sources.file_names import FileNames
from stnrot.data.sources.folder_tree import images_below, walk_images

NAMES = ["a.png", "", "über/ß.jpg", "two\nlines.png", os.fsdecode(b"\xff\xfe.png"), "a.png"]


def test_names_are_those_that_were_given() -> None:
    names = FileNames.of(iter(NAMES), prefix="folder/")
    expected = [f"folder/{name}" for name in NAMES]
    assert len(names) == 6
    assert [*names] == expected
    assert names[-2] == expected[-2]
    assert [*names[1::2]] == expected[1::2]
    assert [*names.subset(np.array([4, 0, 4]))] == [expected[i] for i in (4, 0, 4)]
    assert [*pickle.loads(pickle.dumps(names[2:4]))] == expected[2:4]
    assert names.rest(2) == os.fsencode(NAMES[2])
    assert not FileNames.of([])


def test_the_order_is_that_of_sorted_paths(tmp_path: Path) -> None:
    for name in ("a.png", "a/2.png", "a/10.png", "a-b/1.png", "a b/1.png", "a/b/1.png", "a/b.png", "B/1.png", "a0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = sorted(tmp_path.rglob("*.png"))
    names, classes = images_below(tmp_path)
    assert [Path(name) for name in names] == expected
    assert [*walk_images(tmp_path)] == expected
    parts = [path.relative_to(tmp_path).parts for path in expected]
    assert classes == [part[0] if len(part) > 1 else None for part in parts]

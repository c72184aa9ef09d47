"""The files that a person names, beside what lies on the disk."""

import io
import sys
from pathlib import Path

import pytest

from stnrot.data.sources.folder_tree import walk_images
from stnrot.errors import InputError
from stnrot.prediction.image_list import list_images


def test_names_between_zero_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `find -print0` writes them: a name may hold a line break."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb.png\0c.png\0")))
    assert list_images(["-"]) == [Path("a\nb.png"), Path("c.png")]


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as of a program that starts with `<&-`
    with pytest.raises(InputError, match="standard input, which is closed"):
        list_images(["-"])


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    """A link to itself is passed over; the other images are found."""
    (tmp_path / "a.png").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "b.png").symlink_to("nowhere")
    assert list_images([str(tmp_path)]) == [tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(InputError, match=r"cannot read the folder .*: No such file"):
        list(walk_images(tmp_path / "nowhere"))

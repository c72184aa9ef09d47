"""Any text in manifests, continued tables, overrides and names of files; Python's csv module is the oracle."""

import csv
import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import strategies as st
from property import property_test

from stnrot.alignment.tables.result_table import COLUMNS, finished_lines
from stnrot.config_files import CONFIGS
from stnrot.data.sources.manifest import read_manifest
from stnrot.errors import InputError
from stnrot.runs.command_line import one_line
from stnrot.runs.overrides import switch_groups_off
from stnrot.runs.tables.growing_table import csv_line
from stnrot.turning.places import output_places

# Python 3.10 reads no zero bytes; a name of a file has none either
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6) | st.sampled_from(
    ('"', ",", "\n", "\r\n", "../../x", "\ufeff", '","', "'", "é\u2028", "${oc.env:HOME}", "/dev/zero")
)
FILE = st.binary(max_size=40) | st.text('",\n\r ab1.\0', max_size=40).map(str.encode)


def written(content: bytes) -> Path:
    path = Path(tempfile.gettempdir(), f"stnrot_texts_{os.getpid()}.csv")
    path.write_bytes(content)
    return path


@property_test(rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5))
def test_a_manifest_has_the_cells_that_were_written(rows: list[tuple[str, str, str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("image", "reference", "label"), *rows])
    found, columns = read_manifest(written(text.getvalue().encode()))
    assert columns == ["image", "reference", "label"]
    assert [tuple(row.values()) for _, row in found] == [tuple(map(str.strip, row)) for row in rows]


@property_test(content=FILE)
def test_any_file_is_a_manifest_or_refused(content: bytes) -> None:
    for header in (b"", b"image,reference\n"):
        with suppress(InputError):
            assert read_manifest(written(header + content))[0]


@property_test(names=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5), cut=st.floats(0, 1))
def test_a_table_that_is_cut_and_continued_is_the_whole_table(names: list[tuple[str, str]], cut: float) -> None:
    rows = [{"line": line, "image": image, "reference": other} for line, (image, other) in enumerate(names, 2)]
    lines = [
        csv_line(row | {"angle_deg": 1.5, "confidence": 0.5, "model": "m", "error": ""}, COLUMNS).encode()
        for row in rows
    ]
    header = csv_line(dict(zip(COLUMNS, COLUMNS, strict=True)), COLUMNS).encode()
    whole = header + b"".join(lines)
    path = written(whole[: round(cut * len(whole))])
    done = finished_lines(path, rows, "rotation", "m")
    assert done == set(range(2, 2 + len(done)))
    assert path.read_bytes() + b"".join(lines[len(done) :]) == whole


@property_test(content=FILE)
def test_any_file_is_a_table_to_continue_or_refused(content: bytes) -> None:
    header = ",".join(COLUMNS).encode() + b"\r\n"
    for start in (b"", header, header + b"2,a,b,1,1,m,\r\n"):
        path = written(start + content)
        try:
            done = finished_lines(path, [{"line": 2, "image": "a", "reference": "b"}], "rotation", "m")
        except InputError:
            assert path.read_bytes() == start + content  # what is refused is not changed
        else:
            assert done <= {2}


@property_test(name=CELL, value=CELL)
def test_any_override_is_read_or_refused_in_one_line(name: str, value: str) -> None:
    (line,) = switch_groups_off([f"{name}={value}"], CONFIGS)
    try:
        OverridesParser.create().parse_override(line)
    except HydraException as error:
        message = one_line(error)
        assert message is not None
        assert len(message.splitlines()) == 1


@property_test(
    names=st.lists(st.lists(st.sampled_from(("..", ".", "a", "b", "/", "c.png")), min_size=1, max_size=6), min_size=1)
)
def test_turned_files_stay_below_their_folder(names: list[list[str]]) -> None:
    images = [Path(*parts, "x.png") for parts in names]
    with tempfile.TemporaryDirectory() as folder:
        for place in output_places(images, Path(folder), "out"):
            assert os.path.abspath(place).startswith(os.path.abspath(folder) + os.sep)

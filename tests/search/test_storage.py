"""Storages: databases and journal files that can and cannot be used."""

import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from stnrot.errors import InputError
from stnrot.search.storage import is_empty, open_storage
from stnrot.search.study import SearchSpec, find_study, join_study

SPEC = SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, [])


def test_the_database_of_another_program_stays_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the database of another program"):
        find_study(f"sqlite:///{path}", None)
    assert path.read_bytes() == before


def test_a_journal_with_an_incomplete_last_line(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    join_study(str(path), "one", SPEC).ask()
    complete = path.read_bytes()
    path.write_bytes(complete + b'{"op_code":4,"worker')
    study = join_study(str(path), "one", SPEC)
    study.ask()
    assert path.read_bytes().startswith(complete)
    found = find_study(str(path), None)
    assert found is not None
    assert len(found.trials) == 2


@pytest.mark.parametrize("location", ["sqlite:///none/study.db", "none/study.log", "nonsense://x",
                                      "sqlite:///text.log", "text.log", "list.log", "number.log", "object.log", "postgresql://me:secret@127.0.0.1:1/x",
                                      "postgresql://me:secret@127.0.0.1:abc/x", "postgresql://me:very@secret@127.0.0.1:1/x",
                                      "postgresql://127.0.0.1:1/x?password=secret", "postgres:/me:secret@host/x",
                                      "sqlite://"])  # fmt: skip
def test_unusable_storages(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.log").write_text("not a journal\n")
    for name, text in (("list", "[1, 2]"), ("number", "5"), ("object", '{"a": 1}')):
        Path(f"{name}.log").write_text(f"{text}\n")
    with pytest.raises(InputError) as failure:
        open_storage(location)
    assert len(str(failure.value).splitlines()) == 1
    assert "secret" not in str(failure.value)
    assert Path("text.log").read_text() == "not a journal\n"
    assert not Path("none").exists()


def test_a_server_that_is_out_of_reach_is_not_called_damaged() -> None:
    """The driver of PostgreSQL has errors of its own, which SQLAlchemy's have as their cause."""
    for call in (open_storage, is_empty):
        with pytest.raises(InputError, match=r"^cannot use the storage postgresql://127.0.0.1:1/x: connection failed"):
            call("postgresql://127.0.0.1:1/x")


def test_the_path_of_a_database_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    location = f"sqlite:///{tmp_path}/study.db"
    open_storage(location)
    with pytest.raises(InputError, match=f"expected its URL, {location}"):
        open_storage(f"{tmp_path}/study.db")


@pytest.mark.parametrize(("url", "package"), [("postgresql://me:secret@host/x", "'psycopg[binary]'"),
                                              ("postgresql+psycopg2://host/x", "psycopg2-binary"),
                                              ("mysql://host/x", "mysqlclient"),
                                              ("mysql+pymysql://host/x", "pymysql")])  # fmt: skip
@pytest.mark.parametrize("use", [open_storage, is_empty])
def test_a_missing_driver(
    use: Callable[[str], object], url: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("psycopg", "psycopg2", "MySQLdb", "pymysql"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=re.escape(f"pip install {package} (")) as failure:
        use(url)
    assert "secret" not in str(failure.value)

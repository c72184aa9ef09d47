"""A set of shards, its folder, and an empty cache for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import made_once
from shard_server import Site, serving
from shard_sets import write_both

import stnrot.data.sources.shards.download as download


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "shards", write_both)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAIT", 0.0)


@pytest.fixture
def site(both: Path) -> Iterator[Site]:
    with serving(both / "shards") as found:
        yield found

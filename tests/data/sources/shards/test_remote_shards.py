"""Shards of a web server, against the same shards in a folder."""

import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import sleep

import pytest
import torch
from conftest import ENVIRONMENT, ROOT
from shard_server import Site, serving
from shard_sets import SIZE, copied, everything, folder_splits, sampler, shard_splits
from torch.utils.data import DataLoader

import stnrot.data.sources.shards.download as download
from stnrot.data.datamodule import as_fetched
from stnrot.data.rng import Split
from stnrot.data.sources.cache_folder import cache_folder
from stnrot.data.sources.image_shards import url_of
from stnrot.data.sources.shards.remote import RemoteShards
from stnrot.data.sources.shards.shard_set import ShardSet
from stnrot.data.sources.shards.write import write_shards
from stnrot.errors import InputError


def kept() -> dict[str, int]:
    """Return the bytes of each file in the cache, without those that are only locked."""
    found = {}
    for path in (cache_folder() / "shards").iterdir():
        with suppress(FileNotFoundError):  # a thread has given it another name
            found[path.name] = path.stat().st_size
    return {name: size for name, size in found.items() if not name.endswith(".lock")}


def wait_for(site: Site, shards: list[str]) -> None:
    """Wait until a thread has asked for these shards."""
    for _ in range(3000):
        if {*shards} <= {*site.shards()}:
            return
        sleep(0.01)
    raise AssertionError(f"{shards} were not asked for in 30 s")


def opened(url: str, **options: object) -> ShardSet:
    """Return the training set."""
    train = shard_splits(url, **options).train
    assert isinstance(train, ShardSet)
    return train


def needed(part: ShardSet, *batches: torch.Tensor) -> list[str]:
    """Return the shards that batches need, in this order."""
    shards = part.table["shard"][part.row[torch.cat(batches).numpy()]]
    return list(dict.fromkeys(part.split.filenames[shard] for shard in shards))


def test_the_images_are_those_of_the_folder(both: Path, site: Site) -> None:
    local = shard_splits(both / "shards")
    for found in (shard_splits(site.url), shard_splits(site.url, memory_gb=1)):
        assert found.classes == local.classes
        for split in Split:
            for one, other in zip(everything(found.part(split)), everything(local.part(split)), strict=True):
                assert one == other if isinstance(one, list) else torch.equal(one, other)


def test_what_was_passed_is_not_read_again(site: Site) -> None:
    """A resumed epoch asks the server only for shards of its rest, each once, even if the cache is empty."""
    train = opened(site.url, open_shards=1)
    whole = list(sampler(train, batch=4))
    rest = train.prefetched(sampler(train, done=len(whole) - 2, batch=4), 0, 1)
    assert len(needed(train, *whole[-2:])) < len(train.split.filenames)
    site.sent.clear()
    for counters, same in zip(rest, whole[-2:], strict=True):
        assert torch.equal(counters, same)
        train.__getitems__(counters)
    assert sorted(name for name, _ in site.sent) == sorted(needed(train, *whole[-2:]))


def test_the_next_shard_is_fetched_before_an_image_of_it_is_needed(both: Path, site: Site) -> None:
    """Each once in an epoch, though the cache has room for three; the batches are the same as without."""
    limit = 3 * max(path.stat().st_size for path in (both / "shards").glob("*.tar"))
    train = opened(site.url, open_shards=1, cache_gb=limit / 1e9)
    whole = list(sampler(train, batch=4))
    order = needed(train, *whole)
    assert len(order) > 4
    site.sent.clear()
    for number, counters in enumerate(train.prefetched(sampler(train, batch=4), 0, 1), 1):
        assert torch.equal(counters, whole[number - 1])
        train.__getitems__(counters)
        wait_for(site, order[: len(needed(train, *whole[:number])) + 1])  # the last of them was not needed so far
        assert sum(kept().values()) <= limit
    assert number == len(whole)
    assert Counter(name for name, _ in site.sent) == Counter(order)


def test_two_workers_read_prefetched_shards(both: Path, site: Site) -> None:
    train = opened(site.url)
    site.sent.clear()
    batches = train.prefetched(sampler(train), 2, 1)
    loader = DataLoader(train, batch_sampler=batches, collate_fn=as_fetched, num_workers=2)  # type: ignore[arg-type]
    local = shard_splits(both / "shards").train
    for raw, counters in zip(loader, sampler(train), strict=True):
        assert torch.equal(raw.counter, counters)
        assert torch.equal(raw.image, local.__getitems__(counters).image)
    assert Counter(name for name, _ in site.sent) == Counter(needed(train, *sampler(train)))


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_fetches_its_own_shards(site: Site, rank: int) -> None:
    train = opened(site.url, open_shards=2)
    share = list(sampler(train, (rank, 2)))
    assert len(needed(train, *share)) < len(train.split.filenames)
    for counters, same in zip(train.prefetched(sampler(train, (rank, 2)), 0, 2), share, strict=True):
        assert torch.equal(counters, same)
        wait_for(site, needed(train, counters))
    assert site.shards() == sorted(needed(train, *share))


def test_a_shard_that_cannot_be_fetched_is_named_where_it_is_needed(
    both: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = copied(both, tmp_path)
    with serving(root) as site:
        train = opened(site.url, open_shards=1)
        whole = list(sampler(train, batch=1))
        missing = needed(train, *whole)[2]
        (root / missing).unlink()
        batches = iter(train.prefetched(sampler(train, batch=1), 0, 1))
        for counters in batches:
            if needed(train, counters) == [missing]:
                break
            train.__getitems__(counters)
        wait_for(site, [missing])  # the thread has tried
        with pytest.raises(InputError, match=rf"cannot read http://127.*/{missing}: HTTP 404"):
            train.__getitems__(counters)
    assert not capfd.readouterr().err


@pytest.mark.slow
def test_a_job_ends_while_a_shard_is_fetched(site: Site) -> None:
    """The server never answers the request for the second shard."""
    code = """
import sys, time
sys.path.insert(0, sys.argv[1])
import stnrot.data.sources.shards.download as download
from shard_sets import sampler, shard_splits
download.TIMEOUT = 1000
part = shard_splits(sys.argv[2], open_shards=1).train
for counters in part.prefetched(sampler(part, batch=1), 0, 1):
    part.__getitems__(counters)
    time.sleep(1)
    raise SystemExit(7)
"""
    site.answers = 5  # info.json, three indexes, the first shard
    line = [sys.executable, "-c", code, str(ROOT / "tests"), site.url]
    environment = ENVIRONMENT | {"no_proxy": "127.0.0.1", "XDG_CACHE_HOME": str(cache_folder().parent)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 7, done.stderr
    assert len(site.shards()) == 2
    assert not done.stderr


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_transfer_is_continued(both: Path, site: Site, ranges: bool) -> None:
    site.ranges, site.broken, site.busy = ranges, 2, 1
    found = shard_splits(site.url).test
    raw = found.__getitems__(torch.arange(len(found)))
    assert torch.equal(raw.image, shard_splits(both / "shards").test.__getitems__(torch.arange(len(found))).image)
    starts = [start for name, start in site.sent if name == "test-000000.tar"]
    assert len(starts) == 3
    assert (starts[2] > starts[1] > 0) == ranges


def test_an_interrupted_description_is_read_again(both: Path, site: Site) -> None:
    site.breaks, site.broken = "info.json", 2
    assert shard_splits(site.url).classes == shard_splits(both / "shards").classes
    assert [name for name, _ in site.sent[:4]] == ["info.json"] * 3 + ["train.index"]
    site.broken, whole = 4, (both / "shards" / "info.json").stat().st_size
    with pytest.raises(InputError, match=rf"/info.json: the connection ended after {whole // 2} of {whole} bytes;"):
        shard_splits(site.url)


def test_the_cache_is_bounded(both: Path, site: Site) -> None:
    """Room for three shards, read at random: each image is still right, also in several threads."""
    sizes = [path.stat().st_size for path in (both / "shards").glob("*.tar")]
    limit = 3 * max(sizes)
    found = shard_splits(site.url, cache_gb=limit / 1e9, open_shards=2).train
    same = shard_splits(both / "shards").train
    for counters in torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).split(5):
        assert torch.equal(found.__getitems__(counters).image, same.__getitems__(counters).image)
        assert sum(kept().values()) <= limit
    assert len(site.sent) > len(sizes)
    with ThreadPoolExecutor(3) as pool:
        for counters in torch.arange(len(found)).split(4):
            raws = list(pool.map(found.__getitems__, (counters, counters.flip(0), (counters + 9) % len(found))))
            assert torch.equal(raws[0].image, raws[1].image.flip(0))
            assert torch.equal(raws[0].image, same.__getitems__(counters).image)
    with pytest.raises(InputError, match=r"cache_gb=4e-05: expected at least .*lower data.source.open_shards"):
        shard_splits(site.url, cache_gb=4e-5)


def test_a_set_that_has_changed_is_fetched_again(both: Path, tmp_path: Path) -> None:
    root = copied(both, tmp_path)
    with serving(root) as site:
        before = opened(site.url)
        images = before.__getitems__(torch.arange(len(before))).image
        write_shards(both / "folder", folder_splits(both / "folder"), root, SIZE, 1, lambda: None)
        after = opened(site.url)
        others = after.__getitems__(torch.arange(len(after))).image
    assert images.shape == others.shape
    assert not torch.equal(images, others)


def test_a_shard_that_is_cut_off(both: Path, tmp_path: Path) -> None:
    root = copied(both, tmp_path)
    path = root / "train-000001.tar"
    with serving(root) as site:
        train = opened(site.url)
        before = kept()
        for length in (20_480, 1000, 0):
            path.write_bytes(path.read_bytes()[:length])
            with pytest.raises(InputError, match=rf"http://127.*/{path.name} has {length} bytes: expected \d+; the"):
                train.__getitems__(torch.from_numpy((train.table["shard"] == 1).nonzero()[0]))
            assert kept() == before


def test_a_server_that_fails(both: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.folder = both / "folder"
    with pytest.raises(InputError, match=r"cannot read http://127.*/set/info.json: HTTP 404"):
        shard_splits(site.url)
    site.folder = both / "shards"
    site.busy = 4
    with pytest.raises(InputError, match=r"info.json: HTTP 503 .*check the address and the server"):
        shard_splits(site.url)
    train = shard_splits(site.url).train
    site.broken = 4
    with pytest.raises(InputError, match=r"train-.*: the connection ended after \d+ of \d+ bytes; check the server"):
        train.__getitems__(torch.arange(1))
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    with pytest.raises(InputError, match=r"cannot read http://127.0.0.1:9/info.json: .*refused"):
        shard_splits("http://127.0.0.1:9")


def test_a_server_that_never_answers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection."""
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    train = opened(site.url)
    site.answers = 0
    with pytest.raises(InputError, match=r"^cannot read http://127.*/info.json: .*timed out.*; check the address.*$"):
        shard_splits(site.url)
    before = kept()
    with pytest.raises(InputError, match=r"^cannot read http://127.*/train-.*tar: .*timed out.*; check the server.*$"):
        train.__getitems__(torch.arange(1))
    assert kept() == before


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/a b", "http://127.0.0.1/ü", "http://[::1", "http://..", "http://h:x/a"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(url)}/info.json is no address of a file: ") as refused:
        shard_splits(url)
    assert len(str(refused.value).splitlines()) == 1


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(InputError, match=r"^data.root=http://\*\*\*@127.0.0.1: expected an address without a user"):
        shard_splits("http://me:se@cret@127.0.0.1/set")


def test_urls() -> None:
    assert url_of(Path("https://a.b/c/")) == "https://a.b/c"
    assert url_of(Path("http://127.0.0.1:8000/set")) == "http://127.0.0.1:8000/set"
    assert url_of(Path("/data/https:/x")) is None
    assert url_of(None) is None
    assert RemoteShards("http://a/b", "", Path(), 1).place("c") == "http://a/b/c"

"""Shards in a folder, against the folder of images they were written from, and against the library webdataset."""

import io
import json
import math
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from shard_sets import DECODING, SIZE, copied, everything, folder_splits, sampler, shard_splits, training

from stnrot.data.batch_samplers import EvaluationBatches
from stnrot.data.datamodule import ShardedDataset
from stnrot.data.image_set import ImageSet
from stnrot.data.rng import Split
from stnrot.data.sources.cache_folder import cache_folder
from stnrot.data.sources.image_shards import ImageShards
from stnrot.data.sources.shards import order
from stnrot.data.sources.shards.index import ROW, index_name
from stnrot.data.sources.shards.new_folder import new_folder
from stnrot.data.sources.shards.order import shard_order
from stnrot.data.sources.shards.sets import open_local
from stnrot.data.sources.shards.shard_set import ShardSet
from stnrot.data.sources.shards.write import write_shards
from stnrot.errors import InputError


def test_the_images_are_those_of_the_folder(both: Path) -> None:
    """Streamed and in memory. The evaluation has the same order, so the same rotations."""
    folder = folder_splits(both / "folder")
    for found in (shard_splits(both / "shards"), shard_splits(both / "shards", memory_gb=1)):
        assert found.classes == folder.classes
        for split in Split:
            for one, other in zip(everything(found.part(split)), everything(folder.part(split)), strict=True):
                assert one == other if isinstance(one, list) else torch.equal(one, other)
        for split in (Split.VAL, Split.TEST):
            names = [name.rpartition("folder/")[2] for name in folder.part(split).names]
            assert list(found.part(split).names) == names
    assert isinstance(found.train, ImageSet)


def test_webdataset_reads_the_same_samples(both: Path) -> None:
    found = shard_splits(both / "shards")
    for split in Split:
        part = found.part(split)
        paths = sorted(map(str, (both / "shards").glob(f"{split.name.lower()}-*.tar")))
        assert len(paths) >= 2
        samples = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
        assert [int(each["cls"]) for each in samples] == part.label.tolist()
        for name, sample in zip(part.names, samples, strict=True):
            (content,) = (value for key, value in sample.items() if key in ("jpg", "jpeg", "png"))
            assert content == (both / "folder" / name).read_bytes()
    for path in paths:
        with tarfile.open(path) as tar:
            assert all(member.isreg() and "/" not in member.name for member in tar)


def test_shards_have_all_classes_and_the_size_that_was_asked_for(both: Path, tmp_path: Path) -> None:
    info = json.loads((both / "shards" / "info.json").read_text())
    train = shard_splits(both / "shards").train
    assert isinstance(train, ShardSet)
    assert max(info["splits"]["train"]["shard_bytes"]) <= SIZE
    for number in range(len(info["splits"]["train"]["filenames"]) - 1):
        counts = train.label[train.table["shard"] == number].bincount(minlength=2)
        assert counts.min() >= 2
    again = tmp_path / "again"
    again.mkdir()
    write_shards(both / "folder", folder_splits(both / "folder"), again, SIZE, 0, lambda: None)
    for path in again.iterdir():
        assert path.read_bytes() == (both / "shards" / path.name).read_bytes()


def test_shards_of_others_are_read(both: Path, tmp_path: Path) -> None:
    """Written by webdataset, in folders or with names of the splits; the index is kept in the cache."""
    folder = folder_splits(both / "folder")
    (tmp_path / "sets" / "training").mkdir(parents=True)
    with webdataset.ShardWriter(str(tmp_path / "sets" / "training" / "%03d.tar"), maxcount=9, verbose=0) as writer:
        for k in range(len(folder.train)):
            name = folder.train.names[k]
            content = {"image": Path(name).read_bytes()}
            key = Path(name).suffix[1:].lower()
            writer.write({"__key__": f"a.b/{k}", key: content["image"], "cls": int(folder.train.label[k]), "txt": "x"})
    for _ in range(2):
        found = shard_splits(tmp_path / "sets", val_fraction=0, test_fraction=0, channels=3)
        assert torch.equal(found.train.label, folder.train.label)
        raw, same = (part.__getitems__(torch.arange(len(part))) for part in (found.train, folder.train))
        assert torch.equal(raw.image, same.image)
        assert found.train.names[0].startswith("000.tar/a.b/0.")
        assert found.classes == ("0", "1")
        (kept,) = (each for each in (cache_folder() / "shard_indexes").iterdir() if each.is_dir())
        (kept / index_name("train")).touch()  # read again below
    (kept / "info.json").unlink()
    assert shard_splits(tmp_path / "sets").classes == ("0", "1")
    (tmp_path / "sets" / "classes.txt").write_text("flower\ntemple\n")
    assert shard_splits(tmp_path / "sets").classes == ("flower", "temple")


def test_the_order_is_a_function_of_seed_and_epoch(both: Path) -> None:
    part = shard_splits(both / "shards").train
    assert isinstance(part, ShardSet)
    assert isinstance(part, ShardedDataset)  # so that a datamodule takes its order
    batches = sampler(part)
    assert part.prefetched(batches, 0, 1) is batches  # nothing to fetch
    first, second = (part.order((seed,), 3 * len(part)) for seed in (0, 0))
    assert torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(3 * len(part)))
    assert not torch.equal(first, part.order((1,), 3 * len(part)))
    (one,) = training(part, 1)
    for processes in (2, 4):
        shares = training(part, processes)
        together = [torch.stack(batch).T.reshape(-1) for batch in zip(*shares, strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(one, together, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one[2:], training(part, 1, done=2)[0], strict=True))


@pytest.mark.parametrize("parts", [1, 7, 1000])
def test_any_number_of_open_shards_gives_an_order(both: Path, parts: int) -> None:
    part = shard_splits(both / "shards", open_shards=parts).train
    assert isinstance(part, ShardSet)
    chosen = part.subset(torch.tensor([3, 1, 20]))
    assert tuple(chosen.names) == tuple(part.names[i] for i in (3, 1, 20))
    for each in (part, chosen):
        assert torch.equal(each.order((0,), len(each)).sort().values, torch.arange(len(each)))


def test_names_that_are_not_utf8_can_be_written_to_a_table(both: Path, tmp_path: Path) -> None:
    root = copied(both, tmp_path)
    path = root / "train.names.txt"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    names = [name.encode() for name in shard_splits(root).train.names]
    assert names[0].startswith("\N{REPLACEMENT CHARACTER}".encode())
    assert names[1:] == path.read_bytes().splitlines()[1:]


def test_each_shard_is_read_whole_and_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = np.repeat(np.arange(6, dtype=np.uint32), (7, 4, 9, 1, 6, 3))[np.random.default_rng(0).permutation(30)]
    at_once = shard_order(shard, 1, (3,), 60)
    monkeypatch.setattr(order, "CHUNK", 5)  # images: less than those of some shards
    found = shard_order(shard, 1, (3,), 60)
    assert torch.equal(found, at_once)
    passes = found.view(2, 30).numpy() - np.array([[0], [30]])
    for images in passes:
        runs = np.split(images, np.flatnonzero(np.diff(shard[images])) + 1)
        assert sorted(len(run) for run in runs) == [1, 3, 4, 6, 7, 9]
        assert all((np.diff(run) < 0).any() for run in runs if len(run) > 5)  # not in the order of the shard
    assert [shard[images[0]] for images in passes] != [0, 0]
    assert not np.array_equal(*passes)


@pytest.mark.parametrize("value", [0, -1, "x", None, True, math.nan, math.inf])
def test_bad_options(unchecked: None, value: Any) -> None:
    for name in ("open_shards", "cache_gb"):
        if (name, value) != ("cache_gb", 0):
            with pytest.raises(InputError, match=f"^{name}={value}: expected a"):
                ImageShards(**DECODING | {"open_shards": 4, "cache_gb": 1.0, name: value})


def test_each_process_reads_its_share_of_the_shards_in_turn(both: Path) -> None:
    """Of four places at once each process has one or two, and no shard of another but at the cuts."""
    part = shard_splits(both / "shards").train
    assert isinstance(part, ShardSet)
    shards = len(part.split.filenames)
    assert shards >= 5
    for processes in (2, 4):
        read = [
            [part.table["shard"][(counters % len(part)).numpy()] for counters in share]
            for share in training(part, processes)
        ]
        assert sum(len(np.unique(np.concatenate(share))) for share in read) <= shards + 3
        for share in read:
            for batch in share:
                assert len(np.unique(batch)) <= 2 * 4 // processes
            seen = np.concatenate(share)
            places = [np.flatnonzero(seen == shard) for shard in np.unique(seen)]
            if processes == 4:  # one place: a shard is left for good
                assert all((np.diff(place) == 1).all() for place in places)


def test_evaluation_counts_each_image_once(both: Path) -> None:
    part = shard_splits(both / "shards").test
    for processes in (1, 2, 3, 5):
        batches = [list(EvaluationBatches(len(part), 4, (rank, processes))) for rank in range(processes)]
        assert len({len(each) for each in batches}) == 1
        found = [part.__getitems__(batch) for share in batches for batch in share]
        assert torch.cat([raw.counter for raw in found]).sort().values.tolist() == list(range(len(part)))


@pytest.mark.parametrize("length", [0, 1000, 20_480])
def test_a_shard_that_is_cut_off(both: Path, tmp_path: Path, length: int) -> None:
    root = copied(both, tmp_path)
    path = root / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:length])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=rf"train-000001.tar has {length} bytes: expected \d+; it is cut off"):
        shard_splits(root)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_start_opens_no_shard(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of 50,000 shards are soon compared; to open them all takes long on a shared disk."""
    opened, before = list[str](), Path.open

    def noted(path: Path, *how: Any, **options: Any) -> Any:
        opened.append(path.name)
        return before(path, *how, **options)

    monkeypatch.setattr(Path, "open", noted)
    assert sum(len(split.filenames) for split in open_local(both / "shards").info.splits.values()) > 5
    assert "info.json" in opened
    assert not [name for name in opened if name.endswith(".tar")]


@pytest.mark.parametrize("kind", ["a folder", "a named pipe"])
def test_a_shard_of_another_kind(both: Path, tmp_path: Path, kind: str) -> None:
    path = copied(both, tmp_path) / "train-000001.tar"
    path.unlink()
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    with pytest.raises(InputError, match=rf"train-000001.tar: expected a regular file, got {kind}"):
        open_local(path.parent)


def test_shards_that_a_killed_process_has_moved_aside_come_back(both: Path, tmp_path: Path) -> None:
    root = copied(both, tmp_path)
    before = {path.name: path.read_bytes() for path in root.iterdir()}
    root.rename(root.with_name(f".{root.name}.stnrot-old"))
    with pytest.raises(InputError, match="no images"), new_folder(root, overwrite=True):
        raise InputError("no images")
    assert {path.name: path.read_bytes() for path in root.iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if "stnrot" in path.name]


def test_a_broken_image_is_named(both: Path, tmp_path: Path) -> None:
    root = copied(both, tmp_path)
    test = shard_splits(root).test
    assert isinstance(test, ShardSet)
    row = test.table[1]
    path = root / test.split.filenames[row["shard"]]
    content = bytearray(path.read_bytes())
    content[row["offset"] : row["offset"] + row["size"]] = bytes(row["size"])
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=f"cannot read the image {test.names[1]} in test-000000.tar: .*on_bad_image=skip"
    ):
        test.__getitems__(torch.arange(3))
    kept = replace(test, decoding=replace(test.decoding, on_bad_image="skip")).__getitems__(torch.arange(3))
    assert kept.counter.tolist() == [0, 2]
    with pytest.raises(InputError, match="40 x 50: expected at most 100 pixels"):
        shard_splits(both / "shards", max_pixels=100).test.__getitems__(torch.arange(1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda info: info["splits"]["train"]["filenames"].__setitem__(0, "../../etc/passwd.tar"),
            "names of the shards",
        ),
        (lambda info: info["splits"]["train"]["filenames"].__setitem__(0, "/train.tar"), "names of the shards"),
        (lambda info: info["splits"]["train"]["shard_bytes"].__setitem__(0, 10**30), "sizes of the shards"),
        (lambda info: info["splits"]["train"]["shard_lengths"].__setitem__(0, -1), "sizes of the shards"),
        (
            lambda info: info["splits"]["train"]["shard_lengths"].__setitem__(0, 10**9),
            "bytes: expected 20000000560; it is cut off",
        ),
        (lambda info: info["splits"]["train"]["shard_lengths"].pop(), "differ in length"),
        (lambda info: info["splits"].pop("train"), "does not describe shards"),
        (lambda info: info.update(classes=[1, 2]), "does not describe shards"),
        (lambda info: info.update(classes=["flower"]), "is not the index"),
        (lambda info: info.update(splits=[]), "does not describe shards"),
    ],
)
def test_a_description_that_lies(both: Path, tmp_path: Path, change: Any, words: str) -> None:
    root = copied(both, tmp_path)
    info = json.loads((root / "info.json").read_text())
    change(info)
    (root / "info.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=words) as caught:
        shard_splits(root)
    assert len(str(caught.value).splitlines()) == 1


def test_an_index_that_lies(both: Path, tmp_path: Path) -> None:
    root = copied(both, tmp_path)
    table = np.fromfile(root / index_name("train"), ROW)
    for name, value in (("offset", 10**9), ("shard", 99), ("size", 2**31), ("label", 7), ("label", -5)):
        wrong = table.copy()
        wrong[name][0] = value
        wrong.tofile(root / index_name("train"))
        with pytest.raises(InputError, match=r"train.index is not the index of the shards of train"):
            shard_splits(root)
    for content in (b"", b"x", table.tobytes()[:-1]):
        (root / index_name("train")).write_bytes(content)
        with pytest.raises(InputError, match=rf"train.index has {len(content)} bytes: expected {table.nbytes}; it is"):
            shard_splits(root)
    for text in (b"", b"[" * 100_000, b"\xff", b"null", b"{}"):
        (root / "info.json").write_bytes(text)
        with pytest.raises(InputError, match="does not describe shards"):
            shard_splits(root)


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int | None = None
) -> tuple[Any, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content) if size is None else size, "/etc/passwd"
    return info, content


def tar_of(path: Path, *members: tuple[Any, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


@pytest.fixture
def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    return file.getvalue()


def test_strange_members_are_no_images(tmp_path: Path, picture: bytes) -> None:
    """Nothing is unpacked: a path in a name leads nowhere, and links and devices are passed over."""
    before = sorted(tmp_path.iterdir())
    tar_of(
        tmp_path / "a.tar",
        *(member(name, picture) for name in ("../../up.png", "/root/abs.png", "ok.png", "__meta__/x.png", "nothing")),
        *(
            member(f"{k}.png", kind=kind)
            for k, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE))
        ),
    )
    found = shard_splits(tmp_path, val_fraction=0, test_fraction=0).train
    assert list(found.names) == ["a.tar/../../up.png", "a.tar//root/abs.png", "a.tar/ok.png"]
    assert found.label is None
    assert (found.__getitems__(torch.arange(3)).image[:, 0] == 255).all()
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "a.tar", tmp_path / "cache"])


def test_broken_tar_files(tmp_path: Path, picture: bytes) -> None:
    whole = tar_of(
        tmp_path / "a.tar", member("1.png", picture), member("1.cls", b"0"), member("2.png", picture)
    ).read_bytes()
    sparse = tarfile.TarInfo("1.png")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50)}
    cases: dict[str, bytes] = {"no class (.cls), others have": whole}
    for end in (300, 600, 1200, 2048, 3000):  # in a header, in an image, at the end of a member
        cases[f"{end}"] = whole[:end]
    for text in (b"cat", b"-1", b"99999999", b"1" * 500, b""):
        tar_of(tmp_path / "a.tar", member("1.png", picture), member("1.cls", text))
        cases[f"has the class {text[:8]!r}"[:14] + str(len(text))] = (tmp_path / "a.tar").read_bytes()
    cases["empty"], cases["zeros"], cases["text"] = b"", bytes(10240), b"no tar file" * 200
    info = tarfile.TarInfo("1.png")
    info.size = 2**40
    cases["absurd"] = info.tobuf(tarfile.GNU_FORMAT) + picture
    cases["sparse"] = sparse.tobuf(tarfile.PAX_FORMAT) + bytes(2048)
    for content in cases.values():
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.tar|1\.png|2\.png") as caught:
            shard_splits(tmp_path)
        assert len(str(caught.value).splitlines()) == 1
    assert not [each for each in (cache_folder() / "shard_indexes").iterdir() if each.is_dir()]


def test_shards_of_several_splits_may_have_the_same_name(tmp_path: Path) -> None:
    """In folders of their own, as many sets have them: each split has its own pictures."""
    for grey, split in enumerate(("train", "val", "test")):
        file = io.BytesIO()
        Image.new("L", (20, 20), 80 * grey).save(file, "PNG")
        (tmp_path / split).mkdir()
        tar_of(tmp_path / split / "00000.tar", member("1.png", file.getvalue()))
    found = shard_splits(tmp_path)
    assert [int(found.part(split).__getitems__(torch.arange(1)).image.max()) for split in Split] == [0, 80, 160]


def test_a_folder_without_shards_or_with_some_beside_splits(tmp_path: Path, picture: bytes) -> None:
    with pytest.raises(InputError, match="expected a folder of shards"):
        shard_splits(tmp_path)
    with pytest.raises(InputError, match="expected a folder of shards or its URL, found none"):
        shard_splits(tmp_path / "none")
    for name in ("x-train-0.tar", "x-val-0.tar", "other.tar"):
        tar_of(tmp_path / name, member("1.png", picture))
    with pytest.raises(InputError, match=r"other.tar: expected train, val or test in its name"):
        shard_splits(tmp_path)
    (tmp_path / "other.tar").unlink()
    (tmp_path / "x-train-0.tar").unlink()
    with pytest.raises(InputError, match=r"x-val-0.tar: expected shards of a training set beside it"):
        shard_splits(tmp_path)
    (tmp_path / "x-train-0.tar").symlink_to("nowhere.tar")
    with pytest.raises(InputError, match=r"cannot read the shard .*x-train-0.tar: .*No such file"):
        shard_splits(tmp_path)

"""Jobs on shards of a web server: the test of the same folder, by one process and by two."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT, ROOT, SMALL, command, composed, evaluated, metrics_of, stnrot
from same_run import assert_same_run, wait_for
from shard_server import Site, serving

from train import train

pytestmark = pytest.mark.slow
OPTIONS = (
    *(each for each in SMALL if not each.startswith("data.")),
    "model=cnn",
    "data.source.image_size=[24,24]",
    "data.source.memory_gb=1e-6",
    "data.batch_size=4",
    "trainer.precision=64-true",
    "callbacks.progress=null",
)


@pytest.fixture
def site(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The shards of forty images, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(ENVIRONMENT, "no_proxy", "127.0.0.1")
    done = stnrot("shards", mine, tmp_path / "shards", "--shard-mb", 0.02, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with serving(tmp_path / "shards") as found:
        yield found


def test_one_and_two_processes_end_with_the_metrics_of_the_folder(mine: Path, site: Site, tmp_path: Path) -> None:
    options = [*OPTIONS, "data=image_shards", f"data.root={site.url}", "data.source.open_shards=2"]
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    train(composed("train", *options, f"output_dir={one}"))
    shards = [name for name, _ in site.sent if name.endswith(".tar")]
    assert sorted(shards) == site.shards()  # each is fetched once
    several = command("train.py", *options, "data.num_workers=1", "trainer=ddp", f"hydra.run.dir={two}")
    assert several.returncode == 0, several.stderr
    # the training of two processes, and the same test from the folder itself
    folder = ("data=image_folder", f"data.root={mine}", *(each for each in OPTIONS if each.startswith("data.")))
    same = evaluated(str(one / "checkpoints" / "best.ckpt"), tmp_path / "same", *folder, "trainer.precision=64-true")
    whole = metrics_of(one)
    assert any(name.startswith("test/") for name in whole)
    for name, value in whole.items():
        assert metrics_of(two)[name] == pytest.approx(value, rel=1e-3, abs=2e-3), name
        if name.startswith("test/"):
            assert metrics_of(same)[name] == pytest.approx(value, rel=1e-6), name


def test_two_processes_that_are_killed_within_an_epoch_resume(site: Site, tmp_path: Path) -> None:
    """With other workers and an empty cache: to the last bit, and no shard of the rest is fetched twice."""
    options = [*OPTIONS, "data=image_shards", f"data.root={site.url}", "data.source.open_shards=2", "trainer=ddp"]
    options += ["trainer.accelerator=cpu", "trainer.max_epochs=2", "data.num_workers=1", "checkpoint.every_n_steps=2"]
    whole = command("train.py", *options, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    line = [sys.executable, str(ROOT / "train.py"), *options, "hydra.run.dir=cut"]
    job = subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(tmp_path, "cut/checkpoints/last.ckpt")
    job.kill()
    job.communicate(timeout=60)  # until the other process has closed its output
    state = torch.load(tmp_path / "cut" / "checkpoints" / "last.ckpt", weights_only=True)["stands_at"]
    assert state["place"] == "batch"
    shutil.rmtree(tmp_path / "cache")
    site.sent.clear()
    done = command("train.py", "resume=cut", "data.num_workers=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    fetched = [name for name, _ in site.sent if name.endswith(".tar")]
    assert sorted(fetched) == site.shards()


def test_a_checkpoint_reaches_no_server_by_itself(site: Site, tmp_path: Path) -> None:
    options = [*OPTIONS, "data=image_shards", f"data.root={site.url}"]
    run = tmp_path / "run"
    run.mkdir()
    train(composed("train", *options, f"output_dir={run}"))
    site.sent.clear()
    ckpt = f"ckpt={run / 'checkpoints' / 'best.ckpt'}"
    small = ("trainer.accelerator=cpu", "hydra.run.dir=tested")
    refused = command("evaluate.py", ckpt, *small, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"error: the data of the run lie on a web server: to read them, add data.root={site.url}" in refused.stderr
    assert not site.sent
    assert not (tmp_path / "tested").exists()
    done = command("evaluate.py", ckpt, f"+data.root={site.url}", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert site.sent


def test_a_shard_that_is_cut_off_leaves_nothing(site: Site, tmp_path: Path) -> None:
    for path in (tmp_path / "shards").glob("train-*.tar"):
        path.write_bytes(path.read_bytes()[:1000])
    for root in (site.url, tmp_path / "shards"):
        options = [*OPTIONS, "data=image_shards", f"data.root={root}", "data.num_workers=1", "hydra.run.dir=run"]
        done = command("train.py", *options, cwd=tmp_path)
        assert done.returncode == 1
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "has 1000 bytes: expected" in line
        assert "Traceback" not in done.stdout + done.stderr
        assert not (tmp_path / "run").exists()
        assert not list((tmp_path / "cache").rglob(".*stnrot*"))

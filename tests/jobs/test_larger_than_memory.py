"""Image folders that do not fit into the memory. The judges are a limit of the kernel, and a hook on every open()."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, NO_FIGURES, ROOT
from PIL import Image

from stnrot.data.sources import headers
from stnrot.data.sources.image_folder import ImageFolder

SIDE = 256  # pixels of the images in training
ALLOWANCE = 32 * 2**20  # bytes
IMAGES = 4 * ALLOWANCE // (3 * SIDE**2) + 1
JOB = """
import os, resource, sys, threading, time
sys.path[:0] = {paths}
from conftest import composed
from train import train

peak, done = 0, False

def data():  # pages of the heap, of stacks and of other memory that the process does not share
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()

def watch():
    global peak
    while not done:
        peak = max(peak, data())
        time.sleep(0.002)

def job(root, folder, *options):
    os.mkdir(folder)
    common = ["data=image_folder", "model=cnn", "data.batch_size=8", "data.source.image_size=[{side},{side}]"]
    common += ["trainer.max_epochs=1", "trainer.accelerator=cpu", "callbacks.progress=null", "model.classifier.width=2"]
    train(composed("train", *common, f"data.root={{root}}", f"output_dir={{folder}}", *options))

watcher = threading.Thread(target=watch)
watcher.start()
job("few", "first", "data.source.memory_gb=1e-6", "data.num_workers=1")
done = True
watcher.join()
limit = peak + {allowance}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
job("many", "streamed", "data.source.memory_gb=1e-6", "data.num_workers=1")
print("streamed", flush=True)
job("many", "kept", "data.source.memory_gb=1")
print("kept", flush=True)
"""


def write_images(root: Path, count: int) -> None:
    (root / "0").mkdir(parents=True)
    (root / "1").mkdir()
    Image.radial_gradient("L").convert("RGB").save(root / "0" / "0.jpg")
    for k in range(1, count):
        os.link(root / "0" / "0.jpg", root / str(k % 2) / f"{k}.jpg")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is known on Linux")
def test_a_set_of_four_times_the_memory_that_is_left(tmp_path: Path) -> None:
    """After a job on few images, the process may take ALLOWANCE more bytes than the most of that job."""
    write_images(tmp_path / "few", 32)
    write_images(tmp_path / "many", IMAGES)
    code = JOB.format(paths=[str(ROOT), str(ROOT / "tests")], allowance=ALLOWANCE, side=SIDE)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200)
    assert "streamed" in done.stdout, done.stderr
    assert "kept" not in done.stdout
    assert "memory" in done.stderr
    assert (tmp_path / "streamed" / "checkpoints" / "best.ckpt").exists()


HOOK = """
import os, sys

def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".jpg"):
        os.write(notes, os.fsencode(arguments[0]) + b" ")

notes = os.open(f"{os.environ['NOTES']}/{os.getpid()}", os.O_CREAT | os.O_WRONLY)
sys.addaudithook(note)
"""


@pytest.mark.slow
def test_each_of_two_processes_opens_its_share_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is trained on, validated or tested once, and has its header in the index already."""
    count = headers.WORTH + 200
    write_images(tmp_path / "images", count)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(headers, "SETTLED", 0)
    source = {"image_size": [28, 28], "fit": "crop", "channels": None, "max_pixels": 10**6, "on_bad_image": "error"}
    ImageFolder(**source, memory_gb=0, val_fraction=0.2, test_fraction=0.2)(tmp_path / "images", 0)
    for name in ("hook", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(tmp_path / "hook"), ENVIRONMENT.get("PYTHONPATH", "")])
    options = ["data=image_folder", "data.root=images", "data.source.image_size=[28,28]", "data.source.memory_gb=0"]
    options += ["data.num_workers=0", "data.source.val_fraction=0.2", "data.source.test_fraction=0.2", NO_FIGURES]
    options += ["model=cnn", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=1", "data.batch_size=60"]
    options += ["trainer.num_sanity_val_steps=0", "hydra.run.dir=run", "callbacks.progress=null"]
    env = ENVIRONMENT | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "NOTES": str(tmp_path / "notes"),
        "PYTHONPATH": path,
    }
    command = [sys.executable, str(ROOT / "train.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    opened = [each.read_text().split() for each in (tmp_path / "notes").iterdir()]
    first, second = (names for names in opened if names)
    assert len(first) == len(second) == count / 2
    assert {*first, *second} == {os.path.join("images", str(k % 2), f"{k}.jpg") for k in range(count)}

"""One line for the user: an error of a constructor begins with the option's place in the configuration."""

import errno
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.device_parser import _parse_gpu_ids
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from stnrot.errors import InputError, check_number
from stnrot.runs.checkpoints import read_checkpoint
from stnrot.runs.command_line import nothing_left, one_line

OLD = Path(__file__).parent / "before_0_3"


class Encoder:
    def __init__(self, width: int, points: str = "torus") -> None:
        if points != "torus":
            raise InputError(f"{points}: there is no such file; \"give\" 'torus'")
        check_number("width", width, 2)


class Camera:
    def __init__(self, camera: int = 1) -> None:
        raise InputError(f"camera.near={camera}: expected 2")


class LongName:
    def __init__(self, width: int) -> None:
        check_number("model.encoder.width", width, 2)


def failure(target: type, **arguments: object) -> InstantiationException:
    config = {"model": {"encoder": {"_target_": f"{target.__module__}.{target.__qualname__}"} | arguments}}
    with pytest.raises(InstantiationException) as raised:
        instantiate(OmegaConf.create(config).model.encoder)
    return raised.value


def test_an_argument_gets_its_path() -> None:
    expected = "model.encoder.width=1: expected a whole number of at least 2"
    assert one_line(failure(Encoder, width=1)) == expected
    assert one_line(failure(LongName, width=1)) == expected
    assert one_line(failure(Camera)) == "model.encoder.camera.near=1: expected 2"


def test_what_is_no_argument_gets_none() -> None:
    line = "my.ply: there is no such file; \"give\" 'torus'"
    assert one_line(failure(Encoder, width=2, points="my.ply")) == line


def test_a_bug_has_no_line() -> None:
    assert one_line(ValueError("model.encoder.width=1: expected 2")) is None


class Killed:
    """A set that kills the process that fetches from it, as the system does if the memory is full."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signal 9")
def test_a_killed_process_of_a_loader_has_a_line() -> None:
    with pytest.raises(RuntimeError) as killed:
        next(iter(DataLoader(Killed(), num_workers=1, multiprocessing_context="fork")))  # type: ignore[arg-type]
    line = one_line(killed.value)
    assert line is not None
    assert line.startswith("a process that fetches batches was killed (DataLoader worker (pid")
    assert "memory is full; lower data.num_workers" in line
    assert len(line.splitlines()) == 1


def test_a_full_disk_has_a_line_without_the_name_of_a_file() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert "; make room, or choose another folder" in str(one_line(OSError(number, os.strerror(number))))
    assert one_line(OSError(errno.EBADF, "a bug")) is None


@pytest.mark.parametrize(("start", "left"), [(".", []), ("run", ["run"]), ("run/in", ["run"])])
def test_a_refused_job_removes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, left: list[str]
) -> None:
    """But never the folder in which the command was started, as with `hydra.run.dir=.`."""
    (tmp_path / "run").mkdir()
    runtime = {"output_dir": str(tmp_path / "run"), "cwd": str(tmp_path / start)}
    hydra = {"runtime": runtime, "output_subdir": ".hydra", "job": {"name": "train"}, "mode": "RUN"}
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create({"hydra": hydra}))
    with pytest.raises(InputError), nothing_left():
        raise InputError("seed=-1: expected 0")
    assert [path.name for path in tmp_path.iterdir()] == left


def test_the_path_survives_the_way_from_another_process() -> None:
    error = failure(Encoder, width=1)
    there = pickle.loads(pickle.dumps(error))
    assert there.__cause__ is None
    assert one_line(there) == one_line(error)


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("data.batch_size", "data.batch_size"),
        ("model.encoder.radii", "model.encoder.radii"),
        ("model.hypotheses", "model.hypotheses"),
        ("task.photometric_weight", "task.photometric_weight"),
        ("callbacks.finite.skip", "callbacks.finite.skip"),
    ],
)
def test_train_names_the_option(job: Callable[..., object], option: str, path: str) -> None:
    with pytest.raises((InputError, InstantiationException)) as raised:
        job(f"{option}=-3")
    assert str(one_line(raised.value)).startswith(f"{path}=-3: expected a")


def test_a_search_names_the_option(
    ends: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = str(ends("train.py", "-m", "hparams_search=rot_stn", "task.angle_weight=1", "model.classifier.width=-3"))
    assert line.startswith("error: model.classifier.width=-3: expected a")


def test_evaluate_names_the_option(
    ends: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = str(ends("evaluate.py", f"ckpt={OLD / 'classify.ckpt'}", "+data.batch_size=-3"))
    assert line.startswith("error: data.batch_size=-3: expected a")
    line = str(ends("evaluate.py", f"ckpt={OLD / 'classify.ckpt'}", "callbacks.alignment_figures.samples=-3"))
    assert line.startswith("error: callbacks.alignment_figures.samples=-3: expected a")
    checkpoint = read_checkpoint(OLD / "classify.ckpt")
    checkpoint["config"]["model"]["encoder"]["radii"] = -3
    torch.save(checkpoint, "changed.ckpt")
    line = str(ends("evaluate.py", "ckpt=changed.ckpt"))
    assert "cannot rebuild changed.ckpt: model.encoder.radii=-3: expected a" in line


def test_more_devices_than_the_machine_has() -> None:
    """Lightning's own check of the numbers of the GPUs."""
    with pytest.raises(Exception, match="only has") as refused:
        _parse_gpu_ids([98, 99], include_cuda=True)
    assert str(one_line(refused.value)).startswith("You requested gpu: [98, 99] But your machine only has: [")

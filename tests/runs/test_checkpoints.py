"""Checkpoints are plain data, are written atomically, and build only what this project defines."""

import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import NO_FIGURES, evaluated

from stnrot.errors import InputError
from stnrot.runs.allowed_targets import check_targets
from stnrot.runs.checkpoints import AtomicCheckpointIO, read_checkpoint, rebuild
from stnrot.runs.find_checkpoints import find_checkpoints

Job = Callable[..., tuple[float, Path]]


def test_checkpoints_are_plain_data_and_rebuild(job: Job) -> None:
    _, folder = job(NO_FIGURES)
    path = folder / "checkpoints" / "best.ckpt"
    checkpoint = read_checkpoint(path)
    assert checkpoint["config"]["model"]["_target_"] == "stnrot.models.rot_stn.RotSTN"
    task = rebuild(checkpoint, path)
    assert not task.training
    image = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(task.model(image, None).log_probability.exp().sum(1), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(task.state_dict(), checkpoint["state_dict"], atol=0, rtol=0)


def test_a_checkpoint_cannot_build_what_is_not_ours() -> None:
    check_targets(
        {
            "_target_": "stnrot.models.cnn.CNN",
            "classifier": {"_target_": "stnrot.models.classifiers.conv.ConvClassifier"},
        }
    )
    for target in (
        "os.system",
        "stnrot.data.sources.files.os.system",
        "stnrot.runs.checkpoints.torch.load",
        "builtins.eval",
    ):
        with pytest.raises(InputError, match="not part of stnrot"):
            check_targets({"a": [{"_target_": target}]})
    with pytest.raises(InputError, match="expected plain values"):
        check_targets({"classifier": "${oc.create:{_target_: builtins.print, _args_: [x]}}"})


@pytest.mark.parametrize(("ckpt", "words"), [("null", "ckpt is not set"), ("latest", "no run below outputs/train")])
def test_evaluation_needs_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ckpt: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        evaluated("", tmp_path / "tested", f"ckpt={ckpt}")


@pytest.mark.parametrize("ckpt", [3, ["a.ckpt", "b.ckpt"]])
def test_a_list_of_checkpoints_is_refused(ckpt: object) -> None:
    with pytest.raises(InputError, match=r"ckpt=.*: expected latest, the path of a checkpoint, or a pattern with \*"):
        find_checkpoints(ckpt)


def _interrupted(checkpoint: dict[str, object], path: Path) -> bool:
    """Interrupt a save. One in 60 interrupts is lost in C++ code that asks for an attribute; the file is then saved."""
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    try:
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    except KeyboardInterrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    return False


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(Exception, match=r"pickle|local object"):  # since Python 3.13 the latter
        AtomicCheckpointIO().save_checkpoint({"epoch": 2, "half": torch.zeros(10**6), "bad": lambda: None}, path)
    many = {"epoch": 3} | {str(k): torch.zeros(50_000) for k in range(300)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):  # torch's own error says `unexpected pos`
            AtomicCheckpointIO().save_checkpoint(many, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert any(_interrupted(many, path) for _ in range(5))
    assert torch.load(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]

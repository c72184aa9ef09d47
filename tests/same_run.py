"""Whether two runs are one: weights, optimizer, metrics and the rows of all logs equal to the last bit."""

import time
from pathlib import Path
from typing import Any

import torch
from conftest import metrics_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TABLE = Path("csv", "version_0", "metrics.csv")


def state(folder: Path) -> dict[str, Any]:
    """Return the newest checkpoint of a run."""
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")


def tensors(node: Any) -> list[torch.Tensor]:
    """Return all tensors of weights or of the state of an optimizer, in their order."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        return [each for part in node for each in tensors(part)]
    return [node] if isinstance(node, torch.Tensor) else []


def events(folder: Path) -> dict[str, list[Any]]:
    """Return what the run has written for TensorBoard."""
    log = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0}).Reload()
    tags = log.Tags()
    curves: dict[str, list[Any]] = {
        tag: [(each.step, each.value) for each in log.Scalars(tag)] for tag in tags["scalars"]
    }
    return curves | {tag: [each.step for each in log.Images(tag)] for tag in tags["images"]}


def assert_same_run(found: Path, whole: Path) -> None:
    """The weights, the optimizer, the metrics and all rows of the logs are equal to the last bit."""
    one, other = state(found), state(whole)
    for part in ("state_dict", "optimizer_states", "current_model_state", "averaging_state"):
        pairs = list(zip(tensors(one.get(part)), tensors(other.get(part)), strict=True))
        assert all(torch.equal(a, b) for a, b in pairs), part
    assert (found / TABLE).read_bytes() == (whole / TABLE).read_bytes()
    assert metrics_of(found) == metrics_of(whole)
    assert events(found) == events(whole)
    assert [each.name for each in (found / "csv").iterdir()] == ["version_0"]
    left = {each.name for each in (found / "checkpoints").iterdir()}
    assert left == {"best.ckpt", "last.ckpt"}


def wait_for(folder: Path, pattern: str, seconds: float = 300) -> None:
    """Wait until a file of this pattern exists."""
    deadline = time.monotonic() + seconds
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} in {folder} after {seconds:g} s"
        time.sleep(0.02)

"""Two real processes over gloo against torch's own batch norm on the whole batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from stnrot.models.p4_conv import P4Conv
from stnrot.runs.processes.sync_batch_norm import BatchNormSync, SyncedBatchNorm2d

WHOLE = {"kernel": 4, "padding": 0}  # of a map of 4 x 4: one value for each image


def _share(rank: int, file: str, image: torch.Tensor, results: str, options: dict[str, int]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    norm = BatchNormSync().apply(nn.Sequential(nn.BatchNorm2d(3), P4Conv(3, 2, first=True, **options)))
    with torch.no_grad():
        norm[0].weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
    mine = image[rank::2].clone().requires_grad_()
    out = norm(mine)
    (out**3).sum().backward()
    torch.save((out.detach(), mine.grad, norm.state_dict()), f"{results}{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "options", "offset"),
    [
        ((10, 3, 4, 5), {}, 1),
        ((10, 3, 4, 5), {}, 1000),  # far from the running mean, which is 0
        ((3, 3, 4, 4), WHOLE, 1),  # one process has a single value
    ],
)
def test_two_processes_are_one(shape: tuple[int, ...], options: dict[str, int], offset: int, tmp_path: Path) -> None:
    image = torch.randn(shape) * 3 + offset
    mp.spawn(_share, (str(tmp_path / "store"), image, str(tmp_path / "out"), options), nprocs=2)
    torch.manual_seed(0)
    norm = nn.Sequential(nn.BatchNorm2d(3), P4Conv(3, 2, first=True, **options))
    with torch.no_grad():
        norm[0].weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
    whole = image.clone().requires_grad_()
    out = norm(whole)
    (out**3).sum().backward()
    for rank in range(2):
        share, gradient, state = torch.load(tmp_path / f"out{rank}")
        torch.testing.assert_close(share, out[rank::2], atol=1e-5 * offset, rtol=1e-5)
        torch.testing.assert_close(gradient, whole.grad[rank::2], atol=1e-4 * offset, rtol=1e-4)
        torch.testing.assert_close(state, norm.state_dict(), atol=1e-5, rtol=1e-5)


def test_the_plugin_comes_off_again() -> None:
    norm = nn.Sequential(nn.BatchNorm2d(3))
    state = norm.state_dict()
    plugin = BatchNormSync()
    assert type(plugin.apply(norm)[0]) is SyncedBatchNorm2d
    assert type(plugin.revert(norm)[0]) is nn.BatchNorm2d
    assert norm.state_dict().keys() == state.keys()

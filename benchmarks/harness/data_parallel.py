"""A training step in several processes on this machine, each on one core, with and without what they exchange."""

import os
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from harness.plain_loop import built, composed, stepper, training_batches
from harness.timing import Times, alternate
from stnrot.runs.processes.sync_batch_norm import BatchNormSync

EVERYTHING, GRADIENTS, NOTHING = "everything", "gradients", "nothing"  # what the processes exchange


def step_times(overrides: list[str], processes: int, rounds: int, calls: int) -> Times:
    """Return the seconds of a training step in the first process, by what is exchanged.

    The processes wait for one another before each call, also where they exchange nothing.
    """
    with TemporaryDirectory() as name:
        arguments = (processes, overrides, rounds, calls, Path(name))
        multiprocessing.spawn(_work, arguments, nprocs=processes)
        found: Times = torch.load(Path(name, "times.pt"))
    return found


def exchanged(overrides: list[str]) -> tuple[int, int]:
    """Return the bytes of the gradients of a model, and the number of its synchronised layers of batch norm."""
    _, cfg = composed(*overrides)
    task = built(cfg, "cpu")
    layers = sum(type(module) is nn.BatchNorm2d for module in task.modules())
    return sum(p.numel() * p.element_size() for p in task.parameters() if p.requires_grad), layers


def _work(rank: int, processes: int, overrides: list[str], rounds: int, calls: int, folder: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=processes)
    data, cfg = composed(*overrides)
    task = built(cfg, "cpu")
    parallel = DistributedDataParallel(task)
    step = stepper(task, task.configure_optimizers(), "cpu", False, cfg.trainer.gradient_clip_val, parallel)
    batches = training_batches(data, "cpu")
    batch = [next(batches) for _ in range(rank + 1)][-1]  # another one in each process
    sync = BatchNormSync()

    def exchanging(norms: bool, gradients: bool) -> None:
        (sync.apply if norms else sync.revert)(task)
        with nullcontext() if gradients else parallel.no_sync():
            step(batch)
        dist.barrier()

    methods = {
        EVERYTHING: lambda: exchanging(norms=True, gradients=True),
        GRADIENTS: lambda: exchanging(norms=False, gradients=True),
        NOTHING: lambda: exchanging(norms=False, gradients=False),
    }
    times = alternate(methods, rounds, lead_in=1, calls=calls, device="cpu")
    if rank == 0:
        torch.save(times, folder / "times.pt")
    dist.destroy_process_group()

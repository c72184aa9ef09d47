"""Train a model that is too large for one device: each process keeps a share of the weights and of their state."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

LEAST = 1_000_000  # parameters of a block that is gathered alone


class ShardingStrategy(ModelParallelStrategy):
    """Shard the weights, the gradients and the state of the optimizer over all processes (FSDP).

    A process gathers the weights of a block just before the block computes, and afterwards keeps only its own share.
    The blocks of a network, which are the parts of `nn.Sequential` and `nn.ModuleList`, are gathered one by one if they
    have at least a million parameters. All that is left is gathered together, and kept until its gradients are there. A
    checkpoint is one file with all weights, as that of any other strategy; the first process holds them in memory while
    it writes.

    Method: Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, 2023; here by
    `torch.distributed.fsdp.fully_shard`. It takes no scalars: they have one dimension while the model is sharded.
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)
        self._scalars: set[str] = set()  # names of weights

    def setup_environment(self) -> None:
        """Let all processes share one model."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: Any) -> None:
        """Synchronise batch norm in training, as `ddp` does; Lightning leaves it out here."""
        assert self.model is not None
        if trainer.state.fn == TrainerFn.FITTING and self._layer_sync is not None:
            self.model = self._layer_sync.apply(self.model)
        super().setup(trainer)

    def shard(self, task: Any) -> None:
        """Shard the model of a task, unless it is sharded."""
        if isinstance(task.model, FSDPModule):
            return
        task.to(memory_format=torch.contiguous_format)  # fully_shard takes no other
        self._scalars = {name for name, weight in task.named_parameters() if weight.ndim == 0}
        for module in task.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                if weight.ndim == 0:
                    setattr(module, name, nn.Parameter(weight.detach()[None], weight.requires_grad))
        for module in [*large_blocks(task.model, LEAST), task.model]:
            fully_shard(module, mesh=self.device_mesh["data_parallel"])

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return all weights in the first process, nothing in the others."""
        found = super().lightning_module_state_dict()
        return {name: value.reshape(()) if name in self._scalars else value for name, value in found.items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return what `optimizer.state_dict()` of the whole model is in the first process, nothing in the others."""
        assert self.model is not None
        plain = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found: dict[str, Any] = get_optimizer_state_dict(self.model, plain, options=options)
        if self.global_rank > 0:
            return {}
        names = [name for group in found["param_groups"] for name in group["params"]]
        number = {name: k for k, name in enumerate(names)}
        groups = [{**group, "params": [number[name] for name in group["params"]]} for group in found["param_groups"]]
        state = {number[name]: self._with(name, values, ()) for name, values in found["state"].items()}
        return {"state": state, "param_groups": groups}

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Let Lightning call `load_optimizer_state_dict`, after the schedule was planned."""
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint of any strategy; each process keeps its share."""
        assert self.model is not None
        checkpoint: dict[str, Any] = torch.load(checkpoint_path, "cpu", weights_only=weights_only, mmap=True)
        weights = checkpoint.pop("state_dict")
        weights = {name: value[None] if name in self._scalars else value for name, value in weights.items()}
        set_model_state_dict(self.model, weights, options=StateDictOptions(full_state_dict=True))
        return checkpoint

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load what `optimizer_state` has returned; each process keeps its share."""
        assert self.model is not None
        whole = StateDictOptions(full_state_dict=True)
        name_of = {weight: name for name, weight in self.model.named_parameters()}
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            if not saved["state"]:
                continue  # SGD without momentum; torch cannot load it
            names = [name_of[weight] for group in optimizer.param_groups for weight in group["params"]]
            groups = [{**group, "params": [names[k] for k in group["params"]]} for group in saved["param_groups"]]
            state = {names[k]: self._with(names[k], values, (1,)) for k, values in saved["state"].items()}
            by_name: Any = {"state": state, "param_groups": groups}
            set_optimizer_state_dict(self.model, optimizer, by_name, options=whole)

    def _with(self, name: str, state: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        """Give the state of a scalar another shape; `step`, a scalar for every weight, keeps its own."""
        if name not in self._scalars:
            return state
        return {key: value if key == "step" else value.reshape(shape) for key, value in state.items()}


def large_blocks(model: nn.Module, least: int) -> Iterator[nn.Module]:
    """Yield the parts of `nn.Sequential` and `nn.ModuleList` with at least `least` parameters, inner ones first.

    What an inner one has is not counted again.
    """
    taken: set[Tensor] = set()
    inner_first = list(model.modules())[::-1]
    blocks = {part for each in inner_first if isinstance(each, nn.Sequential | nn.ModuleList) for part in each}
    for module in inner_first:
        left = set(module.parameters()) - taken
        if module in blocks and not isinstance(module, nn.ModuleList) and sum(each.numel() for each in left) >= least:
            taken |= left
            yield module

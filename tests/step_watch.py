"""What a step of a task computes: subnormal numbers and constants in the results of its operations."""

import re
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from conftest import composed
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from stnrot.data.rng import Split
from stnrot.geometry import constants


def subnormal(x: Tensor) -> int:
    """Count the numbers other than 0 that are smaller than the smallest normal number of their type."""
    parts = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    if not parts.is_floating_point() or parts.is_meta:
        return 0
    size = parts.detach().abs()
    return int(((size > 0) & (size < torch.finfo(parts.dtype).tiny)).sum())


class SubnormalWatch(TorchDispatchMode):
    """Count the subnormal numbers in the arguments and results of all operations, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        if func.is_view or re.search(r"empty|copy_\.", str(func)):  # perhaps of memory that is not written yet
            return result
        for each in tree_leaves((args, kwargs, result)):
            if isinstance(each, Tensor) and (count := subnormal(each)):
                self.found[f"{func} {list(each.shape)}"] += count
        return result


class ConstantWatch(TorchDispatchMode):
    """Collect the operations that compute a constant: a tensor that depends on sizes and options alone.

    They are the operations of `MADE`, and those of which all arguments are constants or filled with one number. A fill
    alone (such as zeros) is not collected, since it is mostly a place to write to; nor is a view, a copy, or a product
    with a number: the gradient of `addcmul` multiplies its factors by one. `arange.start_step` is that of
    `F.embedding_bag`, which numbers its bags.
    """

    MADE = re.compile(
        r"aten\.(arange\.(default|start)$|eye|linspace|logspace|tril_indices|triu_indices|lift_fresh|\w+_window)"
    )
    FILLED = re.compile(r"aten\.(new_)?(zeros|ones|full|scalar_tensor)")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.constant, self.filled = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()
        for each in tree_leaves([list(store.values()) for store in constants._kept.values()]):
            self.constant[each] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        results = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        made = self.MADE.match(str(func)) is not None
        known = any(each in self.constant for each in inputs) and all(
            each in self.constant or each in self.filled for each in inputs
        )
        if self.FILLED.match(str(func)):
            self.filled.update(dict.fromkeys(results, True))
        elif made or known:
            self.constant.update(dict.fromkeys(results, True))
            if not (func.is_view or re.search(r"clone|unsafe_view|mul\.Scalar", str(func))):
                self.found[f"{func} {[list(each.shape) for each in results]}"] += 1
        elif func._schema.is_mutable:
            for each in inputs:
                self.filled.pop(each, None)
        return result


NO_WATCH: Any = nullcontext()


class Steps:
    """A task and its data as train.py builds them, without Lightning's loop."""

    def __init__(self, *overrides: str, bf16: bool = False) -> None:
        torch.manual_seed(0)
        config = composed("train", "task.scheduler=null", "data.batch_size=8", *overrides)
        self.data: Any = instantiate(config.data, _convert_="all")
        self.data.setup("fit")
        config.data_spec = self.data.spec()
        self.task: Any = instantiate(config.task, model=instantiate(config.model, _convert_="all"))
        self.task.to(memory_format=torch.channels_last)
        self.task.log_means = lambda *args: None  # needs a Trainer
        self.optimizer: Any = self.task.build_optimizer()
        self.clip, self.bf16, self.count = config.trainer.gradient_clip_val, bf16, 0

    def autocast(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext()

    def fetch(self, split: Split) -> Callable[[], Any]:
        """Fetch a batch; return a function that makes what a task receives of it, on the device."""
        dataset = self.data.dataset(split)
        counters = torch.arange(8 * self.count, 8 * self.count + 8)
        self.count += 1
        if split is not Split.TRAIN:
            counters %= len(dataset)
        raw = dataset.__getitems__(counters)
        return lambda: self.data.view(raw, split)

    def train(self, watch: Any = NO_WATCH) -> None:
        """Take one training step, with the images of the batch and the optimizer."""
        batch = self.fetch(Split.TRAIN)
        with watch:
            with self.autocast():
                loss = self.task.train().training_step(batch(), 0)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.task.parameters(), self.clip)
            self.optimizer.step()

    def infer(self, watch: Any = NO_WATCH) -> None:
        """Measure a batch of the test set."""
        batch = self.fetch(Split.TEST)
        with watch, torch.inference_mode(), self.autocast():
            self.task.eval().measure(batch(), "test")

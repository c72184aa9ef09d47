"""Stop a run at the first step whose loss, gradient or weights are not finite, and save the batch of that step."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from stnrot.callbacks.bad_batch import sample_indices, save_batches
from stnrot.callbacks.half_precision import overflow_is_allowed, underflow
from stnrot.errors import InputError, check_number

log = logging.getLogger(__name__)
NAMES = ("the loss", "the norm of the gradient", "the norm of the weights")
MOST_SHOWN = 20  # indices of samples in a message
UNDERFLOW_EVERY = 100  # steps


class Step(NamedTuple):
    """An optimizer step, and its three norms on their way from the device."""

    number: int  # from 1
    epoch: int
    rates: list[Any]
    batches: list[Any]
    norms: Tensor
    arrived: Any  # an event; None on a CPU


class FiniteNumbers(L.Callback):
    """Check loss, gradient and weights in every step, and the validation loss before a checkpoint is written.

    Three norms are computed on the device: of the loss and the gradient before the step, of the weights after it. On a
    GPU they are copied while it computes, and read one step later: no step waits for the device. The error names the
    step that they belong to, and no checkpoint is written before they are read.

    With `skip`, the gradient of a bad step is dropped before the optimizer takes it. Weights, the optimizer's state and
    the statistics of batch norm stay as they were. Each step then waits for the device.

    Gradients of `trainer.precision=16-mixed` may overflow: its loss scale falls, and the step is left out. It is an
    error if they do at a loss scale below 1.

    Args:
        folder: receives the batch, `bad_batch_step_12.pt`, which `torch.load` reads; None: it is not saved.
        skip: how many steps with a bad loss or gradient are left out, over the whole run, before one is an error.
    """

    def __init__(self, folder: str | None, skip: int) -> None:
        check_number("skip", skip, 0)
        self.folder, self.skip = None if folder is None else Path(folder), skip
        self.skipped = 0
        self._batches: list[Any] = []  # since the last step: one, or trainer.accumulate_grad_batches
        self._losses: list[Tensor] = []
        self._buffers: list[Tensor] = []
        self._norms: tuple[Tensor, Tensor] | None = None  # of loss and gradient
        self._rates: list[Any] = []
        self._unread: Step | None = None
        self._said = False

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps were left out; a resumed run counts on."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue to count the steps that are left out."""
        self.skipped = state_dict.get("skipped", 0)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch and, to skip a step, the statistics of batch norm before it."""
        if self.skip and not self._batches:
            self._buffers = [each.detach().clone() for each in pl_module.buffers()]
        self._batches.append(batch)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Keep the loss."""
        self._losses.append(loss.detach())

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Compute the norms of loss and gradient; leave the step out if it is bad and may be skipped."""
        gradients = [each.grad for each in _weights(optimizer) if each.grad is not None]
        loss = get_total_norm(self._losses).float()
        self._norms = loss, _norm(gradients).to(loss)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._losses = []
        if not self._said and trainer.global_step % UNDERFLOW_EVERY == 0 and (text := underflow(trainer)):
            self._said = True
            log.warning(text)
        if self.skip and self._may_skip(trainer):
            optimizer.zero_grad(set_to_none=True)
            for buffer, kept in zip(pl_module.buffers(), self._buffers, strict=True):
                buffer.copy_(kept)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the norm of the weights after the step, and read the three numbers."""
        if self._norms is None:
            return  # gradients are accumulated
        norms = torch.stack([*self._norms, _norm(_weights(trainer.optimizers[0])).to(self._norms[0])])
        self.read(trainer)
        arrived = None
        if norms.is_cuda:
            there, norms = norms, torch.empty(norms.shape, pin_memory=True)
            norms.copy_(there, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._unread = Step(trainer.global_step, trainer.current_epoch, self._rates, self._batches, norms, arrived)
        self._batches, self._norms = [], None
        if arrived is None:
            self.read(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the numbers of the last step."""
        self.read(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the loss of the validation set."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not torch.isfinite(loss):
            raise InputError(
                f"the loss of the validation set is {loss.item()} in epoch {trainer.current_epoch}, after step "
                f"{trainer.global_step}: expected a finite number; lower task.optimizer.lr. Earlier checkpoints are "
                "kept"
            )

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the numbers of the last step before its weights are saved."""
        self.read(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the numbers of the last step."""
        self.read(trainer)

    def read(self, trainer: L.Trainer) -> None:
        """Read the numbers of a step that are not read yet.

        Raises:
            InputError: if one is not finite. The batch of the step is saved.
        """
        step, self._unread = self._unread, None
        if step is None:
            return
        if step.arrived is not None:
            step.arrived.synchronize()
        loss, gradient, weights = step.norms.isfinite().tolist()
        if not (loss and weights and (gradient or overflow_is_allowed(trainer))):
            raise InputError(
                f"{self._described(trainer, step)}; look at these samples, or lower task.optimizer.lr. Earlier "
                "checkpoints are kept"
            )

    def _may_skip(self, trainer: L.Trainer) -> bool:
        assert self._norms is not None
        loss, gradient = torch.stack(self._norms).isfinite().tolist()
        bad = not (loss and (gradient or overflow_is_allowed(trainer)))
        if trainer.world_size > 1:  # all processes have to leave out the same steps
            bad = trainer.strategy.reduce_boolean_decision(bad, all=False)
        if not bad or self.skipped == self.skip:
            return False
        self.skipped += 1
        norms = torch.stack([*self._norms, self._norms[0].new_zeros(())])
        step = Step(trainer.global_step + 1, trainer.current_epoch, self._rates, self._batches, norms, None)
        log.warning("%s: left out, %d of %d", self._described(trainer, step), self.skipped, self.skip)
        self._norms = torch.zeros_like(self._norms[0]), torch.zeros_like(self._norms[1])
        return True

    def _described(self, trainer: L.Trainer, step: Step) -> str:
        """Return what is not finite in a step, with its samples; save its batches."""
        bad = [f"{name} is {norm}" for name, norm in zip(NAMES, step.norms.tolist(), strict=True) if norm - norm != 0]
        index = sample_indices(step.batches)
        shown = ", ".join(map(str, index[:MOST_SHOWN]))
        shown += f" and {len(index) - MOST_SHOWN} more" if len(index) > MOST_SHOWN else ""
        rates = " and ".join(f"{float(rate):g}" for rate in step.rates)
        return (
            f"{', '.join(bad)} in epoch {step.epoch}, step {step.number}, at the learning rate {rates}, with the "
            f"samples {shown or 'of a set without indices'}{self._saved(trainer, step, index)}"
        )

    def _saved(self, trainer: L.Trainer, step: Step, index: list[int]) -> str:
        if self.folder is None:
            return ""
        rank = f"_rank_{trainer.global_rank}" if trainer.global_rank else ""
        path = self.folder / f"bad_batch_step_{step.number}{rank}.pt"
        facts = {"step": step.number, "epoch": step.epoch, "learning_rate": [float(rate) for rate in step.rates]}
        norms = dict(zip(("loss", "gradient_norm", "weight_norm"), step.norms.tolist(), strict=True))
        try:
            save_batches(path, facts | norms | {"index": index}, step.batches)
        except (OSError, RuntimeError) as error:
            return f" (the batch could not be saved: {error})"
        return f" (saved in {path})"


def _norm(tensors: list[Tensor]) -> Tensor:
    """Return the norm of all values, over all processes if each has a share of them."""
    norm: Any = get_total_norm(tensors)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of a DTensor


def _weights(optimizer: Any) -> list[Tensor]:
    return [each for group in optimizer.param_groups for each in group["params"]]

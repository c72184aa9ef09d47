"""Where a training stands, so that it can be resumed at any step.

Lightning saves the counters of its loops. Resumed from the middle of an epoch, it still loses three things: the
validation and the log rows that were due after the step, the metrics of the epoch so far, and the random numbers. So a
checkpoint is taken at one of three places where nothing is under way, and has this state beside Lightning's own:

- `epoch`: before the first batch of an epoch, or after the last epoch;
- `batch`: between two batches, both of the same epoch;
- `validation`: all batches up to a validation are done, and the validation is not.
"""

import random
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor
from torchmetrics import Metric

Place = Literal["epoch", "batch", "validation"]
KEY = "stands_at"  # of a checkpoint, beside the keys of Lightning
MEMORIES = ("_callback_metrics", "_logged_metrics", "_progress_bar_metrics")  # the newest value of each metric


def own_state(trainer: L.Trainer) -> dict[str, Any]:
    """Return the state of this process that Lightning does not save, as plain values and tensors on the CPU."""
    connector = trainer._logger_connector
    return {
        "random": _random_state(),
        "metrics": _metric_states(trainer.lightning_module),
        "means": _epoch_means(trainer.fit_loop.epoch_loop._results),
        "newest": {name: _on_cpu(dict(getattr(connector, name))) for name in MEMORIES},
        "logged_steps": trainer.fit_loop.epoch_loop._batches_that_stepped,
    }


def counters_at_rest(loops: dict[str, Any], place: Place) -> None:
    """Write counters with which Lightning resumes at `place`, and neither repeats nor leaves out anything.

    Args:
        loops: the counters of the fit loop, from a checkpoint; they are changed.
    """
    batches, optimizer = loops["epoch_loop.batch_progress"], loops["epoch_loop.automatic_optimization.optim_progress"]
    if place == "epoch":
        for counter in loops["epoch_progress"].values():
            counter.update(dict.fromkeys(("ready", "started", "processed"), counter["completed"]))
        for progress in (batches, loops["epoch_loop.scheduler_progress"], *optimizer["optimizer"].values()):
            progress["current"] = dict.fromkeys(progress["current"], 0)
        batches["is_last_batch"] = False
    elif place == "batch":  # the next batch is fetched already, so it counts as ready
        for counter in (batches["total"], batches["current"]):
            counter["ready"] = counter["completed"]
        batches["is_last_batch"] = False
    else:  # Lightning validates first if a validation has begun and not ended
        validation = loops["epoch_loop.val_loop.batch_progress"]
        validation["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        validation["current"] = dict.fromkeys(validation["current"], 0)
        validation["is_last_batch"] = False


def restore_metrics(trainer: L.Trainer, state: Mapping[str, Any], place: Place) -> None:
    """Restore the metrics of the epoch so far; called when the training starts, because Lightning clears them before.

    Args:
        state: as `own_state` has returned it.

    Raises:
        Exception: of almost any kind, if it has another form.
    """
    task, connector = trainer.lightning_module, trainer._logger_connector
    device = trainer.strategy.root_device
    for name in MEMORIES:
        values = dict(state["newest"][name])
        if not all(isinstance(each, Tensor | int | float) for each in values.values()):
            raise TypeError(f"a metric that is no number in {name}")
        setattr(connector, name, move_data_to_device(values, device))
    if place == "epoch":
        return
    known = {name: each for name, each in task.named_modules() if isinstance(each, Metric)}
    for name, values in state["metrics"].items():
        if name in known:
            for key, value in values["values"].items():
                _check_form(value, known[name]._defaults[key], f"{name}.{key}")
                setattr(known[name], key, move_data_to_device(value, device))
            known[name]._update_count = int(values["updates"])
            known[name]._computed = None
    results = trainer.fit_loop.epoch_loop._results
    for each in state["means"]:
        metric = known.get(each["metric"] or "")
        value = torch.zeros((), device=device) if metric is None else metric
        results.log(value=value, sync_dist_fn=trainer.strategy.reduce, batch_size=1, **each["log"])
        entry = results[each["key"]]
        for name in ("value", "cumulated_batch_size"):
            if name in each:
                _check_form(each[name], getattr(entry, name), each["key"])
                setattr(entry, name, each[name].to(device))
        entry._forward_cache = None
    connector._first_loop_iter = False  # else the next value would replace the sum so far


def restore_position(trainer: L.Trainer, state: Mapping[str, Any]) -> None:
    """Restore the random numbers and the step of the logs; called right where the checkpoint was taken.

    Lightning counts the step of the logs up when it skips a validation that is done.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = int(state["logged_steps"])
    saved = state["random"]
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] and torch.cuda.is_available() and len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(saved["cuda"])
    algorithm, keys, *rest = saved["numpy"]
    np.random.set_state((algorithm, keys.numpy().view(np.uint32), *rest))  # noqa: NPY002  # a callback or network may draw from it
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))


def _check_form(value: Any, fresh: Any, name: str) -> None:
    if isinstance(fresh, list):
        same = isinstance(value, list) and all(isinstance(each, Tensor) for each in value)
    else:
        same = isinstance(value, Tensor) and value.shape == fresh.shape
    if not same:
        raise TypeError(f"the metric {name} has another form")


def _random_state() -> dict[str, Any]:
    algorithm, keys, *rest = np.random.get_state()  # noqa: NPY002
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [algorithm, torch.from_numpy(np.array(keys).view(np.int32)), *rest],
        "python": [version, list(internal), gauss],
    }


def _metric_states(task: L.LightningModule) -> dict[str, Any]:
    """Return the states of the metrics of torchmetrics that hold anything, by the name of the module."""
    return {
        name: {
            "updates": each._update_count,
            "values": {key: _on_cpu(getattr(each, key)) for key in each._defaults},
        }
        for name, each in task.named_modules()
        if isinstance(each, Metric) and each._update_count
    }


def _epoch_means(results: Any) -> list[dict[str, Any]]:
    """Return what `log` has collected in this epoch, with the arguments that create its entry again."""
    found = []
    for key, entry in results.items():
        if entry.has_reset:
            continue
        meta = entry.meta
        each: dict[str, Any] = {
            "key": key,
            "metric": None if entry.is_tensor else meta.metric_attribute,
            "log": {
                "fx": meta.fx,
                "name": meta.name,
                "prog_bar": meta.prog_bar,
                "logger": meta.logger,
                "on_step": meta.on_step,
                "on_epoch": meta.on_epoch,
                "reduce_fx": meta.reduce_fx.__name__,
                "sync_dist": meta.sync.should,
                "add_dataloader_idx": meta.add_dataloader_idx,
                "metric_attribute": meta.metric_attribute,
                "rank_zero_only": meta.sync.rank_zero_only,
            },
        }
        if entry.is_tensor:
            names = ("value", "cumulated_batch_size") if meta.is_mean_reduction else ("value",)
            each |= {name: _on_cpu(getattr(entry, name)) for name in names}
        found.append(each)
    return found


def _on_cpu(value: Any) -> Any:
    """Return a copy: torchmetrics adds in place."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(each) for key, each in value.items()}
    return [_on_cpu(each) for each in value] if isinstance(value, list) else value

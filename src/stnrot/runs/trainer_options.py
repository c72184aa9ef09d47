"""Check the options of Lightning's Trainer: each works in a job, or is refused in one line."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import lightning as L
from omegaconf import DictConfig, OmegaConf

from stnrot.errors import InputError, check_number

SYNC = "stnrot.runs.processes.sync_batch_norm.BatchNormSync"
SET_ELSEWHERE = {
    "logger": "the group `logger` sets it; to switch logging off, give logger=null",
    "callbacks": "the group `callbacks` sets it; to switch all off, give callbacks=null",
    "model_registry": "expected null, because checkpoints stay in the folder of the run",
}
LOWEST = {"accumulate_grad_batches": 1, "num_nodes": 1, "min_epochs": 0, "min_steps": 0}
LOWEST |= {"check_val_every_n_epoch": 1, "log_every_n_steps": 0, "num_sanity_val_steps": -1}
NOT_ZERO = {
    "max_steps": "at least 1; -1 sets no limit",
    "limit_train_batches": "at least one batch; to test a checkpoint, use evaluate.py",
    "val_check_interval": "more than 0; to train without validation, set trainer.limit_val_batches=0",
}
DDP = ("ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
STRATEGIES = ("auto", *DDP, "fsdp", "single_device")
PLAIN = (bool, int, float, str, NoneType)
WORDS = {NoneType: "null", str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def check_trainer(section: DictConfig) -> None:
    """Raise InputError if an option of the trainer has a bad value, or one that the jobs of this project cannot use.

    Args:
        section: the section `trainer` of a configuration. Options that Lightning refuses with a clear message, such as
            an unknown accelerator, are left to Lightning.
    """
    given: dict[str, Any] = OmegaConf.to_container(section, resolve=True)  # type: ignore[assignment]
    hints = get_type_hints(L.Trainer.__init__)
    for name, value in given.items():
        if value is not None and name in SET_ELSEWHERE:
            raise InputError(f"trainer.{name}={value}: {SET_ELSEWHERE[name]}")
        if name in hints and name not in SET_ELSEWHERE and (name, value) != ("precision", "auto"):
            if not _fits(value, hints[name]):
                raise InputError(f"trainer.{name}={value}: expected {_described(hints[name])}")
            if name in LOWEST and value is not None:
                check_number(f"trainer.{name}", value, LOWEST[name])
            if name in NOT_ZERO and value == 0:
                raise InputError(f"trainer.{name}={value}: expected {NOT_ZERO[name]}")
    _check_duration(given)
    _check_strategy(given)
    if given.get("precision") == "16-true":
        raise InputError("trainer.precision=16-true: AdamW divides by zero in it, expected 16-mixed or bf16-true")
    if given.get("barebones"):
        raise InputError(
            "trainer.barebones=True: expected false, because a job without metrics has no results; for a fast job give "
            "logger=null callbacks=null"
        )
    if given.get("use_distributed_sampler"):
        raise InputError(
            "trainer.use_distributed_sampler=True: expected false, because the data splits each batch among the "
            "processes"
        )
    if given.get("sync_batchnorm") and any(each.get("_target_") == SYNC for each in given.get("plugins") or []):
        raise InputError(
            "trainer.sync_batchnorm=True: expected false, because trainer.plugins computes batch norm over all "
            "processes already"
        )


def _check_duration(given: dict[str, Any]) -> None:
    """Raise InputError if a run would never end."""
    epochs = given.get("max_epochs")
    limited = given.get("max_steps", -1) != -1 or given.get("max_time") is not None
    if epochs != -1 and epochs is not None:
        check_number("trainer.max_epochs", epochs, 1)
    elif not limited:
        raise InputError(
            f"trainer.max_epochs={epochs}: expected a whole number of at least 1, or a limit of trainer.max_steps or "
            "trainer.max_time"
        )


def _check_strategy(given: dict[str, Any]) -> None:
    """Raise InputError for a strategy of Lightning that does not run `train` in each of its processes."""
    strategy = given.get("strategy", "auto")
    if isinstance(strategy, str) and strategy.startswith(("fsdp_", "deepspeed", "ddp_")) and strategy not in STRATEGIES:
        raise InputError(f"trainer.strategy={strategy}: expected one of {', '.join(STRATEGIES)}")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value has the type of an annotation. `_target_` builds any object."""
    if isinstance(value, dict) and "_target_" in value:
        return True
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if kind is Literal:
        return any(type(value) is type(each) and value == each for each in get_args(hint))
    if kind is float:
        return type(value) in (int, float)
    if isinstance(value, list) and kind is list:
        return all(_fits(each, get_args(hint)[0]) for each in value)
    if isinstance(value, dict) and kind is dict:
        return all(_fits(each, get_args(hint)[1]) for each in value.values())
    return kind in PLAIN and type(value) is kind


def _described(hint: Any) -> str:
    """Return the values of an annotation in words, without those that the command line cannot give."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words += map(str, get_args(kind))
        elif get_origin(kind) in (list, dict):
            words.append("a list" if get_origin(kind) is list else "a dict such as {minutes: 30}")
        elif kind in WORDS:
            words.append(WORDS[kind])
    return " or ".join(dict.fromkeys(words)) or "an object, built with _target_"

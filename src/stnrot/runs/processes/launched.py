"""How the processes of a job were started: by srun, by torchrun, by hand on each machine, or by the first of them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stnrot.errors import InputError


@dataclass(frozen=True)
class Launched:
    """One of the processes of a job that something else has started.

    Args:
        by: what has started it.
        rank: its number.
        count: number of processes that were started; by hand, one on each machine, which starts the others.
    """

    by: str
    rank: int
    count: int


def launched(trainer: Mapping[str, Any], beside_others: bool = False) -> Launched | None:
    """Return how this process was started, None if it is the only one or was started by the first process.

    Args:
        trainer: the section `trainer` of a configuration.
        beside_others: a job of one process may run beside others, which have jobs of their own, such as the trials of a
            search that is started several times.

    Raises:
        InputError: if the number of processes is not that of the section.
    """
    environment = os.environ
    machines, devices = _whole(trainer.get("num_nodes", 1)) or 1, _whole(trainer.get("devices"))
    if beside_others and devices == machines == 1:
        return None
    if "TORCHELASTIC_RUN_ID" in environment:
        found = Launched("torchrun", _number("RANK"), _number("WORLD_SIZE"))
    elif "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        found = Launched("srun", _number("SLURM_PROCID"), _number("SLURM_NTASKS"))
        if found.count > 1 and "SLURM_STEP_ID" not in environment:
            raise InputError(
                f"SLURM has reserved {found.count} tasks and started one process: start the command with srun in front "
                "of it"
            )
        if found.count > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
            raise InputError(
                f"srun has started {found.count} tasks: expected the option --ntasks-per-node beside it, or in the "
                "place of --ntasks"
            )
    elif machines > 1 and "LOCAL_RANK" not in environment:
        if not {"MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
            raise InputError(
                f"trainer.num_nodes={machines}: no launcher has started this process, and it would wait for the "
                "other machines; start the job on each machine with srun or torchrun"
            )
        if (node := _number("NODE_RANK")) >= machines:
            raise InputError(
                f"NODE_RANK={node} trainer.num_nodes={machines}: expected another number on each machine, from 0 to "
                f"{machines - 1}"
            )
        return Launched("by hand", node, machines)
    else:
        return None
    if devices is not None and devices * machines != found.count:
        raise InputError(
            f"{found.by} has started {found.count} {'process' if found.count == 1 else 'processes'}, and "
            f"trainer.devices={trainer.get('devices')} trainer.num_nodes={machines} asks for {devices * machines}: "
            "expected one process for each device of each machine"
        )
    return found


def _number(name: str) -> int:
    """Return the number in a variable of the environment; 0 if there is none."""
    text = os.environ.get(name, "0")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InputError(
            f"the environment has {name}={text}: expected a whole number, as srun or torchrun sets it; unset it, or "
            "start the job with one of them"
        )
    return int(text)


def _whole(value: Any) -> int | None:
    """Return the number of devices of an option, None if only Lightning knows it."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    if isinstance(value, bool) or value in (None, "auto", -1, "-1"):
        return None
    if isinstance(value, int):
        return value
    return len(value) if not isinstance(value, str) and hasattr(value, "__len__") else None

"""A Hydra callback: end a multirun with a table of its jobs."""

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class MultirunTable(Callback):
    """Read what each job left in its folder and print one line a job."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Jobs without metrics.json did not finish, and say so."""
        from rich.console import Console
        from rich.table import Table

        folder = Path(config.hydra.sweep.dir)
        jobs = sorted(
            (path for path in folder.iterdir() if (path / ".hydra" / "overrides.yaml").is_file()),
            key=lambda path: (len(path.name), path.name),
        )
        metrics = [
            json.loads((job / "metrics.json").read_text()) if (job / "metrics.json").is_file() else {} for job in jobs
        ]
        names = list(dict.fromkeys(name for found in metrics for name in found))
        table = Table(title=str(folder))
        table.add_column("job", overflow="fold")
        for name in names:
            table.add_column(name.removeprefix("test/"), justify="right", overflow="fold")
        options: list[Any] = [list(OmegaConf.load(job / ".hydra" / "overrides.yaml")) for job in jobs]
        shared = set.intersection(*map(set, options)) if len(jobs) > 1 else set()
        for own, found in zip(options, metrics, strict=True):
            label = " ".join(option for option in own if option not in shared)
            values = [f"{found[name]:.4f}" if name in found else "" for name in names]
            table.add_row(label + ("" if found else " (did not finish)"), *values)
        Console().print(table)

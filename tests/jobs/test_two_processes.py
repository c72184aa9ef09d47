"""trainer=ddp: two processes are one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NO_FIGURES, SMALL, command, metrics_of

Job = Callable[..., tuple[float, Path]]


@pytest.mark.ci
def test_two_processes_end_with_the_metrics_of_one(job: Job, tmp_path: Path) -> None:
    """Dropout is off, because each process draws its own. The weights have 64 bits, because training amplifies rounding
    errors. The encoder is polar: max pooling would decide ties by rounding errors."""
    options = [
        "data=image_pairs",
        "task=register",
        "model.encoder.dropout=0",
        "trainer.precision=64-true",
        "data.n_train=200",
        "data.repeats=1",
        "trainer.max_epochs=2",
        "data.batch_size=50",
    ]
    job(*options, NO_FIGURES, folder=tmp_path / "one")
    two = command("train.py", *SMALL, *options, "trainer=ddp", "hydra.run.dir=two", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    expected, found = metrics_of(tmp_path / "one"), metrics_of(tmp_path / "two")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=2e-3), name
    tables = [(tmp_path / run / "predictions.csv").read_text().splitlines() for run in ("one", "two")]
    assert len(tables[0]) == len(tables[1]) == 501
    assert [row.split(",")[:2] for row in tables[0]] == [row.split(",")[:2] for row in tables[1]]

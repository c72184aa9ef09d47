"""The results of the photographs benchmark add up over seeds that were measured on different machines."""

from pathlib import Path

import pytest

from harness.json_lines import append_line
from harness.photograph_runs import Result, facts_of, known_results, mean_curves, result_of_seed, tables

BUDGET = {"pictures": 100, "epochs": 10}
SCORES = ("upright", "any angle", "below the network", "within 45", "within 5", "median", "turned wrongly", "left")


def line(seed: int, methods: dict[str, float], gpu: str | None = None) -> Result:
    scores = {
        name: dict.fromkeys(SCORES, value) | {"min_confidence": None, "parameters": 10.0, "core-minutes": 7.0 + seed}
        for name, value in methods.items()
    }
    curves = {name: [value, value + 4] for name, value in methods.items()}
    found = result_of_seed(seed, BUDGET, [*methods], "cpu", scores, curves, dict.fromkeys(methods, 1.0))
    return found | {"environment": found["environment"] | ({"gpu": gpu} if gpu else {})}


def test_seeds_add_up(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append_line(path, line(0, {"network": 80.0, "Upright": 70.0}, gpu="a GPU"))
    append_line(path, line(1, {"network": 82.0}))
    append_line(path, line(1, {"network": 84.0, "Upright": 76.0, "cnn": 50.0}))
    known = known_results(path, BUDGET, ["network", "Upright"])
    assert [known[seed]["scores"]["network"]["upright"] for seed in (0, 1)] == [80.0, 84.0]
    assert [*known_results(path, BUDGET, ["cnn"])] == [1]
    assert not known_results(path, BUDGET | {"epochs": 1}, [])
    results = [known[0], known[1]]
    first, second = tables(results)
    network, upright = first.rows
    assert (network["method"], upright["method"]) == ("network", "Upright")
    assert upright["any angle, %"] == "73.0 +- 4.2 (70.0, 76.0)"
    assert (upright["core-minutes"], upright["min_confidence"], upright["parameters"]) == ("7, 8", None, "10")
    assert [row["degrees"] for row in second.rows] == [0, 180]
    assert mean_curves(results)["Upright"] == [73.0, 77.0]
    assert facts_of(results)["gpu"] == facts_of(results[::-1])["gpu"] == "a GPU"
    for wrong in ('{"seed": 0}', "3"):
        path.write_text(wrong)
        with pytest.raises(SystemExit, match="line 1: expected the result of a run"):
            known_results(path, BUDGET, [])

"""The tables and the facts that every benchmark reports."""

import subprocess

import pytest

from harness.environment import environment, processor
from harness.report import markdown
from harness.timing import alternate, speedup


def test_numbers_with_a_fraction_have_three_digits() -> None:
    rows = [{"a": "x", "b": 12, "c": 0.12345}, {"a": "", "b": None, "c": 1234.5}]
    assert markdown(rows) == "| a | b | c |\n| --- | --- | --- |\n| x | 12 | 0.123 |\n|  |  | 1234 |"


def test_the_processor_is_named_by_lscpu_or_else_by_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def lscpu(output: str) -> None:
        done = subprocess.CompletedProcess([], 0, stdout=output)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    lscpu("Architecture: aarch64\nModel name:          Neoverse N1\nBIOS Model name: other\n")
    assert processor() == "Neoverse N1"
    lscpu("Model name:\nArchitecture: x86_64\n")
    assert processor() not in ("", "Architecture: x86_64")

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("lscpu")

    monkeypatch.setattr(subprocess, "run", missing)
    assert environment("cpu").keys() == {"torch", "threads", "cpu"}
    assert processor()


def test_methods_alternate_and_the_first_round_is_discarded() -> None:
    calls: list[str] = []
    methods = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = alternate(methods, rounds=2, lead_in=1, calls=2, device="cpu")
    assert calls == ["a"] * 3 + ["b"] * 3 + ["a"] * 3 + ["b"] * 3 + ["a"] * 3 + ["b"] * 3
    assert [len(each) for each in times.values()] == [2, 2]


def test_a_speedup_is_the_median_of_the_ratios_of_the_rounds() -> None:
    assert speedup({"ours": [1.0, 2.0, 4.0], "other": [3.0, 2.0, 40.0]}, "ours", "other") == 3

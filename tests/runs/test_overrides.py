"""Overrides that are printed are read back by a shell and by Hydra as they are meant."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from stnrot.runs.overrides import as_override

AWKWARD = [
    *("a b", "a,b", "x=y", "[a]", "{a: 1}", "it's", 'a"b', "a\\b", "a\\", "a\\'b", "${x}", "\\${x}", "$HOME", "$(ls)"),
    *(
        "é",
        "true",
        "1",
        "1e3",
        "null",
        "",
        " a",
        "a ",
        "a:b",
        "(x)",
        "~/x",
        "#x",
        "a#b",
        "*",
        "choice(a,b)",
        "\t",
        "'a'",
    ),
    "-x",
]


def read_by_hydra(line: str) -> object:
    override = OverridesParser.create().parse_override(line)
    assert not override.is_sweep_override()
    return OmegaConf.create({"value": override.value()})["value"]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=12))
@example("a\\\\${x}'")
def test_hydra_reads_any_text_back(text: str) -> None:
    assert read_by_hydra(as_override("data.root", text)) == text


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts(text: str) -> None:
    assert read_by_hydra(as_override("data.root", text)) == text


@pytest.mark.parametrize("value", [3, 0.1, 1e-5, True, False, None, [1, 2]])
def test_values_that_are_no_text(value: object) -> None:
    assert read_by_hydra(as_override("key", value)) == value


def test_plain_text_gets_no_quotes() -> None:
    assert as_override("model/encoder", "polar") == "model/encoder=polar"
    assert as_override("ckpt_path", Path("/runs/1-2_3/last.ckpt")) == "ckpt_path=/runs/1-2_3/last.ckpt"


def test_a_shell_passes_them_on() -> None:
    words = [as_override("key", text) for text in AWKWARD]
    line = f"printf '%s\\0' {shlex.join(words)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == words

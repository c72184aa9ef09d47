"""The path of an option and the path of the module that it builds predict each other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hydra.utils import get_object

CONFIGS = ROOT / "configs"
ROOMS = {
    "data": "stnrot.data",
    "data/augment": "stnrot.geometry",
    "data/degrade": "stnrot.data",
    "data/source": "stnrot.data.sources",
    "model": "stnrot.models",
    "model/augment": "stnrot.geometry",
    "model/classifier": "stnrot.models.classifiers",
    "model/encoder": "stnrot.models.encoders",
    "task": "stnrot.tasks",
}
IN_ANOTHER_ROOM = {"model/conjugate": "stnrot.layers.conjugate"}  # a layer for any network, and a model by itself
OPTIONS = [
    path
    for group in ROOMS
    for path in sorted((CONFIGS / group).glob("*.yaml"))
    if not path.stem.startswith("_")  # shared by options, no option itself
]


def option(path: Path) -> str:
    """Return the name of an option as on the command line, such as `data/source/digits`."""
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the place in the composed configuration and the `_target_` of every object of this project."""
    if isinstance(node, dict):
        if str(node.get("_target_")).startswith("stnrot."):
            yield key, node["_target_"]
        for name, child in node.items():
            yield from targets(child, f"{key}.{name}".lstrip("."))


def read(path: Path) -> tuple[str, list[tuple[str, str]], dict[str, Any]]:
    """Return the first line of a file that is not its package, its targets with their places, and its content."""
    lines = path.read_text().splitlines()
    package = option(path).rpartition("/")[0].replace("/", ".")
    if lines[0].startswith("# @package "):
        package = lines.pop(0).removeprefix("# @package ").replace("_global_", "")
    content = yaml.safe_load(path.read_text())
    return lines[0], list(targets(content, package)), content


@pytest.mark.parametrize("path", OPTIONS, ids=option)
def test_an_option_is_in_the_room_of_its_group(path: Path) -> None:
    group, _, name = option(path).rpartition("/")
    first, found, content = read(path)
    module = dict(found).get(group.replace("/", "."), "").rpartition(".")[0]
    words = first.removeprefix("# ").replace(":", " ").split()
    if words[:2] == ["preset", "of"]:  # builds what another option builds
        assert not module
        defaults = content["defaults"]
        bases = [each.split("@")[0].lstrip("/") for each in defaults if isinstance(each, str)]
        assert words[2].replace("=", "/") in bases
        sources = [each["source"] for each in defaults if isinstance(each, dict) and "source" in each]
        assert not sources or words[3:6] == ["with", "source", *sources]
    elif words[:2] == ["variant", "of"]:  # builds something else of the module of another option
        assert module == f"{ROOMS[group]}.{words[2]}"
    else:
        assert module == IN_ANOTHER_ROOM.get(option(path), f"{ROOMS[group]}.{name}")


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=option)
def test_targets_exist_and_callbacks_are_named_after_their_modules(path: Path) -> None:
    for place, target in read(path)[1]:
        module, _, name = target.rpartition(".")
        assert (get_object(target).__module__, get_object(target).__qualname__) == (module, name)
        if place.startswith("callbacks."):
            assert module.startswith(f"stnrot.{place}")

"""The site builds without a warning; its generated pages hold what they are generated from."""

import importlib.util
import json
import pkgutil
import re
from html import unescape
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, made_once
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocstrings import Inventory

import stnrot

pytestmark = pytest.mark.ci
ROOMS = sorted(path.stem for path in (ROOT / "docs" / "reference").glob("*.md"))
ARCHIVE = (ROOT / "docs" / "results" / "archive.md").read_text()
TRANSCRIBED = {
    path.stem: found
    for path in sorted((ROOT / "docs" / "results").glob("*.json"))
    if "source" in (found := json.loads(path.read_text()))
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning is an error."""

    def make(folder: Path) -> None:
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        config.plugins.on_shutdown()

    return made_once(tmp_path_factory, "site", make)


def hook(name: str) -> ModuleType:
    """Import a script that writes a page."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def test_every_public_name_is_on_a_page_with_its_docstring(site: Path) -> None:
    with (site / "objects.inv").open("rb") as file:
        inventory = Inventory.parse_sphinx(file)
    for face in (stnrot, stnrot.geometry):
        for name in face.__all__:
            docstring = getattr(face, name).__doc__
            page, _, anchor = inventory[f"{face.__name__}.{name}"].uri.partition("#")
            text = (site / page / "index.html").read_text()
            assert f'id="{anchor.replace("$", f"{face.__name__}.{name}")}"' in text
            first = re.findall(r"\w+", docstring.strip().splitlines()[0])
            assert first
            assert " ".join(first) in " ".join(re.findall(r"\w+", unescape(re.sub(r"<[^>]*>", "", text))))


def test_every_module_of_a_room_is_on_its_page(site: Path) -> None:
    for _, room, package in pkgutil.iter_modules(stnrot.__path__):
        if not package or room == "commands":  # its page is made from the commands' help
            continue
        text = (site / "reference" / room / "index.html").read_text()
        found = import_module(f"stnrot.{room}")
        for module in pkgutil.walk_packages(found.__path__, f"{found.__name__}."):
            assert f'id="{module.name}' in text, module.name


def test_the_commands_are_on_their_page(site: Path) -> None:
    text = (site / "reference" / "commands" / "index.html").read_text()
    for shown in ("stnrot align", "--manifest", "stnrot pose", "--fov-deg", "stnrot study", "--install-completion"):
        assert shown in text


def test_every_option_file_is_on_the_page_of_the_configuration(site: Path) -> None:
    text = unescape((site / "reference" / "configuration" / "index.html").read_text().replace("<wbr>", ""))
    for path in (ROOT / "configs").rglob("*.yaml"):
        group = path.parent.relative_to(ROOT / "configs").as_posix()
        assert (f"{path.stem}.yaml" if group == "." else f"{group}={path.stem}") in text
    assert "model.encoder.dropout_circles" in text


def test_every_key_of_the_configuration_has_a_comment() -> None:
    keys = [(option.group, option.name, key) for option in hook("configuration").options() for key in option.keys]
    assert len(keys) > 100
    assert not [(group, name, key.path) for group, name, key in keys if not key.comment]


def test_keys_are_read_with_their_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = hook("configuration")
    monkeypatch.setattr(configuration, "CONFIGS", tmp_path)
    (tmp_path / "data" / "source").mkdir(parents=True)
    (tmp_path / "data" / "source" / "sky.yaml").write_text(
        "# images of the sky\n"
        "_target_: stnrot.sky.Sky\n"
        "size: [4, 5] # height, width\n"
        "# not the\n"
        "# sun\n"
        'stars: "a # b"\n'
        "camera: # which sees it\n"
        "  gain: 1.0\n"
        "  # seconds\n"
        "  time: 3 # at most 9\n"
    )
    (tmp_path / "job.yaml").write_text(
        "defaults:\n"
        "  - _self_\n"
        "  - data: null\n"
        "  - override /data/source: sky\n"
        "\n"
        "data:\n"
        "  source:\n"
        "    stars: c\n"
        "monitor: {metric: loss} # of the validation\n"
    )
    sky, job = configuration.options()
    assert (sky.group, sky.name, sky.title) == ("data/source", "sky", "images of the sky")
    assert sky.targets == [("data.source", "stnrot.sky.Sky")]
    assert sky.keys == [
        ("data.source.size", "[4, 5]", "height, width"),
        ("data.source.stars", '"a # b"', "not the sun"),
        ("data.source.camera", "", "which sees it"),
        ("data.source.camera.gain", "1.0", ""),
        ("data.source.camera.time", "3", "seconds at most 9"),
    ]
    assert job.defaults == ["data=null", "data/source=sky"]
    assert job.keys == [
        ("data.source.stars", "c", "not the sun"),  # the comment of the key that it overrides
        ("monitor", "{metric: loss}", "of the validation"),
    ]


@pytest.mark.parametrize("name", TRANSCRIBED)
def test_figures_from_the_archive_are_as_they_stand_there(name: str) -> None:
    found = TRANSCRIBED[name]
    heading = found["source"].removeprefix("archive.md, heading ")
    section = ARCHIVE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert f"`{found['command']}`" in section
    facts = {"date": found["date"]} | found["environment"]
    assert any(all(f"{key}: {value}" in line for key, value in facts.items()) for line in section.splitlines())
    for note in found.get("notes", []):
        assert note in section
    lines = {" ".join(line.split()) for line in section.splitlines()}
    for table in found["tables"]:
        for cells in (table["rows"][0].keys(), *(row.values() for row in table["rows"])):
            assert " ".join(f"| {' | '.join(cells)} |".split()) in lines


def test_every_benchmark_has_results() -> None:
    names = {path.stem for path in (ROOT / "docs" / "results").glob("*.json")}
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert benchmarks - {"accuracy"} <= names  # its results are docs/accuracy.jsonl
    assert all(any(name.startswith(benchmark) for benchmark in benchmarks) for name in names)


def test_the_page_of_results_has_the_figures(site: Path) -> None:
    text = (site / "results" / "index.html").read_text()
    for found in TRANSCRIBED.values():
        assert found["date"] in text
        for table in found["tables"]:
            for cell in table["rows"][-1].values():
                assert cell.replace("+-", "±").replace("<", "&lt;") in text
    # from docs/accuracy.jsonl: rot_stn on mnist_rot, nine runs
    assert "0.74 ± 0.02" in text

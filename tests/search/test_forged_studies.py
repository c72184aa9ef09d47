"""A study may come from anyone: what no search writes is refused in one line, and nothing of it is run."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

from stnrot.errors import InputError
from stnrot.search.study import SearchSpec, find_study, join_study

SPEC = SearchSpec("minimize", "val/nll", {"x": "1 to 9"}, ["model=cnn"])
ENDLESS = "WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n) SELECT k AS trial_id FROM n"


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same study in SQLite and in a journal: a trial that has ended, and one of a dead process."""
    folder = tmp_path_factory.mktemp("studies")
    for location in (f"sqlite:///{folder}/study.db", f"{folder}/study.journal"):
        study = join_study(location, "one", SPEC)
        study.sampler = optuna.samplers.RandomSampler(seed=0)
        for ends in (True, False):
            trial = study.ask()
            trial.suggest_float("x", 1, 9)
            trial.report(0.5, 1)
            trial.set_user_attr("worker", {"machine": "here", "process": 1, "seconds": 1.0})
            if ends:
                study.tell(trial, 0.5)
        study.enqueue_trial({"x": 2.0}, user_attrs={"retry_of": 1})
    return folder


def refused(location: str) -> None:
    """Both the report and a search that continues begin like this."""
    with pytest.raises(InputError) as failure:
        find_study(location, None)
    assert len(str(failure.value).splitlines()) == 1


@pytest.mark.parametrize("change", [
    "UPDATE trial_params SET distribution_json = 'nonsense'",
    "UPDATE trial_params SET distribution_json = '[]'",
    *(f"UPDATE trial_params SET distribution_json = '{json.dumps({'name': name, 'attributes': attributes})}'"
      for name, attributes in (("os.system", {}), ("FloatDistribution", {"low": [], "high": 1}),
                               ("CategoricalDistribution", {"choices": [1]}))),
    "UPDATE trial_user_attributes SET value_json = 'nonsense'",
    "UPDATE trial_user_attributes SET value_json = '5' WHERE key = 'worker'",
    "UPDATE trial_user_attributes SET value_json = '{\"machine\": \"here\"}' WHERE key = 'worker'",
    "UPDATE trial_user_attributes SET value_json = '2' WHERE key = 'retry_of'",
    "UPDATE trial_user_attributes SET value_json = '\"1\"' WHERE key = 'retry_of'",
    "UPDATE trial_user_attributes SET key = 'reason'",
    "UPDATE trial_system_attributes SET value_json = '[1]' WHERE key = 'fixed_params'",
    "UPDATE trial_system_attributes SET value_json = '{\"x\": {}}' WHERE key = 'fixed_params'",
    "UPDATE study_user_attributes SET value_json = x'ff'",
    "UPDATE trial_values SET value = 'nonsense'",
    "UPDATE trial_values SET value_type = 'nonsense'",
    "UPDATE trial_values SET objective = 5",
    "UPDATE trial_intermediate_values SET intermediate_value = 'nonsense'",
    "DELETE FROM trial_values",
    "UPDATE trials SET number = 7 WHERE number = 0",
    "UPDATE trials SET state = 'NONSENSE'",
    "UPDATE trials SET state = 'RUNNING', datetime_start = NULL",
    "UPDATE trials SET datetime_start = 'nonsense'",
    "UPDATE study_directions SET direction = 'NONSENSE'",
    "UPDATE alembic_version SET version_num = 'nonsense'",
    "DROP TABLE trials",
    f"DROP TABLE trial_values; CREATE VIEW trial_values AS {ENDLESS}",
    f"DROP TABLE trials; CREATE VIEW trials AS {ENDLESS}",
    "CREATE TRIGGER t AFTER UPDATE ON trials BEGIN DELETE FROM studies; END",
    "ALTER TABLE trials ADD COLUMN big GENERATED ALWAYS AS (hex(zeroblob(500000000))) VIRTUAL",
])  # fmt: skip
def test_a_forged_database(change: str, studies: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    shutil.copy(studies / path.name, path)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(change)
        database.commit()
    before = path.read_bytes()
    refused(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [
    {"op_code": 99}, {"op_code": None}, {"op_code": []},
    {"study_id": []}, {"study_name": 5}, {"directions": 5}, {"directions": ["x"]}, {"user_attr": []},
    {"user_attr": {"worker": 5}}, {"trial_id": {}}, {"datetime_start": 5}, {"datetime_start": "nonsense"},
    {"distribution": "nonsense"}, {"distribution": 5}, {"param_name": 5}, {"param_name": []}, {"state": 99},
    {"param_value_internal": "x"}, {"values": 5}, {"values": ["x"]}, {"values": [1, 2]}, {"step": "x"},
    {"intermediate_value": "x"}, {"intermediate_value": []},
])  # fmt: skip
def test_a_forged_journal(change: dict[str, Any], studies: Path, tmp_path: Path) -> None:
    """Each line that has this entry gets another value."""
    path = tmp_path / "study.journal"
    lines = [json.loads(line) for line in (studies / path.name).read_text().splitlines()]
    forged = [line | change if change.keys() <= line.keys() else line for line in lines]
    assert forged != lines
    path.write_text("".join(json.dumps(line) + "\n" for line in forged))
    before = path.read_bytes()
    refused(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ["[1]", "5", "{}", '{"op_code":4', "\x00", '{"op_code":4}', "[" * 100_000])
def test_a_line_of_a_journal_that_is_none(line: str, studies: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.write_text((studies / path.name).read_text() + f"{line}\n" * 2)
    refused(str(path))

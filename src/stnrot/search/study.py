"""The study of a search: create it, find it again, and refuse the study of another search."""

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard

import optuna
from optuna.study import StudyDirection

from stnrot.errors import InputError
from stnrot.runs.moved_targets import MOVED, OPTIONS
from stnrot.search.storage import check_folder, input_errors, is_empty, lock_of, open_storage, without_password
from stnrot.search.stored_trials import check_trials

SEARCH = "search"  # user attribute of a study: its SearchSpec
# options that may differ between the processes of one search: where a job runs, and what it displays
MACHINE_SPECIFIC = ("data.root=", "data.num_workers=", "trainer=", "trainer.accelerator=", "callbacks.", "logger.")


@dataclass(frozen=True)
class SearchSpec:
    """What all trials of a study have in common. It is stored in the study.

    Args:
        direction: minimize or maximize.
        metric: name of the metric, such as val/nll.
        space: the search space as text, by option.
        options: the overrides that all trials share.
    """

    direction: str
    metric: str
    space: dict[str, str]
    options: list[str]

    def check(self, study: optuna.Study, location: str) -> None:
        """Raise InputError if the study belongs to another search."""
        stored = spec_of(study)
        name = f"the study {study.study_name} in {without_password(location)}"
        remedy = "repeat the command of that search, or choose another hydra.sweeper.study_name"
        if stored is None:
            raise InputError(f"{name} was not made by a search of this version of the project: {remedy}")
        there, here = stored._features(), self._features()
        for key in there | here:
            if there.get(key) != here.get(key):
                old, new = there.get(key, "nothing"), here.get(key, "nothing")
                raise InputError(f"{name} belongs to another search, {key}: {old}, here {new}; {remedy}")

    def _features(self) -> dict[str, str]:
        same = sorted(option for option in self.options if not option.lstrip("+").startswith(MACHINE_SPECIFIC))
        return {"direction": self.direction, "metric": self.metric, "options": " ".join(same)} | self.space


def spec_of(study: optuna.Study) -> SearchSpec | None:
    """Return the stored SearchSpec; None if another program or another version of this project made the study."""
    stored = study.user_attrs.get(SEARCH)
    if not _is_spec(stored):
        return None
    space = {name: MOVED.get(value, value) for name, value in stored["space"].items()}
    return SearchSpec(**stored | {"space": space, "options": [OPTIONS.get(each, each) for each in stored["options"]]})


def _is_spec(stored: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether the attribute of a study, which anyone may have written, has the form of a SearchSpec."""
    if not isinstance(stored, dict) or set(stored) != {field.name for field in fields(SearchSpec)}:
        return False
    space, options = stored["space"], stored["options"]
    is_tree = isinstance(space, dict) and isinstance(options, list)
    return is_tree and all(isinstance(text, str) for text in (stored["metric"], *space.values(), *options))


def join_study(location: str, name: str, spec: SearchSpec) -> optuna.Study:
    """Open the study, and create it if it does not exist.

    Raises:
        InputError: if the study belongs to another search.
    """
    check_folder(location)
    with input_errors(location), lock_of(location):
        storage = open_storage(location)
        study = optuna.create_study(
            storage=storage, study_name=name, direction=StudyDirection[spec.direction.upper()], load_if_exists=True
        )
        if spec_of(study) is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(SEARCH, asdict(spec))
    spec.check(study, location)
    return study


def find_study(location: str, name: str | None) -> optuna.Study | None:
    """Return the study, or None if it does not exist. Nothing is written.

    Args:
        location: URL of the database or path of the journal file.
        name: name of the study; it may be None if the storage holds only one.

    Raises:
        InputError: if the storage or the study cannot be read, or holds what no search writes.
    """
    if is_empty(location):
        return None
    storage = open_storage(location)
    with input_errors(location):
        names = sorted(optuna.get_all_study_names(storage))
    if name is None and len(names) > 1:
        raise InputError(
            f"{without_password(location)} holds several studies: expected --study with one of {', '.join(names)}"
        )
    if not names or (name is not None and name not in names):
        return None
    with input_errors(location):
        study = optuna.load_study(study_name=name or names[0], storage=storage)
        check_trials(study, location)
    return study

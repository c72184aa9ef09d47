"""The study of a search: made, found again, and told from those of other searches."""

from dataclasses import asdict, dataclass, fields

import optuna
from optuna.study import StudyDirection

from stnrot.errors import InputError
from stnrot.search.storage import check_folder, is_empty, lock_of, open_storage, reaching, shown

SEARCH = "search"  # the user attribute that says what a study is of
# where a job runs and what it shows may differ between the processes of a search
MACHINE_SPECIFIC = ("data.root=", "data.num_workers=", "trainer=", "trainer.accelerator=", "callbacks.", "logger.")


@dataclass(frozen=True)
class SearchSpec:
    """What a study is of: its direction and metric, the space by parameter, and the options that all trials have."""

    direction: str
    metric: str
    space: dict[str, str]
    options: list[str]

    def check(self, study: optuna.Study, place: str) -> None:
        """Refuse to add trials to the study of another search."""
        known = spec_of(study)
        what = f"the study {study.study_name} in {shown(place)}"
        way_out = "repeat the command of that search, or choose another hydra.sweeper.study_name"
        if known is None:
            raise InputError(f"{what} was not made by a search of this project, as it is now: {way_out}")
        there, here = known._features(), self._features()
        for name in there | here:
            if there.get(name) != here.get(name):
                was, is_now = there.get(name, "nothing"), here.get(name, "nothing")
                raise InputError(f"{what} is of another search, {name}: {was}, here {is_now}; {way_out}")

    def _features(self) -> dict[str, str]:
        same = sorted(option for option in self.options if not option.lstrip("+").startswith(MACHINE_SPECIFIC))
        return {"direction": self.direction, "metric": self.metric, "options": " ".join(same)} | self.space


def spec_of(study: optuna.Study) -> SearchSpec | None:
    """Read what a study is of; None if it is no search of this project, or one of another version of it."""
    known = study.user_attrs.get(SEARCH)
    return SearchSpec(**known) if known and set(known) == {field.name for field in fields(SearchSpec)} else None


def join_study(place: str, name: str, search: SearchSpec) -> optuna.Study:
    """Open the study, or make it if there is none; one of another search is an InputError."""
    check_folder(place)
    with reaching(place), lock_of(place):
        storage = open_storage(place)
        study = optuna.create_study(
            storage=storage, study_name=name, direction=StudyDirection[search.direction.upper()], load_if_exists=True
        )
        if spec_of(study) is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(SEARCH, asdict(search))
    search.check(study, place)
    return study


def find_study(place: str, name: str | None) -> optuna.Study | None:
    """Return the study if it is there, and write nothing; of several in a storage, the one that is named."""
    if is_empty(place):
        return None
    storage = open_storage(place)
    with reaching(place):
        names = sorted(optuna.get_all_study_names(storage))
    if name is None and len(names) > 1:
        raise InputError(f"{shown(place)} holds several studies: expected --study with one of {', '.join(names)}")
    if not names or (name is not None and name not in names):
        return None
    return optuna.load_study(study_name=name or names[0], storage=storage)

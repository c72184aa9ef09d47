"""The study of a search: found again, and refused for another search."""

from pathlib import Path

import optuna
import pytest

from stnrot.errors import InputError
from stnrot.search.study import SearchSpec, find_study, join_study

SPEC = SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, ["model=cnn", "data.root=here"])


def test_the_study_of_another_search(tmp_path: Path) -> None:
    location = f"sqlite:///{tmp_path}/study.db"
    join_study(location, "one", SPEC)
    join_study(location, "one", SearchSpec("minimize", "val/loss", {"x": "0 to 1"}, ["data.root=there", "model=cnn"]))
    for other, words in (
        (SearchSpec("minimize", "val/nll", SPEC.space, SPEC.options), "metric: val/loss, here val/nll"),
        (SearchSpec("minimize", "val/loss", {"x": "0 to 2"}, SPEC.options), "x: 0 to 1, here 0 to 2"),
        (SearchSpec("minimize", "val/loss", SPEC.space, []), "options: model=cnn, here "),
        (SearchSpec("maximize", "val/loss", SPEC.space, SPEC.options), "direction: minimize, here maximize"),
    ):
        with pytest.raises(InputError, match=words):
            join_study(location, "one", other)
    optuna.create_study(storage=location, study_name="two").ask()
    with pytest.raises(InputError, match="not made by a search of this version of the project"):
        join_study(location, "two", SPEC)
    with pytest.raises(InputError, match="several studies: expected --study with one of one, two"):
        find_study(location, None)
    assert find_study(location, "three") is None


def test_the_study_of_version_0_2_is_the_same_search(tmp_path: Path) -> None:
    """It holds a function and an option by their old names."""
    location = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=location, study_name="one")
    space = {"custom_search_space": "stnrot.search.spaces.hypotheses"}
    stored = {"direction": "minimize", "metric": "val/loss", "space": space, "options": ["model/classifier=classifier"]}
    study.set_user_attr("search", stored)
    new = {"custom_search_space": "stnrot.search.conditional_spaces.hypotheses"}
    assert join_study(location, "one", SearchSpec("minimize", "val/loss", new, ["model/classifier=conv"])) is not None

"""What some recipes take beside their sizes: reached from the run file, kept in the bundle, refused by the others."""

from __future__ import annotations

import json
import tomllib

import pytest
from tests import everykind

from umbel.built import Built
from umbel.errors import UserError
from umbel.nn.recommender import Sizes
from umbel.recipes import RECIPES, taken
from umbel.run import resolve
from umbel.run.settings import OptionSection, Settings, parse

SIZES = Sizes(everykind.VOCABULARY, dim=3, expert=(4,))


def settings(recipe: str, **options: object) -> Settings:
    return parse(
        {
            "data": {"log": "log.parquet"},
            "fields": {"user": {"kind": "id"}},
            "tasks": {"click": {}, "like": {"auxiliary": recipe == "stem_al"}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1},
            "model": {"recipe": recipe, "options": options},
        },
        where="here",
    )


def test_every_option_is_taken_by_some_recipe() -> None:
    known = set(OptionSection.model_fields)
    assert set().union(*map(taken, RECIPES)) - {"paradigm"} == known


def test_an_option_reaches_its_recipe() -> None:
    built = resolve.built(settings("stem", taught=True), {"user": 3})
    assert built.options == {"taught": True}
    assert built(resolve.schema(settings("stem"))).reach["layer 0 expert 0"] == (0, 1)


def test_what_is_not_given_is_not_passed() -> None:
    assert resolve.built(settings("mmoe"), {"user": 3}).options == {}


def test_a_recipe_refuses_what_it_does_not_take() -> None:
    with pytest.raises(UserError, match=r"model.options.taught: recipe 'mmoe' takes none; leave it out; stem would take it"):
        resolve.check(settings("mmoe", taught=True))


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(UserError, match=r"unknown key 'model.options.tought'; did you mean 'taught'\?"):
        settings("stem", tought=True)


def test_options_survive_the_file() -> None:
    built = Built("stem", SIZES, options={"taught": True, "legacy": False})
    kept = json.loads(json.dumps({"recipe": "stem", "options": {"taught": True, "legacy": False}}))
    saved = {**kept, "sizes": {"vocabulary": everykind.VOCABULARY, "dim": 3, "expert": [4]}, "interact_sizes": {}, "sequence_sizes": {}}
    assert Built.from_json(saved) == built


def test_the_run_file_comes_back() -> None:
    one = settings("stem", taught=True)
    assert "taught = true" in one.to_toml()
    assert parse(tomllib.loads(one.to_toml()), where="again") == one


def test_auxiliary_tasks_are_said_in_the_run_file() -> None:
    schema = resolve.schema(settings("stem_al"))
    assert [task.auxiliary for task in schema.tasks] == [False, True]
    resolve.check(settings("stem_al"))

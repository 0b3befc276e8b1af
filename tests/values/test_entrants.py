"""Who takes part in a comparison, and that everyone has the same budget."""

from __future__ import annotations

import pytest

from umbel.errors import UserError
from umbel.nn.mixture import Mixture
from umbel.recipes import RECIPES
from umbel.run import resolve
from umbel.run.settings import OptionSection, Settings, parse
from umbel.study.entrants import USUAL, Entrant, control, controls, entrants, kept, seeded


def settings(**compare: object) -> Settings:
    return parse(
        {
            "data": {"log": "log.parquet"},
            "fields": {"user": {"kind": "id"}},
            "tasks": {"click": {}, "like": {}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1},
            "model": {"recipe": "stem", "dim": 8},
            "compare": compare,
        },
        where="here",
    )


def test_the_usual_recipes_by_default_with_a_control_for_each_width() -> None:
    names = [entrant.name for entrant in entrants(settings())]
    assert names[: len(USUAL)] == list(USUAL)
    assert names[len(USUAL) :] == ["mmoe x4", "ple x3", "shared_bottom x2"]
    assert set(USUAL) <= set(RECIPES)


def test_any_recipe_takes_part_when_asked_for() -> None:
    assert [entrant.name for entrant in entrants(settings(recipes=["adatt", "cross_stitch"]))] == [
        "adatt", "cross_stitch"]


def test_a_control_stands_for_several_recipes_once() -> None:
    names = [entrant.name for entrant in entrants(settings(recipes=["stem", "me_ple"]))]
    assert names == ["stem", "me_ple", "ple x3"]


def test_a_shared_view_needs_no_control() -> None:
    assert [entrant.name for entrant in entrants(settings(recipes=["mmoe"]))] == ["mmoe"]


def test_controls_can_be_left_out() -> None:
    assert [entrant.name for entrant in entrants(settings(recipes=["stem"], controls=False))] == ["stem"]


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(UserError, match=r"recipe: no 'stemm'; did you mean 'stem'\?"):
        entrants(settings(recipes=["stemm"]))


@pytest.mark.parametrize("views", [None, "own+shared"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_whoever_keeps_several_views_has_a_control_of_one(recipe: str, views: str | None) -> None:
    """Whatever the recipe and the run file's views; as wide in all as its views together."""
    plain = settings(recipes=[recipe])
    asked = plain.model_copy(update={"model": plain.model.model_copy(update={"views": views})})
    own, *found = entrants(asked)
    several = kept(own.grid(asked)[0])
    assert len(found) == (several > 1)
    for one in found:
        (control,) = one.grid(asked)
        assert (kept(control), control.model.dim) == (1, several * plain.model.dim)


def test_the_recipes_that_keep_several_views_by_themselves() -> None:
    asked = settings(recipes=list(RECIPES))
    held = controls((Entrant(name, name) for name in RECIPES), asked)
    assert {name: one.name for name, one in held.items()} == {
        "alone": "shared_bottom x2", "ame": "mmoe x7", "me_mmoe": "mmoe x4", "me_ple": "ple x3", "stem": "ple x3", "stem_al": "ple x3",
        "stem_fields": "ple x3"}


def test_a_control_is_as_wide_in_all() -> None:
    """The total embedding width of `stem` at 8 is 3 x 8; its control's one view is 24 wide."""
    grid = Entrant("ple x3", "ple", wider=3).grid(settings())
    assert [one.model.dim for one in grid] == [24]
    assert grid[0].model.recipe == "ple"


@pytest.mark.parametrize("head", ["esmm", "aitm", "dbmtl", "escm2", "independent"])
@pytest.mark.parametrize("views", [None, "shared"])
def test_separate_models_are_separate_whatever_the_run_file_says(head: str, views: str | None) -> None:
    """No number of them is taught by two tasks; others keep the head and the views that they are asked to have."""
    plain = settings()
    tasks = plain.tasks | {"buy": plain.tasks["like"].model_copy(update={"given": "click"})}
    asked = plain.model_copy(update={"tasks": tasks, "model": plain.model.model_copy(update={"head": head, "views": views})})
    (apart,), (together,) = (Entrant(name, name).grid(asked) for name in ("alone", "stem"))
    taught = resolve.built(apart, {"user": 5})(resolve.schema(asked)).reach
    assert {len(tasks) for tasks in taught.values()} == {1}
    assert (together.model.head, together.model.views) == (head, views)


def test_a_variant_of_separate_models_is_what_it_says() -> None:
    asked = settings(variants={"apart but for a chain": {"model": {"recipe": "alone", "head": "esmm"}}})
    (found,) = Entrant("apart but for a chain", "alone", variant=True).grid(asked)
    assert found.model.head == "esmm"


def heard(asked: Settings, entrant: Entrant) -> list[int]:
    """How many experts each task hears."""
    (own,) = entrant.grid(asked)
    schema = resolve.schema(asked)
    (layer,) = resolve.built(own, {"user": 5})(schema).layers
    assert isinstance(layer, Mixture)
    return [len(layer.routing.heard(task)) for task in range(len(schema.tasks))]


FIVE = {"model": {"recipe": "alone", "specific": 5, "views": "own", "head": "independent"}}


@pytest.mark.parametrize(("recipe", "experts"), [("alone", 1), ("mmoe", 5), ("stem", 5), ("ple", 3)])
def test_how_many_experts_a_task_hears(recipe: str, experts: int) -> None:
    """Of three tasks with one expert each and two shared ones: separate models have fewer than whoever shares."""
    assert heard(three(), Entrant(recipe, recipe)) == [experts] * 3


@pytest.mark.parametrize("view", [None, "shared"])
@pytest.mark.parametrize("head", [None, "esmm"])
def test_a_variant_of_separate_models_has_as_many_experts_and_shares_nothing(view: str | None, head: str | None) -> None:
    """Whatever views and head the run file has."""
    asked = three(variants={"alone, 5 experts": FIVE})
    asked = asked.model_copy(update={"model": asked.model.model_copy(update={"head": head, "views": view})})
    (found,) = (one for one in entrants(asked) if one.name == "alone, 5 experts")
    assert heard(asked, found) == heard(asked, Entrant("stem", "stem")) == [5] * 3
    (own,) = found.grid(asked)
    reach = resolve.built(own, {"user": 5})(resolve.schema(asked)).reach
    assert {len(tasks) for tasks in reach.values()} == {1}


def three(**compare: object) -> Settings:
    """With a third task, given the first."""
    plain = settings(**compare)
    return plain.model_copy(update={"tasks": plain.tasks | {"buy": plain.tasks["like"].model_copy(update={"given": "click"})}})


def test_everyone_chooses_from_the_same_number_of_settings() -> None:
    asked = settings(rates=[0.001, 0.003], dims=[4, 8, 16])
    grids = {entrant.name: entrant.grid(asked) for entrant in entrants(asked)}
    assert {len(grid) for grid in grids.values()} == {6}
    assert {(one.fit.rate, one.model.dim) for one in grids["stem"]} == {(r, d) for r in (0.001, 0.003) for d in (4, 8, 16)}
    assert {one.model.dim for one in grids["ple x3"]} == {12, 24, 48}


def test_what_is_asked_twice_is_done_once() -> None:
    asked = settings(recipes=["stem", "mmoe", "stem"], rates=[0.001, 0.001], dims=[4, 8, 4], controls=False)
    assert [entrant.name for entrant in entrants(asked)] == ["stem", "mmoe"]
    assert [(one.fit.rate, one.model.dim) for one in Entrant("stem", "stem").grid(asked)] == [(0.001, 4), (0.001, 8)]


def test_without_a_grid_the_run_file_decides() -> None:
    (only,) = Entrant("stem", "stem").grid(settings())
    assert (only.fit.rate, only.model.dim) == (0.001, 8)


def test_a_seed_changes_nothing_else() -> None:
    first = settings()
    second = seeded(first, 7)
    assert second.fit.seed == 7
    assert seeded(second, first.fit.seed) == first


def test_what_is_meant_for_one_recipe_is_not_refused_by_another() -> None:
    asked = settings()
    asked = asked.model_copy(update={"model": asked.model.model_copy(update={"options": OptionSection(taught=True)})})
    assert Entrant("stem", "stem").grid(asked)[0].model.options.taught is True
    assert Entrant("mmoe", "mmoe").grid(asked)[0].model.options.taught is None


def test_an_entrant_s_options_stand_in_place_of_the_run_file_s() -> None:
    groups = (("click", "like"),)
    one = Entrant("{click, like}", "grouped", options=OptionSection(groups=groups))
    asked = settings()
    asked = asked.model_copy(update={"model": asked.model.model_copy(update={"options": OptionSection(taught=True)})})
    (found,) = one.grid(asked)
    assert (found.model.recipe, found.model.options) == ("grouped", OptionSection(groups=groups))
    (plain,) = Entrant("stem", "stem").grid(asked)
    assert plain.model.options == OptionSection(taught=True)


def test_a_control_is_named_after_what_it_widens() -> None:
    assert control("ple", 4) == Entrant("ple x4", "ple", 4)

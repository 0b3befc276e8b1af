"""Entrants that are the run file with a few settings changed: what they become, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from umbel.errors import UserError
from umbel.run.settings import Settings, parse
from umbel.study.entrants import USUAL, Entrant, controls, entrants
from umbel.study.variants import changed, controlled


def settings(variants: dict[str, Any], **compare: object) -> Settings:
    return parse(
        {
            "data": {"log": "log.parquet"},
            "fields": {"user": {"kind": "id"}},
            "tasks": {"click": {}, "like": {}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1},
            "model": {"recipe": "stem", "dim": 8, "options": {"taught": True}, "interact_sizes": {"layers": 3}},
            "compare": {"variants": variants, **compare},
        },
        where="here",
    )


def one(**sections: object) -> Settings:
    return changed(settings({"mine": sections}), "mine")


def test_a_variant_differs_in_what_it_names_and_nothing_else() -> None:
    plain = settings({"mine": {"model": {"interact": "dcn"}, "fit": {"balancer": "pcgrad"}}})
    made = changed(plain, "mine")
    assert (made.model.interact, made.fit.balancer) == ("dcn", "pcgrad")
    back = made.model_copy(update={"model": made.model.model_copy(update={"interact": plain.model.interact}),
                                   "fit": made.fit.model_copy(update={"balancer": None})})
    assert back == plain


def test_a_table_of_sizes_is_changed_key_by_key() -> None:
    made = one(model={"interact": "dcn", "interact_sizes": {"rank": 2}})
    assert (made.model.interact_sizes.layers, made.model.interact_sizes.rank) == (3, 2)


def test_options_stay_with_the_recipe_they_were_meant_for() -> None:
    assert one(model={"recipe": "stem", "dropout": 0.1}).model.options.taught is True
    assert one(model={"recipe": "mmoe"}).model.options.taught is None
    assert one(model={"recipe": "ple", "options": {"legacy": True}}).model.options.legacy is True


def test_what_the_run_file_means_for_another_stays_there() -> None:
    """A run file's cross layers are not those of a variant without any; what the variant itself says it must read."""
    base = settings({"plain": {"model": {"interact": "fm"}}, "apart": {"model": {"recipe": "alone"}}})
    wide = base.model_copy(update={"model": base.model.model_copy(update={"interact": "dcn", "shared": 5, "gate": (4,)})})
    grids = {one.name: one.grid(wide)[0].model for one in entrants(wide) if one.variant}
    assert (grids["plain"].interact_sizes.layers, grids["plain"].shared, grids["plain"].gate) == (2, 5, (4,))
    assert (grids["apart"].interact_sizes.layers, grids["apart"].shared, grids["apart"].gate) == (3, 2, ())


@pytest.mark.parametrize(("model", "says"), [
    ({"recipe": "alone", "shared": 5}, r"mine: model\.shared: recipe 'alone' has no use for it; leave it out"),
    ({"recipe": "alone", "gate": [4]}, r"mine: model\.gate: a task of recipe 'alone' hears one expert, and needs none"),
    ({"interact": "dcn", "interact_sizes": {"heads": 2}}, r"mine: model\.interact_sizes\.heads: interact 'dcn' has no use for it"),
    ({"sequence": "din"}, r"mine: model\.sequence: no field is a bag or a sequence"),
])  # fmt: skip
def test_what_a_variant_says_it_must_read(model: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=rf"^compare\.variants\.{says}"):
        one(model=model)


def test_a_balancer_gets_its_settings() -> None:
    made = one(fit={"balancer": "static"}, balance={"weights": {"like": 3.0}})
    assert made.balance.weights == {"like": 3.0}


def test_variants_alone_bring_no_recipe_along_but_those_named() -> None:
    assert [entrant.name for entrant in entrants(settings({"a": {}, "b": {}}, controls=False))] == ["a", "b"]
    asked = settings({"a": {}}, recipes=["alone"], controls=False)
    assert [entrant.name for entrant in entrants(asked)] == ["alone", "a"]
    assert [entrant.name for entrant in entrants(settings({}, controls=False))] == list(USUAL)


def test_an_entrant_knows_the_recipe_of_its_variant() -> None:
    (found,) = entrants(settings({"narrow": {"model": {"recipe": "mmoe"}}}))
    assert found == Entrant("narrow", "mmoe", variant=True)


def test_variants_choose_from_the_common_budget() -> None:
    asked = settings({"narrow": {"model": {"recipe": "mmoe", "interact": "fm"}}}, rates=[0.001, 0.003], dims=[4, 8])
    (found,) = entrants(asked)
    grid = found.grid(asked)
    assert {(one.fit.rate, one.model.dim) for one in grid} == {(r, d) for r in (0.001, 0.003) for d in (4, 8)}
    assert {(one.model.recipe, one.model.interact) for one in grid} == {("mmoe", "fm")}


def test_without_a_budget_a_variant_brings_its_own_rate_and_width() -> None:
    asked = settings({"wide": {"model": {"dim": 32}, "fit": {"rate": 0.01}}}, controls=False)
    (grid,) = (entrant.grid(asked) for entrant in entrants(asked))
    assert [(one.fit.rate, one.model.dim) for one in grid] == [(0.01, 32)]


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"modle": {"recipe": "ple"}}, r"compare\.variants\.mine: 'modle' is the same for all entrants; did you mean 'model'\?"),
        ({"data": {"log": "other"}}, r"compare\.variants\.mine: 'data' is the same for all entrants; known: balance, fit, model"),
        ({"fit": {"seed": 3}}, r"compare\.variants\.mine: fit\.seed counts the seeds of all entrants; leave it out"),
        ({"fit": {"rat": 3}}, r"compare\.variants\.mine: unknown key 'fit\.rat'; did you mean 'rate'\?"),
        ({"fit": {"rate": -3}}, r"compare\.variants\.mine: fit\.rate = -3"),
        ({"model": {"recipe": "mmeo"}}, r"compare\.variants\.mine: no recipe 'mmeo'; did you mean 'mmoe'\?"),
        ({"model": {"expert": []}}, r"compare\.variants\.mine: model\.expert = \[\]; tuple should have at least 1 item"),
        ({"model": {"dim": "wide"}}, r"compare\.variants\.mine: model\.dim = 'wide'"),
    ],
)
def test_what_may_not_differ_is_named(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        one(**sections)


@pytest.mark.parametrize(("section", "key", "budget"), [("fit", "rate", "rates"), ("model", "dim", "dims")])
def test_what_is_chosen_on_validation_is_not_set_beside(section: str, key: str, budget: str) -> None:
    asked = settings({"mine": {section: {key: 1}}}, **{budget: [1]})
    with pytest.raises(UserError, match=rf"mine: {section}\.{key} is chosen from compare\.{budget}; leave one of them out"):
        changed(asked, "mine")


@pytest.mark.parametrize("name", ["", " a", "a ", "a/b", "..", "a\nb", "x" * 81, "a:b"])
def test_a_name_must_do_for_a_folder(name: str) -> None:
    with pytest.raises(UserError, match=r"is no name for a folder; use letters"):
        entrants(settings({name: {}}))


@pytest.mark.parametrize(("name", "whose"), [("stem", "a recipe"), ("trees", "boosted trees"), ("trees + target means", "boosted trees"),
                                             ("ple x3", "a width control"), ("stem, ple x3", "a width control")])
def test_a_name_that_is_taken_is_refused(name: str, whose: str) -> None:
    with pytest.raises(UserError, match=f"is the name of {whose}; name it otherwise"):
        entrants(settings({name: {}}))


@pytest.mark.parametrize(("name", "recipe"), [("ple x3", "ple"), ("me_mmoe x12", "me_mmoe"), ("ple", None), ("my x3", None),
                                              ("ple x", None), ("ple x3 b", None),
                                              ("a, b, ple x3", "ple"), ("a ple x3", None)])
def test_a_width_control_is_told_by_its_name(name: str, recipe: str | None) -> None:
    assert controlled(name) == recipe


def wide(variants: dict[str, Any], **compare: object) -> list[str]:
    """The names of the width controls that stand beside these variants, and of nobody else."""
    asked = settings(variants, **compare)
    return [one.name for one in entrants(asked) if one.wider > 1]


def test_a_variant_of_several_views_has_a_width_control() -> None:
    assert wide({"own tables": {"model": {"recipe": "mmoe", "views": "own+shared"}}}) == ["mmoe x3"]
    assert wide({"four": {"model": {"recipe": "ple", "views": "own"}}}) == ["ple x2"]
    assert wide({"one": {"model": {"recipe": "mmoe"}}}) == []


def test_the_control_of_a_variant_has_its_other_settings() -> None:
    asked = settings({"crossed": {"model": {"interact": "dcn"}, "fit": {"rate": 0.01}}})
    (own, control), = (entrants(asked),)
    assert (control.name, control.recipe, control.wider) == ("crossed, ple x3", "ple", 3)
    (left,), (right,) = own.grid(asked), control.grid(asked)
    assert (right.model.recipe, right.model.dim, right.model.interact, right.fit) == ("ple", 3 * left.model.dim, "dcn", left.fit)


def test_those_who_would_have_the_same_control_share_it() -> None:
    """Beside the recipes, and beside another variant that changes the same."""
    assert wide({"stem, plainly": {"model": {"options": {"taught": False}}}}, recipes=["stem"]) == ["ple x3"]
    crossed = {name: {"model": {"recipe": name, "interact": "dcn"}} for name in ("stem", "me_ple", "mmoe")}
    named = {f"{name}, crossed": sections for name, sections in crossed.items()}
    assert wide(named, recipes=["stem"]) == ["ple x3", "stem, crossed, ple x3"]
    held = controls((one for one in entrants(settings(named)) if one.wider == 1), settings(named))
    assert {name: one.name for name, one in held.items()} == {
        "stem, crossed": "stem, crossed, ple x3", "me_ple, crossed": "stem, crossed, ple x3"}

"""The searched space: which keys there are, what each value makes of a run file, and what is refused before hours go into it."""

from __future__ import annotations

from typing import Any

import pytest

from umbel.errors import UserError
from umbel.run import resolve
from umbel.run.settings import FitSection, ModelSection, Settings, parse
from umbel.run.tuning import TuneSection
from umbel.study.tune.dimension import Choices, Range
from umbel.study.tune.point import placed, pointed
from umbel.study.tune.space import FIXED, dimensions, searchable, usual


def settings(space: dict[str, Any] | None = None, **changes: Any) -> Settings:  # noqa: ANN401
    tree: dict[str, Any] = {
        "data": {"log": "log.parquet", "item": "item"},
        "fields": {
            "user": {"kind": "id"}, "item": {"kind": "id"}, "seen": {"kind": "sequence", "like": "item"}, "age": {"kind": "number"},
        },
        "tasks": {"click": {}, "like": {}},
        "split": {"by": "user", "valid": 0.1, "test": 0.1},
        "model": {"recipe": "stem", "dim": 4},
        "tune": {"space": space or {}},
    }  # fmt: skip
    return parse({**tree, **changes}, where="here")


def refused(space: dict[str, Any], **changes: Any) -> str:  # noqa: ANN401
    with pytest.raises(UserError) as caught:
        dimensions(settings(space, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def one(key: str, asked: Any, **changes: Any) -> Choices | Range:  # noqa: ANN401
    (found,) = dimensions(settings({key: asked}, **changes))
    return found


def made(key: str, asked: Any, at: Any, **changes: Any) -> Settings:  # noqa: ANN401
    """The run file of one value of one key."""
    base = settings({key: asked}, **changes)
    return pointed(base, dimensions(base), {key: at})


def test_choices_become_choices() -> None:
    found = one("model.recipe", ["mmoe", "stem"])
    assert isinstance(found, Choices)
    assert list(found.ends()) == ["mmoe", "stem"]
    assert found.value("stem") == "stem"


def test_lists_are_spelt_as_json_and_come_back() -> None:
    found = one("model.expert", [[64, 32], [8]])
    assert list(found.ends()) == ["[64, 32]", "[8]"]
    assert found.value("[64, 32]") == (64, 32)
    assert list(one("model.tower", [[8], []]).ends()) == ["[8]", "[]"]
    assert made("model.expert", [[64, 32], [8]], "[8]").model.expert == (8,)


def test_tables_too() -> None:
    found = made("tasks.click.loss", ["likelihood", {"name": "focal", "gamma": 1.0}], '{"name": "focal", "gamma": 1.0}')
    assert resolve.schema(found).tasks[0].loss.name == "focal"
    assert made("tasks.click.loss", ["likelihood", "focal"], "likelihood").tasks["click"].loss == "likelihood"


@pytest.mark.parametrize(
    ("key", "low", "high", "whole"),
    [
        ("model.dim", 2, 8, True), ("model.layers", 1, 3, True), ("model.interact_sizes.rank", 1, 4, True), ("fit.batch", 16, 64, True),
        ("fit.rate", 1, 2, False), ("model.dropout", 0, 0.5, False), ("tasks.like.weight", 1, 3, False), ("fit.l2", 0, 1, False),
    ],
)  # fmt: skip
def test_a_range_is_whole_where_its_setting_is(key: str, low: float, high: float, *, whole: bool) -> None:
    model = {"recipe": "stem", "interact": "dcn"}
    assert one(key, {"low": low, "high": high}, model=model) == Range(key, low, high, log=False, whole=whole)


def test_a_range_of_what_only_some_recipes_take_knows_what_it_is() -> None:
    model = {"recipe": "home", "options": {"groups": [["click"], ["like"]]}}
    assert one("model.options.rank", {"low": 1, "high": 4}, model=model) == Range("model.options.rank", 1, 4, log=False, whole=True)


def test_a_range_may_be_logarithmic() -> None:
    assert one("fit.rate", {"low": 1e-4, "high": 1e-2, "log": True}) == Range("fit.rate", 1e-4, 1e-2, log=True, whole=False)


def test_the_keys_are_all_settings_of_model_training_and_balance_but_the_budget() -> None:
    known = searchable(settings())
    assert {f"fit.{key}" for key in FitSection.model_fields} - set(FIXED) <= known
    inner = {"interact_sizes", "sequence_sizes", "options"}
    assert {f"model.{key}" for key in ModelSection.model_fields if key not in inner} <= known
    assert {"model.interact_sizes.rank", "model.sequence_sizes.heads", "model.options.sparsity", "balance.c"} <= known
    assert {"tasks.like.weight", "tasks.click.loss", "tasks.click.negatives", "balance.weights.like"} <= known
    assert not known & {*FIXED, "model.options", "balance.weights", "data.log", "split.valid", "tasks.click.kind", "tasks.buy.weight"}


@pytest.mark.parametrize(
    ("key", "mend"),
    [
        ("fit.rat", "did you mean 'fit.rate'?"), ("model.recipes", "did you mean 'model.recipe'?"), ("zzz", "known: "),
        ("tasks.clik.weight", "did you mean 'tasks.click.weight'?"), ("balance.weights.lik", "did you mean 'balance.weights.like'?"),
        ("model.interact_sizes.layer", "did you mean 'model.interact_sizes.layers'?"), ("data.log", ""), ("tasks.click.kind", ""),
        ("tune.prune", ""), ("evaluate.resamples", ""),
    ],
)  # fmt: skip
def test_a_key_that_is_no_setting_is_told_the_nearest(key: str, mend: str) -> None:
    message = refused({key: [1, 2]})
    assert message.startswith(f"tune.space: {key!r} is no setting that can be searched; ")
    assert mend in message


@pytest.mark.parametrize("key", FIXED)
def test_the_budget_is_not_searched(key: str) -> None:
    assert refused({key: [1, 2]}) == f"tune.space: {key!r} is the same for every trial; set it in [fit]"


@pytest.mark.parametrize(
    ("key", "asked", "said"),
    [
        ("model.recipe", ["stem", "stemm"], "tune.space.model.recipe = 'stemm': model.recipe: no 'stemm'; did you mean 'stem'?"),
        ("model.head", ["independant"], "did you mean 'independent'?"),
        ("fit.balancer", ["none", "pcgard"], "did you mean 'pcgrad'?"),
        ("fit.balancer", ["krum"], "'krum' needs 3 tasks"),
        ("model.sequence", ["mean", "din"], "tune.space.model.sequence = 'din'"),
        ("fit.rate", {"low": -1, "high": 1}, "tune.space.fit.rate = -1"),
        ("fit.rate", ["fast"], "tune.space.fit.rate = 'fast'"),
        ("model.dropout", {"low": 0.5, "high": 1.0}, "tune.space.model.dropout = 1.0"),
        ("model.dim", {"low": 1.5, "high": 4}, "tune.space.model.dim = 1.5"),
        ("model.dim", [4, 4], "tune.space.model.dim: a choice stands there twice"),
        ("model.expert", [[0]], "tune.space.model.expert = '[0]'"),
        ("model.expert", [[8], []], "tune.space.model.expert = '[]': a trial: model.expert = ()"),
        ("model.views", ["shard"], "did you mean 'shared'?"),
        ("tasks.click.loss", ["focl"], "did you mean 'focal'?"),
    ],
)
def test_every_value_is_tried_on_the_run_file_first(key: str, asked: Any, said: str) -> None:  # noqa: ANN401
    assert said in refused({key: asked})


def test_a_recipe_that_refuses_the_run_file_s_sizes_is_told_at_once() -> None:
    narrow = {"recipe": "stem", "expert": [1]}
    assert refused({"model.recipe": ["stem", "home"]}, model=narrow).startswith("tune.space.model.recipe = 'home': ")


def test_the_order_of_keys_says_nothing() -> None:
    space = {"model.dim": [4, 8], "fit.rate": {"low": 1e-3, "high": 1e-2}}
    turned = dict(reversed(list(space.items())))
    assert settings(space) == settings(turned), "the same search to whoever claims its folder"
    assert dimensions(settings(space)) == dimensions(settings(turned)), "and to the one who draws"


def test_a_setting_that_nothing_searched_would_take() -> None:
    assert refused({"balance.c": [0.1, 0.5]}) == (
        "tune.space: no balancer that is searched takes 'balance.c'; add one that does to 'fit.balancer'"
    )
    assert "no balancer" in refused({"balance.weights.click": [1.0, 2.0], "fit.balancer": ["none", "pcgrad"]})
    assert refused({"model.options.sparsity": [0.1]}) == (
        "tune.space: no recipe that is searched takes 'model.options.sparsity'; they are stem"
    )
    assert len(dimensions(settings({"balance.c": [0.1, 0.5], "fit.balancer": ["none", "cagrad"]}))) == 2
    assert len(dimensions(settings({"model.options.sparsity": [0.1], "model.recipe": ["stem", "snr_aver"]}))) == 2
    assert len(dimensions(settings({"balance.weights.like": [1.0, 2.0]}, fit={"balancer": "static"}))) == 1


@pytest.mark.parametrize(("key", "model", "says"), [
    ("model.shared", {"recipe": "alone"}, "no recipe that is searched takes 'model.shared'; they are alone"),
    ("model.specific", {"recipe": "pepnet"}, "no recipe that is searched takes 'model.specific'; they are pepnet"),
    ("model.gate", {"recipe": "shared_bottom", "expert": [8]}, "no recipe that is searched takes 'model.gate'; they are shared_bottom"),
    ("model.gate", {"recipe": "aitm"}, "no recipe that is searched takes 'model.gate'; they are aitm"),
    ("model.interact_sizes.rank", {"recipe": "stem", "interact": "autoint"}, "no interact that is searched takes"),
    ("model.sequence_sizes.heads", {"recipe": "stem", "sequence": "mean"}, "no sequence that is searched takes"),
])  # fmt: skip
def test_a_size_that_nothing_searched_has_a_use_for(key: str, model: dict[str, Any], says: str) -> None:
    tasks = {"click": {}, "buy": {"given": "click"}}
    values = [[], [4]] if key == "model.gate" else [1, 2]
    assert f"tune.space: {says}" in refused({key: values}, model=model, tasks=tasks)


@pytest.mark.parametrize(("space", "model"), [
    ({"model.shared": [1, 2], "model.recipe": ["alone", "mmoe"]}, {"recipe": "alone"}),
    ({"model.gate": [[], [4]], "model.specific": [1, 2]}, {"recipe": "alone"}),
    ({"model.gate": [[], [4]]}, {"recipe": "alone", "specific": 2}),
    ({"model.interact_sizes.rank": ["none", 2], "model.interact": ["fm", "dcn"]}, {"recipe": "stem", "interact": "fm"}),
    ({"model.sequence_sizes.layers": [1, 2], "model.sequence": ["mean", "sasrec"]}, {"recipe": "stem"}),
])  # fmt: skip
def test_a_size_that_one_of_the_searched_has_a_use_for(space: dict[str, Any], model: dict[str, Any]) -> None:
    fields = {"item": {"kind": "id"}, "seen": {"kind": "sequence", "like": "item", "target": "item"}}
    assert {one.key for one in dimensions(settings(space, model=model, fields=fields))} == set(space)


def test_the_usual_space_is_allowed_and_holds_what_the_run_file_says() -> None:
    base = settings(model={"recipe": "me_ple", "interact": "fm"})
    space = usual(base)
    assert space["model.recipe"] == ("me_ple", "shared_bottom", "mmoe", "ple", "stem")
    assert space["model.interact"] == ("fm", "concatenate", "dcn")
    assert [one.key for one in dimensions(base)] == sorted(space)
    assert "model.sequence" not in space, "no list names its target"


def test_the_usual_space_reads_histories_where_a_list_has_a_target() -> None:
    fields = {"item": {"kind": "id"}, "seen": {"kind": "sequence", "like": "item", "target": "item"}}
    base = settings(fields=fields)
    assert usual(base)["model.sequence"] == ("mean", "din")
    assert len(dimensions(base)) == len(usual(base))


def test_one_task_is_not_balanced() -> None:
    assert "fit.balancer" in usual(settings())
    assert "fit.balancer" not in usual(settings(tasks={"click": {}}))
    assert usual(settings(fit={"balancer": "pcgrad"}))["fit.balancer"] == ("pcgrad", "none", "static", "uncertainty")


def test_the_usual_space_weighs_every_task_against_the_first() -> None:
    """A tuned static weighting is the yardstick of every other balancer."""
    found = usual(settings(tasks={"click": {}, "like": {}, "buy": {}}))
    assert {key for key in found if key.startswith("balance")} == {"balance.weights.like", "balance.weights.buy"}
    assert not any(key.startswith("balance") for key in usual(settings(tasks={"click": {}})))


def test_the_usual_space_is_allowed_beside_losses_below_zero() -> None:
    base = settings(tasks={"click": {}, "spend": {"kind": "zero_inflated"}}, tune={})
    assert "uncertainty" not in usual(base)["fit.balancer"]
    assert len(dimensions(base)) == len(usual(base))


def test_a_point_sets_its_keys_and_no_other() -> None:
    base = settings({"fit.rate": [0.1, 0.2], "model.dim": [4, 8]})
    found = pointed(base, dimensions(base), {"fit.rate": 0.2, "model.dim": 8})
    assert (found.fit.rate, found.model.dim) == (0.2, 8)
    back = found.model_copy(update={"fit": base.fit, "model": base.model})
    assert back == base.model_copy(update={"tune": TuneSection()}), "and it is a run file without a search"


def test_a_point_is_a_run_file_that_comes_back() -> None:
    base = settings({"tasks.like.weight": [1.0, 2.5], "model.gate": [[], [4]], "model.interact_sizes.layers": [1, 3]},
                    model={"recipe": "stem", "interact": "autoint"})
    found = pointed(base, dimensions(base), {"tasks.like.weight": 2.5, "model.gate": "[4]", "model.interact_sizes.layers": 3})
    assert found.tasks["like"].weight == 2.5
    assert found.model.gate == (4,)
    assert found.model.interact_sizes.layers == 3
    import tomllib

    assert parse(tomllib.loads(found.to_toml()), where="there") == found


def test_none_leaves_out_what_may_be_left_out() -> None:
    assert made("fit.balancer", ["none", "pcgrad"], "none", fit={"balancer": "mgda"}).fit.balancer is None
    assert made("model.views", ["none", "shared"], "none", model={"recipe": "stem", "views": "own"}).model.views is None
    assert made("fit.balancer", ["none", "pcgrad"], "pcgrad").fit.balancer == "pcgrad"
    low = {"recipe": "stem", "interact": "dcn", "interact_sizes": {"rank": 2}}
    assert made("model.interact_sizes.rank", ["none", 2], "none", model=low).model.interact_sizes.rank is None


@pytest.mark.parametrize("key", ["fit.rate", "model.interact", "model.dim"])
def test_none_is_no_value_of_what_may_not(key: str) -> None:
    assert f"tune.space.{key} = 'none'" in refused({key: ["none"]})


def test_what_one_recipe_takes_is_left_out_for_another() -> None:
    base = settings({"model.recipe": ["stem", "mmoe"]}, model={"recipe": "stem", "views": "own", "options": {"legacy": True}})
    found = pointed(base, dimensions(base), {"model.recipe": "mmoe"})
    assert found.model.options.legacy is None
    assert found.model.views == "own", "every table takes views"
    assert pointed(base, dimensions(base), {"model.recipe": "stem"}).model.options.legacy


def test_what_one_piece_of_a_model_takes_is_left_out_for_another() -> None:
    """Every trial of such a search is a run file that training takes."""
    space = {"model.recipe": ["alone", "mmoe"], "model.shared": [1, 3], "model.gate": [[], [4]], "model.specific": [1, 2],
             "model.interact": ["fm", "dcn"], "model.interact_sizes.rank": ["none", 2]}
    base = settings(space, model={"recipe": "mmoe"})
    among = dimensions(base)
    point = {"model.shared": 3, "model.gate": "[4]", "model.specific": 1, "model.interact": "dcn", "model.interact_sizes.rank": 2}
    both, alone = (pointed(base, among, {**point, "model.recipe": name}).model for name in ("mmoe", "alone"))
    assert (both.shared, both.gate, both.interact_sizes.rank) == (3, (4,), 2)
    assert (alone.shared, alone.gate, alone.interact_sizes.rank) == (2, (), 2)
    assert pointed(base, among, {**point, "model.recipe": "alone", "model.specific": 2}).model.gate == (4,)
    plain = pointed(base, among, {**point, "model.recipe": "alone", "model.interact": "fm"})
    assert plain.model.interact_sizes.rank is None
    resolve.check(plain)


def test_what_one_balancer_takes_is_left_out_for_another() -> None:
    space = {"fit.balancer": ["none", "static", "cagrad"], "balance.weights.like": [0.5, 2.0], "balance.c": [0.1, 0.4]}
    base = settings(space)
    among = dimensions(base)
    each = {
        name: pointed(base, among, {"fit.balancer": name, "balance.weights.like": 2.0, "balance.c": 0.1}).balance
        for name in ("none", "static", "cagrad")
    }
    assert (each["none"].weights, each["none"].c) == (None, None)
    assert (each["static"].weights, each["static"].c) == ({"like": 2.0}, None)
    assert (each["cagrad"].weights, each["cagrad"].c) == (None, 0.1)
    for name, section in each.items():
        resolve.balance(base.model_copy(update={"balance": section, "fit": FitSection(balancer=None if name == "none" else name)}))


def test_placed_keeps_what_nobody_takes() -> None:
    base = settings()
    found = placed(base, (Choices.of("balance.c", (0.5,)),), {"balance.c": 0.5})
    assert found.balance.c == 0.5
    assert pointed(base, (Choices.of("balance.c", (0.5,)),), {"balance.c": 0.5}).balance.c is None


def test_a_task_s_weight_beside_those_of_other_tasks() -> None:
    base = settings(tasks={"click": {"weight": 3.0}, "like": {}})
    found = pointed(base, (Choices.of("tasks.like.weight", (0.5,)),), {"tasks.like.weight": 0.5})
    assert [task.weight for task in resolve.schema(found).tasks] == [3.0, 0.5]

"""Heads chosen in a run file: what reaches them, what is kept in a bundle, and every mistake in one line."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from itertools import pairwise

import pytest
from tests import everykind
from tests.everykind import fields, sizes

from umbel.built import Built
from umbel.chosen import Choice, choose, spell
from umbel.errors import UserError
from umbel.nn.heads import HEADS, Aitm, Dbmtl, Escm2, Esmm, Head, Independent, MakeAitm, MakeDbmtl, MakeEscm2Dr, MakeEscm2Ips
from umbel.nn.recommender import PLAIN, Parts, Recommender, Sizes
from umbel.objectives import CrossEntropy, Focal, Listwise, Pairwise
from umbel.recipes import RECIPES, aitm, alone, escm2, esmm
from umbel.run import resolve
from umbel.run.settings import Settings, parse
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

SIZES = Sizes(everykind.VOCABULARY, dim=3, expert=(4,))
CHAINED = Schema(everykind.FIELDS, (Task("click"), Task("like", given="click"), Task("buy", given="like")))
VOICE = (0, 1, 2, 3)


def settings(head: Choice | None, recipe: str = "mmoe") -> Settings:
    return parse(
        {
            "data": {"log": "log.parquet"},
            "fields": {"user": {"kind": "id"}},
            "tasks": {"click": {}, "buy": {"given": "click"}, "like": {}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1},
            "model": {"recipe": recipe} | ({} if head is None else {"head": head}),
        },
        where="here",
    )


def made(head: Choice | None, recipe: str = "mmoe") -> Head:
    one = settings(head, recipe)
    model = resolve.built(one, {"user": 3})(resolve.schema(one))
    return model.head


@pytest.mark.parametrize(("head", "kind"), [
    (None, Independent), ("independent", Independent), ("esmm", Esmm), ("escm2_ips", Escm2), ("escm2_dr", Escm2), ("aitm", Aitm),
    ("dbmtl", Dbmtl), ({"name": "dbmtl", "edges": [["like", "click"]]}, Dbmtl),
])  # fmt: skip
def test_a_head_by_name(head: Choice | None, kind: type[Head]) -> None:
    assert isinstance(made(head), kind)


def test_every_head_is_listed_under_its_name() -> None:
    assert all(getattr(make, "name", None) == name for name, make in HEADS.items())


def test_its_parameters_reach_it() -> None:
    robust = made({"name": "escm2_dr", "counterfactual": 0.5, "entire": 0, "least": 0.2, "imputation": 3})
    assert isinstance(robust, Escm2)
    assert (robust.risks.counterfactual, robust.risks.entire, robust.risks.least, robust.risks.imputation) == (0.5, 0.0, 0.2, 3.0)
    plain = made({"name": "escm2_ips", "least": 0.5})
    assert isinstance(plain, Escm2)
    assert (plain.risks.least, plain.risks.imputation, plain.auxiliary) == (0.5, 0.0, ())
    graph = made({"name": "dbmtl", "edges": [["like", "click"], ["click", "buy"]]})
    assert isinstance(graph, Dbmtl)
    assert graph.above == ((2,), (0,), ())
    handing = made({"name": "aitm", "calibrator": 0})
    assert isinstance(handing, Aitm)
    assert handing.calibrator == 0


@pytest.mark.parametrize("choice", [
    "esmm", {"name": "escm2_dr", "least": 0.25}, {"name": "dbmtl", "edges": [["click", "buy"], ["like", "buy"]]},
    {"name": "aitm", "calibrator": 1},
])  # fmt: skip
def test_a_choice_survives_the_run_file_and_the_bundle(choice: Choice) -> None:
    one = settings(choice)
    again = parse(tomllib.loads(one.to_toml()), where="again")
    assert again == one
    built = resolve.built(one, everykind.VOCABULARY)
    assert Built.from_json(json.loads(json.dumps(asdict(built)))) == built
    assert choose("model.head", choice, HEADS) == choose("model.head", spell(choose("model.head", choice, HEADS)), HEADS)


def test_no_head_is_the_recipe_s_own() -> None:
    assert "head =" not in settings(None).to_toml()
    assert isinstance(made(None, "esmm"), Esmm)
    assert isinstance(made(None, "escm2"), Escm2)
    assert isinstance(made(None, "aitm"), Aitm)
    assert isinstance(made("independent", "aitm"), Independent)
    assert isinstance(made({"name": "escm2_ips"}, "esmm"), Escm2)
    assert Built("esmm", SIZES).head is None


@pytest.mark.parametrize(("head", "says"), [
    ("esm", "model.head: no 'esm'; did you mean 'esmm'?"),
    ({"edges": []}, "model.head: 'name' is missing"),
    ({"name": "aitm", "calibrater": 1}, "model.head: 'aitm' has no parameter 'calibrater'; did you mean 'calibrator'?"),
    ({"name": "aitm", "calibrator": -0.1}, "model.head: aitm: calibrator = -0.1; give a weight, 0 or more"),
    ({"name": "aitm", "calibrator": "much"}, "model.head.calibrator = 'much'; input should be a valid number"),
    ({"name": "escm2_ips", "counterfactual": 0}, "model.head: escm2_ips: counterfactual = 0; give a weight above 0; without it use 'esmm'"),
    ({"name": "escm2_ips", "entire": -1}, "model.head: escm2_ips: entire = -1; give a weight, 0 or more"),
    ({"name": "escm2_ips", "least": 0}, "model.head: escm2_ips: least = 0; give the least propensity, above 0 and at most 1"),
    ({"name": "escm2_dr", "least": 1.5}, "model.head: escm2_dr: least = 1.5"),
    ({"name": "escm2_dr", "imputation": 0}, "model.head: escm2_dr: imputation = 0; give a weight above 0; without it use 'escm2_ips'"),
    ({"name": "escm2_dr", "imputation": -2}, "model.head: escm2_dr: imputation = -2; give a weight, 0 or more"),
    ({"name": "escm2_ips", "imputation": 1}, "model.head: 'escm2_ips' has no parameter 'imputation'"),
    ({"name": "dbmtl", "edges": [["click", "bye"]]}, "model.head.edges: no task 'bye'; did you mean 'buy'?"),
    ({"name": "dbmtl", "edges": [["click", "buy"], ["buy", "click"]]}, "is a circle; leave one of these edges out"),
    ({"name": "dbmtl", "edges": [["click", "click"]]}, "model.head.edges: 'click' reads itself"),
    ({"name": "dbmtl", "edges": [["click", "buy", "like"]]}, "model.head.edges"),
    ({"name": "dbmtl", "edges": ["click"]}, "model.head.edges"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_before_the_log_is_read(head: Choice, says: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve.check(settings(head))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("section", "key"), [("model", "head"), ("tasks", "kind")])
def test_what_is_no_name_is_told_its_key(section: str, key: str) -> None:
    tree = settings(None).model_dump(exclude_none=True)
    (tree[section] if section == "model" else tree[section]["click"])[key] = 3
    with pytest.raises(UserError) as caught:
        parse(tree, where="run.toml")
    place = f"{section}.{key}" if section == "model" else f"{section}.click.{key}"
    assert str(caught.value) == f"run.toml: {place} = 3; input should be a valid string"


CHAIN_HEADS = ("esmm", "escm2_ips", "escm2_dr", "aitm")


@pytest.mark.parametrize("head", CHAIN_HEADS)
def test_a_head_of_chains_needs_one(head: str) -> None:
    """A task given nothing, and one that is given an event but is none itself, make no chain."""
    make = choose("model.head", head, HEADS)
    for tasks in ((Task("click"), Task("like")), (Task("click"), Task("spent", REGRESSION, given="click"))):
        with pytest.raises(UserError, match=f"model.head: '{head}' needs a binary task given another") as caught:
            make(Schema(everykind.FIELDS, tasks), VOICE, widths=(4, 3), dropout=0.0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", CHAIN_HEADS)
@pytest.mark.parametrize(("tasks", "named"), [
    ((Task("click", negatives=0.5), Task("buy", given="click")), "click"),
    ((Task("click", loss=CrossEntropy(positive=3.0)), Task("buy", given="click")), "click"),
    ((Task("click"), Task("buy", given="click", negatives=0.1)), "buy"),
    ((Task("click"), Task("buy", given="click", loss=Focal())), "buy"),
    ((Task("click", loss=Focal()), Task("buy", given="click")), "click"),
    ((Task("click", loss=Listwise()), Task("buy", given="click")), "click"),
    ((Task("buy", given="cart"), Task("click", loss=Focal(gamma=0.5)), Task("cart", given="click")), "click"),
])  # fmt: skip
def test_a_loss_that_the_chain_would_not_heed_is_refused(head: str, tasks: tuple[Task, ...], named: str) -> None:
    with pytest.raises(UserError, match=f"tasks.{named}: head '{head}' multiplies chances, and takes no 'loss' or 'negatives'"):
        choose("model.head", head, HEADS)(Schema(everykind.FIELDS, tasks), VOICE, widths=(4, 3), dropout=0.0)


@pytest.mark.parametrize("head", CHAIN_HEADS)
def test_beside_a_chain_and_at_its_begin_a_task_may_choose(head: str) -> None:
    """At its begin, whose loss is the task's own, among those that are least at the chance."""
    tasks = (Task("click", loss=Pairwise()), Task("buy", given="click"), Task("like", negatives=0.5, loss=Focal()))
    assert choose("model.head", head, HEADS)(Schema(everykind.FIELDS, tasks), VOICE, widths=(4, 3), dropout=0.0).hears[2] == (2,)


def test_a_circle_of_givens_never_reaches_a_head() -> None:
    with pytest.raises(UserError, match=r"tasks\.a: 'given' runs in a circle"):
        Schema((Field("user", FieldKind.ID),), (Task("a", given="b"), Task("b", given="a")))


@pytest.mark.parametrize(("recipe", "head"), [(esmm, "esmm"), (escm2, "escm2_dr"), (aitm, "aitm")])
def test_a_published_recipe_is_a_network_a_task_over_one_embedding(recipe: object, head: str) -> None:
    assert callable(recipe)
    model: Recommender = recipe(CHAINED, sizes(specific=2))
    assert type(model.head) is type(choose("model.head", head, HEADS)(CHAINED, VOICE, widths=(4, 3), dropout=0.0))
    assert model.views.views == 1
    assert {name for name in model.groups() if "expert" in name} == {f"layer 0 expert {number}" for number in range(6)}
    assert model.reach["layer 0 expert 0"] == (0, 1, 2)
    assert model.reach["layer 0 expert 5"] == (2,)


@pytest.mark.parametrize("recipe", ["esmm", "escm2", "aitm"])
def test_without_a_chain_its_towers_are_independent(recipe: str) -> None:
    """As the recipe `alone` over one view, number for number."""
    one, other = (everykind.build(name, "shared", sizes(), tasks=3) for name in (recipe, "alone"))
    other.load_state_dict(one.state_dict())
    assert isinstance(one.head, Independent)
    assert one(fields()).equal(other(fields()))


def dense(*widths: int) -> int:
    return sum(fan_in * out + out for fan_in, out in pairwise(widths))


@pytest.mark.parametrize(("head", "count"), [
    ("independent", 3 * dense(8, 6, 1)),
    ("esmm", 3 * dense(8, 6, 1)),
    ("escm2_ips", 3 * dense(8, 6, 1)),
    ("escm2_dr", 5 * dense(8, 6, 1)),                                               # an imputation for like and for buy
    ("aitm", 3 * dense(8, 6, 1) + 2 * dense(8, 8) + 3 * dense(8, 8)),               # handed on twice; V, K and Q
    ("dbmtl", dense(8, 6, 1) + 2 * dense(8 + 6, 6, 1)),                             # like reads click, buy reads like
])  # fmt: skip
def test_numbers_of_a_head_by_hand(head: str, count: int) -> None:
    model = alone(CHAINED, sizes(), parts=Parts(head=choose("model.head", head, HEADS)))
    assert sum(parameter.numel() for parameter in model.head.parameters()) == count


@pytest.mark.parametrize("head", HEADS)
def test_outputs_are_the_tasks_then_the_auxiliary_ones(head: str) -> None:
    model = alone(CHAINED, sizes(), parts=Parts(head=HEADS[head]()))
    assert model(fields(5)).shape == (5, 3 + len(model.head.auxiliary))
    assert len(set(model.head.auxiliary)) == len(model.head.auxiliary)


def test_defaults() -> None:
    assert (MakeEscm2Ips(), MakeAitm(), MakeDbmtl()) == (MakeEscm2Ips(0.1, 1.0, 0.05), MakeAitm(0.6), MakeDbmtl(None))
    assert MakeEscm2Dr() == MakeEscm2Dr(0.1, 1.0, 0.05, imputation=1.0)
    assert PLAIN.head is None
    assert {"esmm", "escm2", "aitm"} <= set(RECIPES)

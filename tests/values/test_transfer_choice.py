"""What a study of transfer recommends of a run file: what was trained, by its name and its settings; and what it looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import everykind
from torch import Tensor

from umbel.errors import UserError
from umbel.run import resolve
from umbel.run.section import OptionSection
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence
from umbel.study.entrants import Entrant, control
from umbel.study.transfer.advice import Action, advise
from umbel.study.transfer.transfer import _choice, _choices, _chosen, run_transfer
from umbel.study.trial import Trial
from umbel.study.tune.tune import run_tune
from umbel.study.verdict import Comparison, Standing

GROUPS = [["click"], ["like", "buy"]]
BEST = Trial(0.9, 1, 1.0, 1.0, 1)


def settings(model: dict[str, object] | None = None, **sections: object) -> Settings:
    return parse(
        {
            "data": {"log": "nowhere.parquet"},
            "fields": {"user": {"kind": "id"}, "item": {"kind": "id"}},
            "tasks": {"click": {}, "like": {}, "buy": {}},
            "split": {"by": "user", "valid": 0.1, "test": 0.1},
            "model": {"recipe": "stem", **(model or {})},
            **sections,
        },
        where="here",
    )


@pytest.mark.parametrize(("model", "recipe", "action"), [
    ({}, "alone", Action.SEPARATE),
    ({"views": "shared"}, "alone", Action.SEPARATE),
    ({}, "mmoe", Action.SHARE),
    ({}, "stem", Action.OWN_VIEWS),
    ({"views": "shared"}, "stem", Action.SHARE),
    ({"views": "own"}, "mmoe", Action.OWN_VIEWS),
    ({"recipe": "grouped", "options": {"groups": GROUPS}}, "grouped", Action.GROUP),
    ({"recipe": "stem_fields", "options": {"own": ["item"]}}, "stem_fields", Action.OWN_FIELDS),
])  # fmt: skip
def test_an_entrant_means_what_it_is_trained_as(model: dict[str, object], recipe: str, action: Action) -> None:
    asked = settings(model)
    found = _choice(asked, resolve.schema(asked), recipe)
    assert found.action is action
    if action in (Action.GROUP, Action.OWN_FIELDS):
        assert found.options == asked.model.options


KINDS: dict[str, object] = {"click": {}, "watched": {"kind": "lognormal"}, "like": {}, "paid": {"kind": "regression"}}
FIELDS: dict[str, object] = {"device": {"kind": "category"}, "user": {"kind": "id"}, "item": {"kind": "id"}}
SAID = {
    "grouped": "Share inside these groups of tasks and nowhere else: click with like; watched alone; paid alone (grouped, the best",
    "stem_fields": "embeddings of its own beside the shared ones for these fields only: user, item (stem_fields, the best",
}


@pytest.mark.parametrize("options", [{}, {"groups": [], "own": []}])
@pytest.mark.parametrize("recipe", SAID)
def test_what_a_recipe_parts_by_itself_is_named(recipe: str, options: dict[str, object]) -> None:
    """Groups by kind and ids, where the run file names none: in the sentence, and beside it."""
    own = {name: value for name, value in options.items() if (name == "groups") == (recipe == "grouped")}
    asked = settings({"recipe": recipe, "options": own}, tasks=KINDS, fields=FIELDS)
    choices = {name: _choice(asked, resolve.schema(asked), name) for name in ("alone", recipe)}
    found = advise(Comparison({}, (standing("alone", 0.001, 8), replace(standing(recipe, 0.001, 8), cost=BEST)), ()), choices)
    assert SAID[recipe] in found.says[0]
    parts = (found.groups, found.fields)
    assert parts == (((("click", "like"), ("watched",), ("paid",)), None) if recipe == "grouped" else (None, ("user", "item")))


def answered(asked: Settings) -> Tensor:
    """What the run file's model says of a few rows before anything is learned."""
    schema = resolve.schema(asked)
    torch.manual_seed(1)
    model = everykind.awake(resolve.built(asked, dict.fromkeys(schema.tables, 5))(schema)).eval()
    logits: Tensor = model({name: torch.arange(5) for name in schema.tables})
    return logits.detach()


@pytest.mark.parametrize("recipe", SAID)
def test_what_is_named_is_what_is_trained(recipe: str) -> None:
    """The model that is told its own defaults answers as the one that is told nothing; told others, it does not."""
    asked = settings({"recipe": recipe}, tasks=KINDS, fields=FIELDS)
    others = OptionSection(groups=(("click", "watched"), ("like", "paid"))) if recipe == "grouped" else OptionSection(own=("device",))
    plain, same, other = (
        answered(asked if options is None else asked.model_copy(update={"model": asked.model.model_copy(update={"options": options})}))
        for options in (None, _choice(asked, resolve.schema(asked), recipe).options, others)
    )
    assert torch.equal(plain, same)
    assert not torch.equal(plain, other)


def test_fields_without_an_id_are_all_of_them() -> None:
    asked = settings({"recipe": "stem_fields"}, fields={"hour": {"kind": "category"}, "age": {"kind": "number"}})
    assert _choice(asked, resolve.schema(asked), "stem_fields").options == OptionSection(own=("hour", "age"))


def test_what_the_probes_ask_for_keeps_its_groups() -> None:
    asked = settings()
    more = (
        Entrant("{click} {like, buy}", "grouped", options=OptionSection(groups=(("click",), ("like", "buy")))),
        Entrant("stem_fields user", "stem_fields", options=OptionSection(own=("user",))), control("mmoe", 2),
    )
    found = _choices(more, resolve.schema(asked))
    assert {name: (one.action, one.options) for name, one in found.items()} == {
        "{click} {like, buy}": (Action.GROUP, more[0].options), "stem_fields user": (Action.OWN_FIELDS, more[1].options)}


def standing(name: str, rate: float, dim: int) -> Standing:
    return Standing(name, {"rate": rate, "dim": dim}, {}, {}, Trial(0.7, 1, 1.0, 1.0, 1), {}, ())


def test_what_is_looked_at_was_compared() -> None:
    """Each recipe at the rate and the width that it chose; the one that was not compared as the run file says."""
    asked = settings(compare={"recipes": ["alone", "stem"], "rates": [0.001, 0.003], "dims": [4, 8]})
    made = _chosen(asked, Comparison({}, (standing("alone", 0.001, 8), standing("stem", 0.003, 4)), ()))
    assert {name: (one.fit.rate, one.model.dim) for name, one in made.items()} == {
        "alone": (0.001, 8), "stem": (0.003, 4), "shared_bottom": (0.001, 4)}


@pytest.mark.parametrize("verb", ["transfer", "tune"])
def test_a_cold_start_is_refused_before_anything_is_read(verb: str, tmp_path: Path) -> None:
    asked, out = settings(episodes={"method": "melu"}), tmp_path / "out"
    with pytest.raises(UserError, match=rf"{verb}: .*\[episodes\]"):
        if verb == "transfer":
            run_transfer(asked, out, jobs=1, watch=Silence())
        else:
            run_tune(asked, out, trials=1, jobs=1, watch=Silence())
    assert not out.exists()

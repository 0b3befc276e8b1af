"""What a study of transfer recommends of a run file: what was trained, by its name and its settings; and what it looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

from umbel.errors import UserError
from umbel.run import resolve
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence
from umbel.study.transfer.advice import Action
from umbel.study.transfer.transfer import _choice, _chosen, run_transfer
from umbel.study.trial import Trial
from umbel.study.tune.tune import run_tune
from umbel.study.verdict import Comparison, Standing

GROUPS = [["click"], ["like", "buy"]]


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

"""From probes to what they ask for: groups, fields, and the entrants that put them to the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from umbel.kinds import LogNormal, ZeroInflated
from umbel.run.section import OptionSection
from umbel.schema import Field, FieldKind, Schema, Task
from umbel.study.transfer.gradients import Affinity, Conflict
from umbel.study.transfer.probed import checks, entrant_name, fields_name, probed
from umbel.study.transfer.witness import Probe, Witnessed

FIELDS = (
    Field("user", FieldKind.ID), Field("item", FieldKind.ID), Field("watched", FieldKind.SEQUENCE, like="item"),
    Field("device", FieldKind.CATEGORY), Field("age", FieldKind.NUMBER),
)  # fmt: skip
SCHEMA = Schema(FIELDS, (Task("click"), Task("like"), Task("buy")))
PAIR = ("click", "like")


def seen(*epochs: tuple[Affinity, ...], conflicts: tuple[Conflict, ...] = ()) -> Witnessed:
    """As many epochs before them, in which everything is the other way round."""
    wrong = (Conflict("table user", PAIR, 1.0, 0.0),), (Affinity("like", "click", -9.0),)
    early = [Probe(number, *wrong, (), ()) for number in range(len(epochs))]
    return Witnessed((*early, *(Probe(number, conflicts, helps, (), ()) for number, helps in enumerate(epochs, start=len(epochs)))), ())


HELPFUL = seen(
    (Affinity("click", "like", 0.4), Affinity("like", "click", 0.2), Affinity("buy", "click", -0.3)),
    (Affinity("click", "like", 0.6), Affinity("buy", "like", -0.2), Affinity("click", "buy", -0.1)),
    conflicts=(
        Conflict("view", PAIR, 0.1, 0.3), Conflict("table user", PAIR, -0.1, 0.7), Conflict("table user", ("click", "buy"), -0.2, 0.4),
        Conflict("table item", PAIR, 0.0, 0.5), Conflict("table device", PAIR, 0.2, 0.1),
    ),
)  # fmt: skip


@pytest.mark.parametrize(("epochs", "late"), [(0, []), (1, [0]), (2, [1]), (3, [1, 2]), (6, [3, 4, 5])])
def test_the_later_half(epochs: int, late: list[int]) -> None:
    found = Witnessed(tuple(Probe(number, (), (), (), ()) for number in range(epochs)), ())
    assert [one.epoch for one in found.late] == late


def test_help_is_the_mean_over_late_epochs() -> None:
    expected = np.array([[0, 0.5, -0.1], [0.2, 0, 0], [-0.3, -0.2, 0]])
    np.testing.assert_allclose(HELPFUL.affinity(("click", "like", "buy")), expected)


def test_conflict_is_the_mean_over_pairs_and_late_epochs() -> None:
    assert HELPFUL.conflict("table user") == pytest.approx(0.55)
    assert HELPFUL.conflict("table region") is None
    assert seen().conflict("view") is None


def test_what_the_probes_ask_for() -> None:
    found = probed(SCHEMA, HELPFUL)
    assert found.tasks == ("click", "like", "buy")
    assert found.groupings[0].groups == (("click", "like"), ("buy",))
    assert found.groupings[0].worth == pytest.approx((0.2 + 0.5) / 3)
    assert len(found.groupings) == 5
    # A sequence reads the items' table; a number has none.
    assert found.pulled == pytest.approx({"user": 0.55, "item": 0.5, "watched": 0.5, "device": 0.1})
    assert found.own == ("user", "item", "watched")


def test_tasks_whose_help_is_told_in_nats() -> None:
    kinds = (Task("click"), Task("like", LogNormal()), Task("buy", ZeroInflated()))
    assert probed(Schema(FIELDS, kinds), HELPFUL).nats == ("like", "buy")
    assert probed(SCHEMA, HELPFUL).nats == ()


def test_partitions_that_are_recipes_bear_their_names() -> None:
    tasks = ("click", "like", "buy")
    assert entrant_name(((0,), (1,), (2,)), tasks) == "alone"
    assert entrant_name(((0, 1, 2),), tasks) == "mmoe"
    assert entrant_name(((0, 2), (1,)), tasks) == "{click, buy} {like}"


def told(trained: int, *, controls: bool = True, own: tuple[str, ...] = ("user", "item")) -> list[str]:
    found = replace(probed(SCHEMA, HELPFUL), own=own)
    return [one.name for one in checks(found, SCHEMA, trained=trained, controls=controls)]


def test_the_first_groupings_are_trained_with_their_width_controls() -> None:
    assert told(1) == ["{click, like} {buy}", "stem_fields user, item", "mmoe x2"]
    assert told(1, controls=False) == ["{click, like} {buy}", "stem_fields user, item"]
    assert told(0) == ["stem_fields user, item"]
    assert told(5)[:1] == ["{click, like} {buy}"]
    assert not {"alone", "mmoe"} & set(told(5))  # they are trained anyway


def test_fields_are_parted_where_some_are_and_some_are_not() -> None:
    assert told(0, own=()) == []
    assert told(0, own=tuple(field.name for field in FIELDS)) == []
    assert fields_name(("user",)) == "stem_fields user"


def test_entrants_carry_their_options() -> None:
    grouped, fields, control = checks(probed(SCHEMA, HELPFUL), SCHEMA, trained=1, controls=True)
    assert (grouped.recipe, grouped.options) == ("grouped", OptionSection(groups=(("click", "like"), ("buy",))))
    assert (fields.recipe, fields.options) == ("stem_fields", OptionSection(own=("user", "item", "watched")))
    assert (control.recipe, control.wider, control.options) == ("mmoe", 2, None)


def test_nothing_was_seen() -> None:
    found = probed(SCHEMA, Witnessed((), ()))
    assert found.helps == ((0.0,) * 3,) * 3
    assert (found.pulled, found.own) == ({}, ())

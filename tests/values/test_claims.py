"""What a demonstration may claim: every sentence follows from its figures, and capacity is called capacity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.evaluate.intervals import Interval
from umbel.study.claims import MARGIN, Agreement, Conflict, Gap, agreement_claims, conflict_claims


def gap(low: float, high: float, seeds: Sequence[float] | None = None) -> Gap:
    middle = (low + high) / 2
    return Gap(Interval(middle, low, high), tuple(seeds or (middle, middle)))


UP, DOWN, AROUND = gap(0.004, 0.008), gap(-0.03, -0.02), gap(-0.002, 0.003)
PAPER = Conflict(lost=gap(0.02, 0.03), regained=gap(0.02, 0.03), left=AROUND, width=UP, widened=gap(0.01, 0.02))


def holds(found: Conflict) -> list[bool]:
    return [claim.holds for claim in conflict_claims(found)]


def test_the_papers_message() -> None:
    claims = conflict_claims(PAPER)
    assert [claim.holds for claim in claims] == [True, True, True]
    assert [claim.says.split(":")[0] for claim in claims] == [
        "sharing loses",
        "views of one's own win it back",
        "it was not capacity alone",
    ]


@pytest.mark.parametrize("width", [AROUND, DOWN, gap(0.0, 0.004)], ids=["open", "below", "touching"])
def test_a_control_that_takes_the_gap_away_is_called_capacity(width: Gap) -> None:
    last = conflict_claims(replace(PAPER, width=width))[-1]
    assert not last.holds
    assert last.says.startswith("it was capacity, not the views: stem against the best shared view of its total width")
    assert holds(replace(PAPER, width=width))[:2] == [True, True]


def test_the_share_that_width_wins_is_said() -> None:
    last = conflict_claims(PAPER)[-1]
    assert last.says.endswith("of the 0.0250 won back, width alone wins 0.0150")


def test_a_share_is_not_said_where_width_wins_nothing() -> None:
    last = conflict_claims(replace(PAPER, widened=gap(-0.02, -0.01)))[-1]
    assert last.holds
    assert "width alone wins" not in last.says


@pytest.mark.parametrize("lost", [AROUND, DOWN])
def test_no_loss_no_claim(lost: Gap) -> None:
    first = conflict_claims(replace(PAPER, lost=lost))[0]
    assert not first.holds
    assert first.says.startswith("no loss was found")


def test_winning_back_needs_both_a_gain_and_what_separate_models_have() -> None:
    assert holds(replace(PAPER, regained=AROUND)) == [True, False, True]
    assert holds(replace(PAPER, left=gap(-0.02, -0.01))) == [True, False, True]
    assert holds(replace(PAPER, left=UP)) == [True, True, True]


@pytest.mark.parametrize(("low", "kept"), [(-MARGIN + 1e-6, True), (-MARGIN, False), (-MARGIN - 1e-6, False)])
def test_the_margin_is_where_it_is_said_to_be(low: float, kept: bool) -> None:
    found = Agreement(gained=UP, kept=gap(low, 0.01))
    assert agreement_claims(found)[1].holds is kept
    assert f"margin {MARGIN:g}" in agreement_claims(found)[1].says


def test_another_margin() -> None:
    found = Agreement(gained=UP, kept=gap(-0.008, 0.001))
    assert not agreement_claims(found)[1].holds
    assert agreement_claims(found, margin=0.01)[1].holds


@pytest.mark.parametrize(("gained", "found"), [(UP, True), (AROUND, False), (DOWN, False)])
def test_sharing_helps_or_it_is_not_said(gained: Gap, found: bool) -> None:
    first = agreement_claims(Agreement(gained=gained, kept=AROUND))[0]
    assert first.holds is found
    assert first.says.startswith("sharing helps" if found else "no gain was found")


def test_one_seed_against_the_others_is_no_finding() -> None:
    """The interval is over users; a seed of the other sign says that training decides, not the recipe."""
    assert not gap(0.004, 0.008, seeds=(0.014, -0.002)).above
    assert gap(0.004, 0.008, seeds=(0.010, 0.002)).above


def test_without_bounds_nothing_is_claimed() -> None:
    bare = Gap(Interval(0.05, None, None, "9 users are too few to resample"), (0.05,))
    assert not bare.above
    assert not bare.within(0.1)
    assert str(bare) == "+0.0500"
    assert holds(Conflict(bare, bare, bare, bare, bare)) == [False, False, False]


def test_figures_are_in_the_sentence() -> None:
    assert str(UP) == "+0.0060 (+0.0040 to +0.0080)"
    assert str(UP) in conflict_claims(PAPER)[-1].says
    assert str(PAPER.lost) in conflict_claims(PAPER)[0].says


numbers = st.floats(-0.1, 0.1)


@given(numbers, numbers, numbers, numbers)
def test_not_capacity_is_never_said_of_an_interval_that_reaches_0(low: float, high: float, one: float, other: float) -> None:
    low, high = min(low, high), max(low, high)
    last = conflict_claims(replace(PAPER, width=gap(low, high, seeds=(one, other))))[-1]
    assert last.holds == (low > 0 and one > 0 and other > 0)
    assert last.says.startswith("it was not capacity alone" if last.holds else "it was capacity")

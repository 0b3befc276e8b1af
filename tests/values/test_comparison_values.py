"""What the comparison's page reads out of compare.json, piece by piece; and axes under any numbers."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from umbel.evaluate.figures import Point
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.run.compared import Across, Entrant, Pair
from umbel.run.markup import number, signed, span
from umbel.run.names import FALLS, MEANINGS, TITLES
from umbel.run.plots import Axis, Frame, curves, reliability


def pair(verdict: str, metric: str = "auc") -> Pair:
    return Pair("click", "stem", "alone", metric, 0.01, 0.005, 0.015, (0.01,), None, 0.01, verdict)


def test_a_mean_over_seeds_is_an_interval_or_a_reason() -> None:
    assert Across(0.7, 0.6, 0.8).measured == Interval(0.7, 0.6, 0.8)
    assert Across(0.7, None, None, reason="9 users").measured == Interval(0.7, None, None, "9 users")
    assert Across(None, reason="no positive row").measured == Undefined("no positive row")


def test_seeds_are_listed() -> None:
    assert Across(0.7, seeds=(0.69, None, 0.71)).note == "seeds 0.6900, —, 0.7100"
    assert Across(0.7).note == ""


@pytest.mark.parametrize(
    ("name", "chosen", "control"),
    [
        ("stem", {"recipe": "stem"}, False),
        ("ple x4", {"recipe": "ple"}, True),
        ("stem, cross layers, ple x4", {"recipe": "ple"}, True),
        ("ple x4", {"recipe": "ple x4"}, False),
        ("trees + target means", {"recipe": "trees + target means"}, False),
        ("stem", {}, False),
    ],
)
def test_a_width_control_is_known_by_its_name_and_recipe(name: str, chosen: dict[str, object], control: bool) -> None:
    assert Entrant(name, {}, chosen).control is control


@pytest.mark.parametrize("metric", ["auc", "gauc", "pr_auc", "r2"])
def test_higher_is_better_for_what_rises(metric: str) -> None:
    assert pair("higher", metric).better is True
    assert pair("lower", metric).better is False


@pytest.mark.parametrize("metric", sorted(FALLS))
def test_lower_is_better_for_what_falls(metric: str) -> None:
    assert pair("higher", metric).better is False
    assert pair("lower", metric).better is True


@pytest.mark.parametrize("verdict", ["equal", "open"])
def test_other_verdicts_say_nothing(verdict: str) -> None:
    assert pair(verdict).better is None


def test_every_metric_has_a_title_and_a_meaning() -> None:
    explained = " ".join(MEANINGS)
    for title in TITLES.values():
        assert title in explained
    assert set(TITLES) >= FALLS


def test_bounds_as_text() -> None:
    assert span(Interval(0.7, 0.6, 0.8)) == "0.6000 – 0.8000"
    assert span(Interval(0.7, None, None, "too few")) == "too few"


@settings(deadline=None)
@given(st.floats(-1e6, 1e6))
def test_a_number_as_text_keeps_its_sign_and_size(value: float) -> None:
    back = float(number(value).replace(",", ""))
    assert back == pytest.approx(value, rel=0.06, abs=6e-5)
    assert signed(value)[0] in "+−"


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_any_plain_axis_has_a_few_ticks_inside(low: float, size: float) -> None:
    axis = Axis(low, low + size, "")
    assume(size > 1e-9 * abs(low))
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 11
    slack = size * 1e-6
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)
    assert ticks == sorted(ticks)


@settings(max_examples=100, deadline=None)
@given(st.floats(-9, 0), st.floats(0.3, 9))
def test_any_logarithmic_axis_has_its_ticks_inside(start: float, decades: float) -> None:
    axis = Axis(10**start, 10 ** (start + decades), "", log=True)
    ticks = axis.ticks()
    assert ticks == sorted(ticks)
    assert all(axis.low * 0.999 <= tick <= axis.high * 1.001 for tick in ticks)
    assert len(ticks) >= 1 or decades < 0.4


@settings(deadline=None)
@given(st.integers(1, 200))
def test_epochs_are_whole_numbers(epochs: int) -> None:
    ticks = Axis(1, max(2, epochs), "epoch", whole=True).ticks()
    assert all(tick == int(tick) for tick in ticks)
    assert len(ticks) >= 2


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_nothing_is_drawn_outside_the_frame(across: float, up: float) -> None:
    left, top = Frame(Axis(0, 1, "x"), Axis(-1, 1, "y")).place(across, up)
    assert 44 <= left <= 292
    assert 10 <= top <= 160


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12))
def test_any_bins_can_be_drawn(bins: list[tuple[float, float]]) -> None:
    drawn = reliability([Point(predicted, observed, 7) for predicted, observed in bins], name="click", colour=0)
    assert drawn.count("<circle") == len(bins)
    assert "nan" not in drawn


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=40))
def test_any_curve_can_be_drawn(values: list[float | None]) -> None:
    drawn = curves(values, name="loss", colour=0, best=1)
    assert drawn.count("<circle") == sum(value is not None for value in values)
    assert "nan" not in drawn

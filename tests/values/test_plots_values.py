"""Axes, ticks and marks of the pictures on numbers made by hand; numbers as text."""

from __future__ import annotations

import itertools
import re

import pytest

from umbel.evaluate.figures import Point
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.run import markup
from umbel.run.plots import Axis, curves, reliability, whisker


def centres(picture: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', picture)]


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 1, ""), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis(0.61, 0.66, ""), [0.61, 0.62, 0.63, 0.64, 0.65, 0.66]),
        (Axis(1, 10, "", whole=True), [2, 4, 6, 8, 10]),
        (Axis(1, 3, "", whole=True), [1, 2, 3]),
        (Axis(1, 2, "", whole=True), [1, 2]),
        (Axis(0.001, 1, "", log=True), [0.001, 0.01, 0.1, 1]),
        (Axis(0.02, 0.5, "", log=True), [0.03, 0.1, 0.3]),
        (Axis(0.1, 0.6, "", log=True), [0.1, 0.2, 0.5]),
        (Axis(-2, 2, ""), [-2, -1, 0, 1, 2]),
    ],
)
def test_ticks_are_round_and_inside(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


@pytest.mark.parametrize(("value", "place"), [(1, 0.0), (10, 0.5), (100, 1.0), (0, 0.0), (1e9, 1.0)])
def test_a_logarithmic_axis(value: float, place: float) -> None:
    assert Axis(1, 100, "", log=True).at(value) == pytest.approx(place)


@pytest.mark.parametrize(("value", "place"), [(1, 0.0), (50.5, 0.5), (100, 1.0), (-5, 0.0), (500, 1.0)])
def test_a_plain_axis_draws_what_lies_beyond_at_its_end(value: float, place: float) -> None:
    assert Axis(1, 100, "").at(value) == pytest.approx(place)


def test_falling_losses_go_down_the_picture_from_left_to_right() -> None:
    (x1, y1), (x2, y2), (x3, y3) = centres(curves([0.7, 0.6, 0.55], name="loss", colour=0))
    assert x1 < x2 < x3
    assert y1 < y2 < y3


def test_an_epoch_without_a_number_is_left_out() -> None:
    assert len(centres(curves([0.7, None, 0.55], name="loss", colour=0))) == 2
    assert "no epoch" in curves([None], name="loss", colour=0)
    assert "no epoch" in curves([], name="loss", colour=0)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5], [0.0, 0.0], [1e-9, 2e-9], [1e12]])
def test_flat_and_single_curves_are_drawn(values: list[float | None]) -> None:
    assert len(centres(curves(values, name="loss", colour=0))) == len(values)


def test_a_calibrated_model_lies_on_the_dashed_line() -> None:
    points = [Point(value, value, 10) for value in (0.1, 0.3, 0.5, 0.9)]
    picture = reliability(points, name="click", colour=0)
    x1, y1, x2, y2 = map(float, re.findall(r'class="guide" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', picture)[0])
    for x, y in centres(picture):
        assert y == pytest.approx(y1 + (y2 - y1) * (x - x1) / (x2 - x1), abs=0.1)


def test_ratings_that_lie_together_fill_the_frame() -> None:
    places = [x for x, _ in centres(reliability([Point(value, value, 10) for value in (3.1, 3.4, 3.8)], name="stars", colour=0))]
    assert max(places) - min(places) > 200
    near = [x for x, _ in centres(reliability([Point(value, value, 10) for value in (0.01, 0.05, 0.1)], name="click", colour=0))]
    assert min(near) < 80  # of what comes near 0, 0 is shown


def test_rare_events_get_logarithmic_axes() -> None:
    rare = reliability([Point(10.0**-k, 10.0**-k, 10) for k in range(4, 0, -1)], name="like", colour=0)
    places = [x for x, _ in centres(rare)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(places)]
    assert max(gaps) == pytest.approx(min(gaps), abs=0.2)


@pytest.mark.parametrize(
    "points",
    [
        [Point(0.3, 0.3, 10)],
        [Point(0.0, 0.0, 10)],
        [Point(0.001, 0.0, 10), Point(0.5, 0.4, 10)],
        [Point(0.0, 0.1, 10), Point(0.9, 1.0, 10)],
        [Point(-5.0, -4.0, 10), Point(12.0, 11.0, 10)],
        [Point(1e-9, 0.0, 10), Point(2e-9, 0.0, 10)],
    ],
)
def test_odd_reliability_curves_are_drawn_inside_the_frame(points: list[Point]) -> None:
    places = centres(reliability(points, name="x", colour=0))
    assert len(places) == len(points)
    for x, y in places:
        assert 0 <= x <= 300
        assert 0 <= y <= 190


def test_no_bins_say_so() -> None:
    assert "no row" in reliability([], name="x", colour=0)


def test_a_whisker_runs_from_low_to_high_on_the_tables_scale() -> None:
    drawn = whisker(Interval(0.6, 0.55, 0.7), low=0.5, high=0.9, guide=0.8)
    left, right = map(float, re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="8"', drawn)[0])
    (middle, _), mark = centres(drawn)[0], float(re.findall(r'class="guide" x1="([\d.]+)"', drawn)[0])
    assert [round((place - 4) / 102, 2) for place in (left, middle, right, mark)] == [0.13, 0.25, 0.5, 0.75]


def test_a_whisker_without_bounds_is_a_dot_and_without_a_scale_nothing() -> None:
    drawn = whisker(Interval(0.6, None, None), low=0.5, high=0.9)
    left, right = re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)"', drawn)[0]
    assert left == right
    assert "guide" not in drawn
    assert whisker(Interval(0.6, 0.6, 0.6), low=0.6, high=0.6) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.74163, "0.7416"),
        (-0.5, "-0.5000"),
        (9.99994, "9.9999"),
        (12.3456, "12.35"),
        (999.994, "999.99"),
        (12345.6, "12,346"),
        (0.0005, "0.0005"),
        (0.0004321, "4.3e-04"),
    ],
)
def test_numbers_as_text(value: float, text: str) -> None:
    assert markup.number(value) == text


def test_cells_hold_a_value_or_a_reason() -> None:
    assert markup.cell(Interval(0.5, 0.4, 0.6)) == "<td>0.5000<small>0.4000 – 0.6000</small></td>"
    assert markup.cell(Interval(0.5, None, None, "9 <users>")) == "<td>0.5000<small>9 &lt;users&gt;</small></td>"
    assert markup.cell(Undefined("a < b")) == '<td class="reason">—<small>a &lt; b</small></td>'
    assert markup.cell(None) == "<td></td>"
    assert markup.cell(Interval(0.5, None, None), strong=True) == "<td><b>0.5000</b></td>"


def test_tables_escape_their_heads_and_mark_rows() -> None:
    found = markup.table(["<a>", "b"], [[markup.words("<x>")], [markup.words("y", "<z>")]], marked=frozenset({1}))
    assert '<th scope="col">&lt;a&gt;</th>' in found
    assert "<tr><td>&lt;x&gt;</td></tr>" in found
    assert '<tr class="worst"><td>y<small>&lt;z&gt;</small></td></tr>' in found


def test_facts_glossary_and_folds_escape_what_they_are_given() -> None:
    made = markup.facts({"<k>": "<v>"}) + markup.glossary({"<k>": "<v>"}) + markup.folded("<s>", "<p>kept</p>")
    assert "<k>" not in made
    assert "<v>" not in made
    assert "<s>" not in made
    assert "<p>kept</p>" in made

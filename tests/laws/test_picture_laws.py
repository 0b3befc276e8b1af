"""Laws of pages and pictures: any text comes back as it was, any finite numbers make a picture whose marks lie inside it, in order."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from umbel.evaluate.figures import Point
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.run import markup, plots
from umbel.run.plots import HEIGHT, WIDTH, Axis, Frame, Line, curves, grown, key, reliability, side_by_side, swatch, whisker

TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12) | st.sampled_from(
    ["<b>", "&amp;", '"', "'", "</td>", "<script>alert(1)</script>", "a & b < c", "]]>", "&lt;"]
)
NUMBER = st.floats(-1e12, 1e12, allow_nan=False) | st.sampled_from([0.0, -0.0, 1e-9, 1e-300, 0.5, 1.0, -1.0, 1e12])
SHARE = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 1e-12, 1e-7, 0.5])
COUNT = st.integers(1, 10**9)
quick = settings(deadline=None, max_examples=40)


class Seen(HTMLParser):
    """The text of a piece of markup by tag, and every tag in order."""

    def __init__(self, piece: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(piece)
        self.close()
        assert not self.open, piece

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data


# text


@quick
@given(TEXT, TEXT, TEXT)
def test_a_row_s_name_note_and_badge_come_back(text: str, note: str, badge: str) -> None:
    found = Seen(markup.title_cell(text, note, badge))
    assert found.text.get("th", "") == text
    assert found.text.get("small", "") == note
    assert found.text.get("span", "") == badge
    assert found.tags == ["th", *(["span"] if badge else []), *(["small"] if note else [])]


@quick
@given(TEXT, TEXT)
def test_words_and_plain_text_come_back(text: str, note: str) -> None:
    found = Seen(markup.words(text, note))
    assert (found.text.get("td", ""), found.text.get("small", "")) == (text, note)
    assert Seen(markup.plain(text)).text.get("code", "") == text


@quick
@given(TEXT, st.lists(TEXT, max_size=3))
def test_sections_and_folds_hold_their_parts(title: str, parts: list[str]) -> None:
    cells = [markup.words(part) for part in parts]
    assert Seen(markup.section(title, *cells)).text.get("h2", "") == title
    folded = Seen(markup.folded(title, *cells))
    assert folded.text.get("summary", "") == title
    assert folded.text.get("td", "") == "".join(parts)
    assert Seen(markup.card(*cells)).tags == ["div", *["td"] * len(parts)]
    assert Seen(markup.grid(cells)).tags == ["div", *["td"] * len(parts)]


@quick
@given(st.dictionaries(TEXT, TEXT, max_size=4))
def test_facts_and_glossaries_say_every_entry_in_order(entries: dict[str, str]) -> None:
    facts, terms = Seen(markup.facts(entries)), Seen(markup.glossary(entries))
    assert (facts.text.get("b", ""), facts.text.get("span", "")) == ("".join(entries.values()), "".join(entries))
    assert (terms.text.get("dt", ""), terms.text.get("dd", "")) == ("".join(entries), "".join(entries.values()))


@quick
@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=4), st.data())
def test_a_table_marks_the_rows_it_is_told(head: list[str], rows: list[list[str]], data: st.DataObject) -> None:
    marked = data.draw(st.frozensets(st.integers(0, 5)))
    piece = markup.table(head, [[markup.words(cell) for cell in row] for row in rows], marked=marked)
    found = Seen(piece)
    assert found.tags.count("tr") == len(rows) + 1
    assert found.text.get("th", "") == "".join(head)
    assert found.text.get("td", "") == "".join(cell for row in rows for cell in row)
    lines = re.findall(r"<tr( class=\"worst\")?>", piece)[1:]
    assert [bool(line) for line in lines] == [at in marked for at in range(len(rows))]


@quick
@given(TEXT)
def test_a_page_is_whole_and_loads_nothing(title: str) -> None:
    page = markup.document(title, [markup.words(title)])
    found = Seen(page.removeprefix("<!doctype html>"))
    assert found.text.get("title", "") == title
    assert "http" not in page.replace(escape(title), "")
    assert found.tags.count("script") == 0


# numbers in cells


@quick
@given(NUMBER)
def test_a_number_is_told_to_its_digits(value: float) -> None:
    """Nearest among what its form can say: four decimals, four digits, or none after the point."""
    told = markup.number(value)
    size = abs(value)
    error = abs(float(told.replace(",", "")) - value)
    assert error <= (0.5 if size >= 1000 else 0.005 if size >= 10 else 5e-5 if size >= 5e-4 else 0.051 * size) * (1 + 1e-9)
    assert len(told.lstrip("-").replace(",", "")) <= max(8, len(f"{size:.0f}"))


@quick
@given(NUMBER)
def test_a_difference_has_its_sign(value: float) -> None:
    told = markup.signed(value)
    assert told[0] == ("−" if math.copysign(1, value) < 0 else "+")
    assert abs(float(told.replace("−", "-")) - value) <= 5e-5 + 1e-9 * abs(value)


@quick
@given(st.integers(0, 10**15))
def test_a_count_keeps_its_digits(value: int) -> None:
    assert int(markup.count(value).replace(",", "")) == value
    assert all(len(piece) == 3 for piece in markup.count(value).split(",")[1:])


BOUNDS = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3).map(sorted)


@quick
@given(BOUNDS, st.booleans(), TEXT)
def test_a_cell_says_its_value_and_its_bounds_or_why_there_are_none(bounds: list[float], strong: bool, reason: str) -> None:
    low, value, high = bounds
    found = Seen(markup.cell(Interval(value, low, high), strong=strong))
    assert found.text["b" if strong else "td"] == markup.number(value)
    assert found.text["small"] == f"{markup.number(low)} – {markup.number(high)}"
    for one in (Interval(value, None, high, reason), Interval(value, low, None, reason), Interval(value, None, None, reason)):
        assert Seen(markup.cell(one)).text.get("small", "") == reason
    lost = Seen(markup.cell(Undefined(reason), strong=strong))
    assert (lost.text["td"], lost.text.get("small", "")) == ("—", reason)
    assert markup.cell(None) == "<td></td>"


# axes


@quick
@given(NUMBER, st.floats(1e-4, 1e6), st.booleans())
@example(1.0, 11.0, True)  # a step of 2.5 would fit
def test_ticks_are_few_round_and_inside(low: float, share: float, whole: bool) -> None:
    width = share * max(1.0, abs(low))
    axis = Axis(low, low + width, "x", whole=whole)
    ticks = axis.ticks()
    slack = 1e-6 * width + 1e-9 * abs(low)
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)
    assert len(ticks) <= 7
    assert ticks == sorted(set(ticks))
    if not whole:
        assert len(ticks) >= 2
    steps = {round((b - a) / (ticks[1] - ticks[0]), 3) for a, b in pairwise(ticks)}
    assert steps <= {1.0}
    if whole:
        assert all(abs(tick - round(tick)) < 1e-6 * max(1.0, abs(tick)) for tick in ticks)


@quick
@given(st.floats(1e-11, 0.5), st.floats(1.5, 1e6))
def test_logarithmic_ticks_are_powers_or_simple_multiples(low: float, factor: float) -> None:
    axis = Axis(low, low * factor, "x", log=True)
    ticks = axis.ticks()
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert len(set(ticks)) == len(ticks)
    for tick in ticks:
        head = tick / 10 ** math.floor(math.log10(tick) + 1e-9)
        assert min(abs(head - one) for one in (1, 2, 3, 5)) < 1e-6
    if factor >= 1000:
        assert len(ticks) >= 3


@quick
@given(st.floats(-100, 100), st.floats(0.01, 100), st.lists(st.floats(-300, 300), min_size=2, max_size=5), st.booleans())
def test_places_keep_the_order_and_stay_on_the_axis(low: float, width: float, values: list[float], log: bool) -> None:
    axis = Axis(abs(low) + 0.01 if log else low, (abs(low) + 0.01 if log else low) + width, "x", log=log)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert axis.at(axis.low) == 0
    assert axis.at(axis.high) == 1


# pictures


def marks(picture: str) -> list[tuple[float, float]]:
    """Where the dots of a picture lie; it is well-formed and says what it shows."""
    tree = ElementTree.fromstring(picture)
    assert tree.tag == "svg"
    for name in ("x1", "x2", "cx"):
        assert all(0 <= float(one.get(name, "0")) <= WIDTH for one in tree.iter())
    for name in ("y1", "y2", "cy"):
        assert all(0 <= float(one.get(name, "0")) <= HEIGHT for one in tree.iter())
    for line in tree.iter("polyline"):
        for pair in line.get("points", "").split():
            across, down = map(float, pair.split(","))
            assert 0 <= across <= WIDTH
            assert 0 <= down <= HEIGHT
    return [(float(one.get("cx", "nan")), float(one.get("cy", "nan"))) for one in tree.iter("circle")]


def falls_as_it_rises(values: Sequence[float], downs: Sequence[float]) -> bool:
    """Whether greater values lie higher in the picture, to the tenth that is drawn."""
    return all(below >= above - 0.11 for (one, below) in zip(values, downs, strict=True)
               for (other, above) in zip(values, downs, strict=True) if other >= one)  # fmt: skip


@quick
@given(st.lists(st.none() | NUMBER, max_size=6), st.integers(0, 7), TEXT)
@example([5e-324, 0.0], 1, "loss")
@example([0.0, 0.0], 1, "loss")
@example([1e12, 1e12 + 1e-4], 2, "loss")
def test_curves_have_a_dot_an_epoch(values: list[float | None], best: int, name: str) -> None:
    picture = curves(values, name=name, colour=0, best=best)
    known = [(at, value) for at, value in enumerate(values, 1) if value is not None]
    if not known:
        assert picture == '<p class="mute">no epoch</p>'
        return
    dots = marks(picture)
    assert len(dots) == len(known)
    assert [across for across, _ in dots] == sorted(across for across, _ in dots)
    assert falls_as_it_rises([value for _, value in known], [down for _, down in dots])
    assert picture.count("(kept)") == sum(at == best for at, _ in known)
    assert ElementTree.fromstring(picture).get("aria-label") == f"{name} by epoch, lower is better"


FIGURE = st.tuples(st.floats(-5, 5), st.floats(0, 2), st.floats(0, 2), st.booleans()).map(
    lambda one: Interval(one[0], one[0] - one[1], one[0] + one[2]) if one[3] else Interval(one[0], None, None, "few")
)
LINES = st.lists(st.tuples(TEXT, st.lists(st.tuples(st.integers(0, 50), FIGURE), max_size=5)), max_size=3)


@quick
@given(LINES)
def test_lines_have_a_dot_a_figure_and_a_band_where_two_have_bounds(drawn: list[tuple[str, list[tuple[int, Interval]]]]) -> None:
    lines = [Line(name, [(float(at), one) for at, one in sorted(points, key=lambda point: point[0])]) for name, points in drawn]
    picture = grown(lines, name="rmse", across="rows")
    points = [point for line in lines for point in line.points]
    if not points:
        assert picture == '<p class="mute">no figure</p>'
        return
    dots = marks(picture)
    assert len(dots) == len(points)
    assert falls_as_it_rises([one.value for _, one in points], [down for _, down in dots])
    bands = [line for line in lines if sum(one.low is not None for _, one in line.points) > 1]
    assert picture.count("<polygon") == len(bands)
    assert picture.count("stroke-dasharray") == max(0, len(lines) - 1)


PLACED = st.lists(st.tuples(TEXT, st.dictionaries(st.sampled_from([0, 1, 3, 5, 10, 20]), FIGURE, max_size=6)), min_size=1, max_size=20)


def spot(mark: ElementTree.Element) -> tuple[float, float]:
    """The middle of a disc or a square."""
    if mark.tag == "circle":
        return float(mark.get("cx", "nan")), float(mark.get("cy", "nan"))
    x, y, width, height = (float(mark.get(name, "nan")) for name in ("x", "y", "width", "height"))
    return x + width / 2, y + height / 2


@quick
@given(PLACED, st.none() | st.floats(-9, 9))
@example([("one", {20: Interval(1.0, 1.0, 1.0)})], 1.0)
def test_figures_side_by_side_keep_their_place_and_their_order(drawn: list[tuple[str, dict[int, Interval]]], guide: float | None) -> None:
    """A mark a figure, with its interval; numbers one after the other, at each the lines in turn, the greater the higher."""
    lines = [Line(name, [(float(at), one) for at, one in sorted(points.items())]) for name, points in drawn]
    picture = side_by_side(lines, name="rmse", across="rows", guide=guide)
    told = [(number, at, one) for at, line in enumerate(lines) for number, one in line.points]
    if not told:
        assert picture == '<p class="mute">no figure</p>'
        return
    tree = ElementTree.fromstring(picture)
    marks = [next(iter(group)) for group in tree.iter("g")]
    spots = [spot(mark) for mark in marks]
    assert len(spots) == len(told)
    assert all(0 <= across <= plots.BROAD[0] and 0 <= down <= plots.BROAD[1] for across, down in spots)
    turn = [across for _, across in sorted(zip([one[:2] for one in told], [across for across, _ in spots], strict=True))]
    assert all(b > a for a, b in pairwise(turn))
    assert falls_as_it_rises([one.value for _, _, one in told], [down for _, down in spots])
    bars = [line for line in tree.iter("line") if line.get("stroke-width") == "1.5"]
    assert len(bars) == sum(one.low is not None for _, _, one in told)
    assert len([line for line in tree.iter("line") if line.get("class") == "guide"]) == (guide is not None)
    numbers = sorted({number for number, _, _ in told})
    assert [one.text for one in tree.iter("text") if one.get("text-anchor") == "middle"] == [f"{number:g}" for number in numbers]
    for (_, at, _), mark in zip(told, marks, strict=True):
        assert ElementTree.tostring(next(iter(ElementTree.fromstring(swatch(at)))))[:5] == ElementTree.tostring(mark)[:5]


def test_lines_are_told_apart_by_colour_and_shape() -> None:
    kinds = plots.COLOURS * plots.SHAPES
    assert len({swatch(at) for at in range(kinds)}) == kinds
    assert swatch(kinds) == swatch(0)


@quick
@given(st.lists(TEXT, max_size=4))
def test_the_key_names_every_line_or_none(names: list[str]) -> None:
    found = key([Line(name, []) for name in names])
    if len(names) < 2:
        assert found == ""
        return
    told = Seen(found).text["span"]
    assert told == "".join(f"{'╌' if at else '─'} {name}" for at, name in enumerate(names))


BINS = st.lists(st.builds(Point, SHARE, SHARE, COUNT), min_size=1, max_size=6)
AMOUNTS = st.lists(st.builds(Point, NUMBER, NUMBER, COUNT), min_size=1, max_size=6)


@quick
@given(BINS | AMOUNTS)
@example([Point(0.0, 0.0, 1)])
@example([Point(1e-12, 0.0, 1), Point(1.0, 1.0, 1)])
@example([Point(1e12, 1e12, 1)])
def test_a_reliability_diagram_has_a_dot_a_bin(points: list[Point]) -> None:
    dots = marks(reliability(points, name="click", colour=1))
    assert len(dots) == len(points)
    assert falls_as_it_rises([point.observed for point in points], [down for _, down in dots])
    order = sorted(range(len(points)), key=lambda at: points[at].predicted)
    across = [dots[at][0] for at in order]
    assert all(b >= a - 0.11 for a, b in pairwise(across))


@quick
@given(BINS)
def test_bins_that_mean_what_they_say_lie_on_the_guide(points: list[Point]) -> None:
    """Both axes show the same stretch: equal numbers lie on the dashed line."""
    honest = [Point(point.predicted, point.predicted, point.rows) for point in points]
    picture = reliability(honest, name="click", colour=1)
    (guide,) = [one for one in ElementTree.fromstring(picture).iter("line") if one.get("class") == "guide"]
    left, top, right, bottom = (float(guide.get(name, "nan")) for name in ("x1", "y1", "x2", "y2"))
    for across, down in marks(picture):
        assert down == pytest.approx(top + (across - left) / (right - left) * (bottom - top), abs=0.2)


@quick
@given(BOUNDS, st.floats(-1e6, 1e6), st.floats(0.001, 1e6), st.none() | st.floats(-1e6, 1e6))
def test_a_whisker_spans_its_bounds_on_the_tables_scale(bounds: list[float], start: float, width: float, guide: float | None) -> None:
    low, value, high = bounds
    picture = whisker(Interval(value, low, high), low=start, high=start + width, guide=guide)
    tree = ElementTree.fromstring(picture)
    (bar,) = (one for one in tree.iter("line") if one.get("class") != "guide")
    (dot,) = tree.iter("circle")
    left, right, middle = float(bar.get("x1", "nan")), float(bar.get("x2", "nan")), float(dot.get("cx", "nan"))
    assert 4 <= left <= middle <= right <= 106
    assert len(list(tree.iter("line"))) == 1 + (guide is not None)
    bare = ElementTree.fromstring(whisker(Interval(value, None, None, "few"), low=start, high=start + width))
    (line,) = bare.iter("line")
    assert line.get("x1") == line.get("x2")


def test_a_scale_of_one_point_has_no_whisker() -> None:
    assert whisker(Interval(0.5, 0.4, 0.6), low=0.5, high=0.5) == ""
    assert whisker(Interval(0.5, 0.4, 0.6), low=0.6, high=0.5) == ""


def test_a_frame_s_corners_are_its_axes_ends() -> None:
    frame = Frame(Axis(0, 2, "x"), Axis(-1, 1, "y"))
    assert frame.place(0, -1) == (44, HEIGHT - 30)
    assert frame.place(2, 1) == (WIDTH - 8, 10)
    assert frame.place(1, 0) == ((44 + WIDTH - 8) / 2, (HEIGHT - 30 + 10) / 2)

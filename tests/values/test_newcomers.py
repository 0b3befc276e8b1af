"""What a report tells of new users: its JSON, its page, and what stands where there is nothing to tell; curves as pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from umbel.coldstart.figures import ColdFigures, Measured, Told
from umbel.coldstart.rungs import Climb
from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.robust import Group, Robustness
from umbel.learn.ladder import Ladder
from umbel.run.newcomers import Served, lost_line, section, served_line, to_json
from umbel.run.plots import Line, grown, key

NONE = {"training": 0, "test": 0}


def interval(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01)


def told(value: float, users: int = 50) -> Told:
    rating: Measured = {"mae": interval(value), "rmse": interval(value + 0.2), "ndcg@5": Undefined("no rating above 0")}
    return Told(users, users * 7, {"rating": rating, "click": {"auc": interval(1 - value / 2)}})


def robust() -> Robustness:
    few = Undefined("3 users with a value, fewer than 30")
    groups = (Group("a", 40, interval(0.8)), Group("<b>", 60, interval(0.9)), Group("c", 3, few))
    return Robustness(groups, groups[1], interval(0.1))


FIGURES = ColdFigures(
    {"warm": told(0.72), "user_cold": told(0.74), "item_cold": Undefined("of 12 users in the test part none has 13 to 100 rows"),
     "both_cold": told(0.86)},
    {0: told(0.8), 1: told(0.9), 5: told(0.77), 20: Undefined("of 3 users in the test part none has 30 to 100 rows")},
    {"rating": {"age": robust()}, "click": {"age": Robustness((), Undefined("no group of 30 users"), Undefined("no group of 30 users"))}},
)
LADDER = Climb(Ladder(head=1, steps_from=5, strength=3.0), {
    "content": {1: -0.75, 5: -0.75}, "head": {1: -0.74, 5: -0.73}, "steps": {1: -0.8, 5: -0.72}})
SERVED = Served(LADDER, {0: told(0.8), 1: told(0.79), 5: told(0.77)})


def saved(figures: ColdFigures = FIGURES, served: Served = SERVED, lost: dict[str, int] = NONE) -> dict[str, Any]:
    """As it comes back from a file."""
    back: dict[str, Any] = json.loads(json.dumps(to_json("melu", figures, served, lost=lost)))
    return back


def test_scenarios_in_json() -> None:
    found = saved()["scenarios"]
    assert list(found) == ["warm", "user_cold", "item_cold", "both_cold"]
    warm = found["warm"]
    assert (warm["users"], warm["rows"]) == (50, 350)
    assert warm["tasks"]["rating"]["mae"] == {"value": 0.72, "low": pytest.approx(0.71), "high": pytest.approx(0.73)}
    assert warm["tasks"]["rating"]["ndcg@5"] == {"value": None, "low": None, "high": None, "reason": "no rating above 0"}
    assert found["item_cold"] == {"users": 0, "rows": 0, "tasks": None, "reason": "of 12 users in the test part none has 13 to 100 rows"}


def test_the_curve_in_json() -> None:
    found = saved()
    assert list(found["curve"]) == ["0", "1", "5", "20"]
    assert found["curve"]["20"]["tasks"] is None
    assert found["served"]["1"]["tasks"]["rating"]["mae"]["value"] == 0.79
    assert found["method"] == "melu"


def test_groups_in_json() -> None:
    found = saved()["groups"]
    assert [group["name"] for group in found["rating"]["age"]["groups"]] == ["a", "<b>", "c"]
    assert found["rating"]["age"]["groups"][2]["value"] is None
    assert found["rating"]["age"]["worst"] == {"name": "<b>"}
    assert found["click"]["age"]["worst"] == {"name": None, "reason": "no group of 30 users"}
    assert found["rating"]["age"]["spread"]["value"] == 0.1


def test_the_ladder_in_json() -> None:
    found = saved()["ladder"]
    assert found["from"] == {"head": 1, "steps": 5, "id": None}
    assert found["strength"] == 3.0
    assert found["scores"]["steps"] == {"1": -0.8, "5": -0.72}
    assert saved(served=Served())["ladder"] is None
    assert saved(served=Served())["served"] == {}


class Outline(HTMLParser):
    """Whether the tags of a page close, and its text by table row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("circle", "polyline", "polygon", "line", "meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("circle", "polyline", "polygon", "line", "meta", "br"):
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "tr" in self.open:
            self.rows[-1] += f"{data}|"


def test_the_page_has_a_row_a_scenario_and_task() -> None:
    outline = Outline(section(saved()))
    assert not outline.open
    rows = [row for row in outline.rows if row.startswith(("known user", "new user", "new items"))]
    assert [row.split("|")[:2] for row in rows] == [
        ["known user, known items", "rating"], ["new user", "rating"], ["new user, new items", "rating"],
        ["known user, known items", "click"], ["new user", "click"], ["new user, new items", "click"],
    ]
    assert "0.7200|0.7100 – 0.7300" in rows[0]
    assert "—|no rating above 0" in rows[0]
    assert "50|350 rows" in rows[0]


def test_tasks_of_different_metrics_have_tables_of_their_own() -> None:
    heads = [row for row in Outline(section(saved())).rows if row.startswith("scenario|")]
    assert heads == ["scenario|users|MAE|RMSE|nDCG@5|", "scenario|users|AUC|"]


def test_a_scenario_without_users_says_why() -> None:
    assert "<li>new items: of 12 users in the test part none has 13 to 100 rows</li>" in section(saved())


def test_no_scenario_at_all_is_a_page_all_the_same() -> None:
    nothing = ColdFigures({"warm": Undefined("none"), "user_cold": Undefined("none")}, {0: Undefined("too few"), 1: Undefined("too few")})
    page = section(saved(nothing, Served()))
    assert not Outline(page).open
    assert "<li>known user, known items: none</li>" in page
    assert "too few" in page
    assert "<svg" not in page
    assert "Ladder" not in page
    assert "For whom" not in page


def test_a_run_without_episodes_has_no_section() -> None:
    assert section({}) == ""


def test_the_worst_group_is_named_with_its_size() -> None:
    page = section(saved())
    assert "<td>&lt;b&gt;<small>60 users</small>" in page
    assert "<td><b>" not in page
    rows = [row for row in Outline(page).rows if row.startswith("age|")]
    assert rows[0].startswith("age|rating|<b>|60 users|0.9000|")
    assert rows[1].count("no group of 30 users") == 2


def test_the_ladder_says_from_how_many_rows_each_rung_answers() -> None:
    rows = [row for row in Outline(section(saved())).rows if row.startswith(("attributes", "last layer", "gradient", "rung"))]
    assert rows[0] == "rung|1 row|5 rows|"
    assert rows[1].startswith("attributes alone|from 0 rows|-0.7500|")
    assert rows[2].startswith("last layer in closed form|from 1 row|-0.7400|-0.7300")
    assert rows[3].startswith("gradient steps|from 5 rows|")
    never = replace(SERVED, climbed=replace(LADDER, ladder=Ladder(head=None)))
    assert "last layer in closed form|never|" in "".join(Outline(section(saved(served=never))).rows)


@pytest.mark.parametrize(("climbed", "line"), [
    (replace(LADDER, no_id="nobody read it"),
     "attributes alone, last layer in closed form from 1 row on, gradient steps from 5 rows on; by id never: nobody read it"),
    (replace(LADDER, ladder=Ladder(head=None, known=50)), "attributes alone; by id from 50 rows in training on"),
    (replace(LADDER, ladder=Ladder(head=3, known=10), apart=True),
     "attributes alone, last layer in closed form from 3 rows on; what melu itself makes of rows is no rung and stays out of the bundle; "
     "by id from 10 rows in training on"),
])
def test_one_line_says_who_is_served_by_what(climbed: Climb, line: str) -> None:
    found = saved(served=replace(SERVED, climbed=climbed))
    assert served_line(found) == f"new users are served by {line}"
    assert f"new users are served by {line}" in section(found)
    assert served_line(saved(served=Served())) is None


def test_a_ladder_of_before_is_told_as_far_as_it_goes() -> None:
    old = saved()
    old["ladder"] = {name: one for name, one in old["ladder"].items() if name not in ("apart", "no_id")}
    assert "by id never: not tried" in section(old)


def test_pictures_have_the_method_and_the_ladder() -> None:
    page = section(saved())
    assert "rating: MAE of new users" in page
    assert "click: AUC of new users" in page
    pictures = re.findall(r"<svg.*?</svg>", page)
    assert len(pictures) == 2
    assert [len(re.findall("<polyline", one)) for one in pictures] == [2, 2]
    assert "melu, 5: 0.7700" in pictures[0]
    assert "by the ladder, 1: 0.7900" in pictures[0]
    assert "20:" not in pictures[0], "a size without users is no dot"


def test_without_a_ladder_a_picture_has_one_line_and_no_key() -> None:
    page = section(saved(served=Served()))
    assert re.findall("by the ladder", page) == []
    assert len(re.findall("<polyline", page)) == 2


def test_an_older_report_has_neither_and_is_read() -> None:
    """One that was written before the ladder's curve and lost steps were told."""
    old = {name: one for name, one in saved().items() if name not in ("served", "lost_steps")}
    assert "melu, 5" in section(old)


@pytest.mark.parametrize(("lost", "line"), [
    (NONE, None),
    ({"training": 3, "test": 0}, "3 inner steps in training and 0 on test users were no finite numbers"),
    ({"training": 1234, "test": 5}, "1,234 inner steps in training and 5 on test users"),
])
def test_lost_steps_are_told_where_there_are_any(lost: dict[str, int], line: str | None) -> None:
    found = lost_line(saved(lost=lost))
    assert (found is None) == (line is None)
    page = section(saved(lost=lost))
    if line is None:
        assert "finite numbers" not in page
    else:
        assert found is not None
        assert found.startswith(line)
        assert line in page


def points(*values: float) -> list[tuple[float, Interval]]:
    return [(float(place), interval(value)) for place, value in enumerate(values)]


def centres(picture: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', picture)]


def test_a_picture_of_nothing() -> None:
    assert grown([], name="MAE", across="rows") == '<p class="mute">no figure</p>'
    assert grown([Line("a", [])], name="MAE", across="rows") == '<p class="mute">no figure</p>'


def test_dots_rise_with_the_number_and_fall_with_the_figure() -> None:
    found = centres(grown([Line("a", points(0.9, 0.8, 0.85))], name="MAE", across="rows"))
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert found[0][1] < found[2][1] < found[1][1], "higher figures stand higher, which is a smaller y"
    assert found[0][0] == pytest.approx(44)
    assert found[2][0] == pytest.approx(292)


def test_the_band_is_between_the_bounds() -> None:
    picture = grown([Line("a", points(0.9, 0.8))], name="MAE", across="rows")
    (band,) = re.findall(r'<polygon points="([^"]*)"', picture)
    corners = [tuple(map(float, one.split(","))) for one in band.split()]
    assert len(corners) == 4
    (left, right) = centres(picture)
    assert corners[0][1] < left[1] < corners[3][1]
    assert corners[1][1] < right[1] < corners[2][1]


def test_a_figure_without_bounds_has_no_band() -> None:
    bare = [(0.0, Interval(0.5, None, None, "too few users")), (1.0, interval(0.6))]
    assert "<polygon" not in grown([Line("a", bare)], name="MAE", across="rows")
    assert len(centres(grown([Line("a", bare)], name="MAE", across="rows"))) == 2


@pytest.mark.parametrize("values", [(0.5,), (0.5, 0.5), (0.0, 0.0), (-3.0, -1.0), (1e6, 2e6)])
def test_any_figures_stand_inside_the_picture(values: tuple[float, ...]) -> None:
    flat = [(float(place), Interval(value, value, value)) for place, value in enumerate(values)]
    for x, y in centres(grown([Line("a", flat)], name="MAE", across="rows")):
        assert 44 <= x <= 292
        assert 10 <= y <= 160


def test_lines_are_told_apart_by_more_than_colour() -> None:
    picture = grown([Line("a", points(0.9, 0.8)), Line("b<", points(0.7, 0.6))], name="MAE", across="rows")
    first, second = re.findall(r"<polyline[^>]*>", picture)
    assert "dasharray" not in first
    assert "dasharray" in second
    assert "--c0" in first
    assert "--c1" in second
    assert "b&lt;, 0: 0.7000" in picture


def test_the_key_is_there_for_several_lines_alone() -> None:
    one, other = Line("a", points(1.0)), Line("b<", points(1.0))
    assert key([one]) == ""
    assert re.findall(r">([^<>]*)</span>", key([one, other])) == ["─ a", "╌ b&lt;"]


def test_lines_of_different_sizes_share_one_scale() -> None:
    long, short = Line("a", points(0.9, 0.8, 0.7)), Line("b", points(0.9)[:1])
    found = centres(grown([long, short], name="MAE", across="rows"))
    assert found[0] == found[3]

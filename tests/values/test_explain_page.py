"""What a reader sees of an explanation: the page, the tables of the terminal, the JSON, from findings made by hand."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from umbel.evaluate.intervals import Interval
from umbel.evaluate.metrics import Undefined
from umbel.study.explain.deletion import Deletion
from umbel.study.explain.explain import Explanation
from umbel.study.explain.gates import Gate, Share
from umbel.study.explain.page import SHOWN, explain_page
from umbel.study.explain.ranking import Push, Weight
from umbel.study.explain.show import rankings, row_table
from umbel.study.explain.study import Explained, Moved, Row, _text, leave
from umbel.study.explain.words import holds
from umbel.study.transfer.listening import Listening

CHECK = Deletion(2, 0.9, 0.8, 0.3, Interval(0.6, 0.5, 0.7), Interval(0.5, 0.4, 0.6))
FAILED = replace(CHECK, gain=Interval(0.1, -0.1, 0.3), ranked_gain=Interval(-0.2, -0.3, 0.05))
GATE = Gate(Listening("click", 0.2, 0.7, 0.1, 0.8), (Share(0, ("click",), 0.2), Share(1, ("click", "buy"), 0.7), Share(2, ("buy",), 0.1)))


def weight(name: str, value: float, share: float, push: Push | None = None) -> Weight:
    return Weight(name, Interval(value, 0.9 * value, 1.1 * value), share, push or Push())


CLICK = Moved(
    "click", "logit", (-1.25,), (weight("item", 0.8, 0.8, Push("a<b", "c&d")), weight("price", 0.2, 0.2)), GATE, CHECK,
    ("The prediction of click is moved by item (80%) above all.", holds(CHECK)),
)  # fmt: skip
SPENT = Moved(
    "spent", "the label's unit", (3.0,), (weight("price", 2.0, 1.0), weight("item", 0.0, 0.0)), None, Undefined("why not"), ("Says so.",)
)
FOUND = Explained("stem", 2000, 150, (CLICK, SPENT), 7.5e-4)


class Tags(HTMLParser):
    """Collects text by tag, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "line", "circle", "path", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def tags(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


def printed(run: object, value: object) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        run(value)  # type: ignore[operator]
    return out.getvalue()


def test_a_section_a_task_with_its_words_first() -> None:
    page = explain_page(FOUND)
    assert tags(page).texts["h1"] == ["Main parameters"]
    assert tags(page).texts["h2"] == ["click", "spent", "How this was had"]
    assert page.index("moved by item (80%) above all") < page.index("moves it by (logit)")
    for words in ("2,000", "150", "7.5e-04", "moves it by (the label&#x27;s unit)", "Says so."):
        assert words in page


def test_text_is_escaped() -> None:
    page = explain_page(FOUND)
    assert "a&lt;b" in page
    assert "c&amp;d" in page
    assert "a<b" not in page


def test_intervals_shares_and_whiskers_are_shown() -> None:
    page = explain_page(FOUND)
    assert "0.7200 – 0.8800" in page
    assert "80.0%" in page
    assert page.count('class="whisker"') == 4


@pytest.mark.parametrize(("check", "expected"), [
    (CHECK, ["matters more", "matters more"]), (FAILED, ["not shown", "not shown"]),
    (replace(CHECK, gain=Interval(0.1, None, None, "few")), ["not shown", "matters more"]),
])  # fmt: skip
def test_the_check_is_claimed_only_where_it_holds(check: Deletion, expected: list[str]) -> None:
    page = explain_page(replace(FOUND, tasks=(replace(CLICK, check=check),)))
    found = [text for text in tags(page).texts["td"] if text in ("matters more", "not shown")]
    assert found == expected


def test_no_check_says_why() -> None:
    assert "No deletion check: why not." in explain_page(FOUND)


def test_gates_are_shown_where_there_are_any() -> None:
    page = explain_page(FOUND)
    assert page.count("listens to") == 1
    assert "click, buy" in page
    assert "70.0%" in page


def test_many_fields_are_folded_away() -> None:
    fields = tuple(weight(f"f{at}", 1.0 - at / 100, 1 / 40) for at in range(40))
    page = explain_page(replace(FOUND, tasks=(replace(CLICK, fields=fields),)))
    assert tags(page).texts["summary"] == [f"{40 - SHOWN} more fields"]
    assert all(f">f{at}<" in page for at in range(40))
    assert "more fields" not in explain_page(FOUND)


def test_words_of_the_check() -> None:
    assert holds(CHECK) == (
        "Taking 1 to 2 fields away in this order changes the prediction by 0.8, 0.5 more than as many at random (95 %: 0.4 to 0.6)."
    )
    assert holds(FAILED).startswith("That this order matters was not shown on these rows: taking 1 to 2 fields away in it changes")
    assert "(95 %: -0.3 to 0.05)" in holds(FAILED)
    assert holds(replace(CHECK, most=1)).startswith("Taking 1 field away")


def test_rankings_on_the_terminal() -> None:
    out = printed(rankings, FOUND)
    for words in ("click: mean |contribution| (logit) over 2,000 rows", "item", "0.8000 ±0.0800", "80.0%", "a<b", "c&d", "Says so."):
        assert words in out


def test_a_long_ranking_is_cut_on_the_terminal() -> None:
    fields = tuple(weight(f"f{at}", 1.0 - at / 100, 1 / 40) for at in range(40))
    out = printed(rankings, replace(FOUND, tasks=(replace(CLICK, fields=fields),)))
    assert "30 more" in out
    assert "75.0%" in out
    assert "f10" not in out


ADDS = np.array([[[0.5, -2.0, 0.0], [1.0, 0.25, 0.0]]])
ROW = Row(
    17, {"item": "a", "price": "3.5", "tags": "missing"},
    Explanation(("item", "price", "tags"), ("click", "spent"), ADDS, np.array([0.5, 1.0]), np.array([[-1.0, 2.25]])),
    {"click": (0.62, 0.27), "spent": (1.1, 2.3)}, {"click": GATE},
)  # fmt: skip


def test_a_row_on_the_terminal() -> None:
    """The field that adds most to any task comes first; sums and calibrated predictions stand below, and whom tasks listen to."""
    out = printed(row_table, ROW)
    assert out.index("price") < out.index("item") < out.index("tags")
    for words in ("row 17", "3.5", "-2.0000", "+0.2500", "missing", "-1.0000", "2.2500", "0.6200", "0.2700"):
        assert words in out
    for words in ("listens to", "expert 1 (click and buy)", "70.0%"):
        assert words in out


def test_a_row_without_gates() -> None:
    assert "listens to" not in printed(row_table, replace(ROW, gates={}))


def test_a_row_as_json() -> None:
    found = json.loads(json.dumps(ROW.to_json()))
    assert found["columns"]["click"]["contributions"] == {"item": 0.5, "price": -2.0, "tags": 0.0}
    assert found["columns"]["click"]["calibrated"] == {"base": 0.62, "value": 0.27}
    assert found["columns"]["spent"]["base"] == 1.0
    assert found["gates"]["click"]["experts"][1] == {"expert": 1, "taught": ["click", "buy"], "share": 0.7}


def test_a_study_as_json(tmp_path: Path) -> None:
    leave(FOUND.to_json(), tmp_path / "why" / "explain.json")
    found = json.loads((tmp_path / "why" / "explain.json").read_text())
    assert found["tasks"][0]["fields"][0]["moves"] == {"value": 0.8, "low": pytest.approx(0.72), "high": pytest.approx(0.88), "reason": ""}
    assert found["tasks"][0]["check"]["ranked_gain"]["low"] == 0.4
    assert found["tasks"][1]["check"] == {"reason": "why not"}
    assert found["tasks"][1]["gate"] is None
    assert (found["rows"], found["users"], found["error"]) == (2000, 150, 7.5e-4)


@pytest.mark.parametrize(("value", "expected"), [
    (None, "missing"), (3, "3"), ("phone", "phone"), (0.1234567891, "0.123457"), (True, "True"),
    (pl.Series([1, 2]), "1, 2 (2)"), (pl.Series(["a", "b", "c", "d"]), "… b, c, d (4)"), (pl.Series([], dtype=pl.Int64), " (0)"),
])  # fmt: skip
def test_raw_values_as_text(value: object, expected: str) -> None:
    assert _text(value) == expected


def test_errors_are_shares_of_the_change() -> None:
    """Sums of -1.5 and 1.25 against changes of -1.5 and 1.25; then a change that a sum misses by a tenth."""
    assert ROW.found.error.tolist() == [[0.0, 0.0]]
    other = replace(ROW.found, value=np.array([[-1.0, 2.375]]))
    assert other.error.tolist() == [[0.0, pytest.approx(0.125 / 1.375)]]

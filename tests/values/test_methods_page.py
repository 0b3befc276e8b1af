"""What a comparison's page says of new users: curves, differences and worst groups, and what stands where there are none."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from umbel.errors import UserError
from umbel.run.compared import Compared
from umbel.run.comparison import comparison_page
from umbel.run.methods import new_users

FEW = {"users": 0, "rows": 0, "tasks": None, "reason": "of 3 users in the test part none has 30 to 100 rows"}


def cell(mean: float | None) -> dict[str, Any]:
    if mean is None:
        return {"mean": None, "low": None, "high": None, "reason": "no relevant row", "seeds": [None, None]}
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "seeds": [mean, mean]}


def size(mae: float, auc: float | None) -> dict[str, Any]:
    return {"users": 50, "rows": 350, "tasks": {"rating": {"mae": cell(mae), "rmse": cell(mae + 0.2)}, "click": {"auc": cell(auc)}}}


def grouped(metric: str, values: dict[str, float], worst: str) -> dict[str, Any]:
    groups = [{"name": name, "users": 40, "value": value, "low": value - 0.05, "high": value + 0.05} for name, value in values.items()]
    spread = max(values.values()) - min(values.values())
    return {"metric": metric, "groups": groups, "worst": {"name": worst}, "spread": {"value": spread, "low": 0.0, "high": spread + 0.1}}


NONE = {"metric": "mae", "groups": [], "worst": {"name": None, "reason": "no group of 30 users"},
        "spread": {"value": None, "low": None, "high": None, "reason": "no group of 30 users"}}


def method(mae: tuple[float, float], auc: tuple[float | None, float], groups: dict[str, Any]) -> dict[str, Any]:
    curve = {str(shots): size(one, other) for shots, one, other in zip((0, 10), mae, auc, strict=True)}
    return {"tasks": {"rating, user cold": {"mae": cell(mae[1])}}, "curve": curve, "groups": groups}


def pair(recipe: str, shots: int, mean: float, against: str = "bias") -> dict[str, Any]:
    return {"task": f"rating, {shots} known", "recipe": recipe, "against": against, "metric": "mae", "mean": mean, "low": mean - 0.005,
            "high": mean + 0.005, "seeds": [mean, mean], "spread": [mean, mean], "p": 0.01, "verdict": "lower"}


SAVED: dict[str, Any] = {
    "rows": {"test": 350},
    "recipes": {
        "bias": method((0.83, 0.79), (None, 0.6), {"rating": {"age": grouped("mae", {"old": 0.9, "young": 0.7}, "old"), "town": NONE},
                                                   "click": {"age": grouped("auc", {"old": 0.6, "young": 0.55}, "young")}}),
        "melu": method((0.82, 0.80), (0.7, 0.5), {"rating": {"age": grouped("mae", {"old": 0.8, "young": 0.85}, "young"), "town": NONE},
                                                  "click": {"age": grouped("auc", {"old": 0.5, "young": 0.65}, "old")}}),
    },
    "paired": [],
    "paired_by_size": [pair("melu", 0, -0.01), pair("melu", 10, 0.01), pair("bias", 0, 0.01, "melu"), pair("bias", 10, -0.01, "melu")],
}


class Rows(HTMLParser):
    """The text of each table row, what is bold between asterisks."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append("")
            self.inside = True
        if tag == "b" and self.inside:
            self.rows[-1] += "*"

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "tr"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1] += f"{data}|"


def section(saved: dict[str, Any] = SAVED) -> str:
    return new_users(Compared.of(saved))


def test_each_task_has_a_table_of_every_size_with_the_best_in_bold() -> None:
    rows = [row for row in Rows(section()).rows if row.startswith(("rows known", "bias", "melu"))]
    assert rows[:3] == ["rows known|0|10|", "bias|0.8300|0.8200 – 0.8400|*0.7900|0.7800 – 0.8000|",
                        "melu|*0.8200|0.8100 – 0.8300|0.8000|0.7900 – 0.8100|"]
    assert rows[3:6] == ["rows known|0|10|", "bias|—|no relevant row|*0.6000|0.5900 – 0.6100|",
                         "melu|*0.7000|0.6900 – 0.7100|0.5000|0.4900 – 0.5100|"]


def test_the_note_says_how_many_users_and_rows_are_judged() -> None:
    assert "50 users and 350 query rows throughout" in section()


def test_the_first_picture_has_every_figure_and_the_second_the_differences_to_the_first_named() -> None:
    pictures = re.findall(r"<svg class=.broad.*?</svg>", section())
    assert [re.findall("aria-label=.(.*?).>", one)[0] for one in pictures] == [
        "MAE by rows known", "MAE less that of bias by rows known", "AUC by rows known"]
    assert "bias, 0: 0.8300 (0.8200 to 0.8400)" in pictures[0]
    assert "melu, 10: 0.8000" in pictures[0]
    assert re.findall("melu, .*?:", pictures[1]) == ["melu, 0:", "melu, 10:"]
    assert "bias, " not in pictures[1]
    assert pictures[1].count("guide") == 1
    assert re.findall("(?:bias|melu), .*?:", pictures[2]) == ["bias, 10:", "melu, 0:", "melu, 10:"], "what is undefined has no mark"


def test_a_line_has_its_colour_in_both_pictures_and_in_the_table() -> None:
    own, less, _ = re.findall(r"<svg class=.broad.*?</svg>", section())
    assert re.findall(r"var\(--c(\d)\)[^>]*/><title>melu", own) == ["1", "1"]
    assert re.findall(r"var\(--c(\d)\)[^>]*/><title>melu", less) == ["1", "1"]
    assert re.findall(r"var\(--c(\d)\)[^>]*/></svg>melu", section()) == ["1", "1"]


def test_the_worst_group_of_every_method_and_the_least_bad_in_bold() -> None:
    rows = [row for row in Rows(section()).rows if "(40 users)" in row]
    assert rows == [
        "bias|0.9000|0.8500 – 0.9500|old (40 users)|spread 0.2000 (0.0000 – 0.3000)|—|no group of 30 users|",
        "melu|*0.8500|0.8000 – 0.9000|young (40 users)|spread 0.0500 (0.0000 – 0.1500)|—|no group of 30 users|",
        "bias|*0.5500|0.5000 – 0.6000|young (40 users)|spread 0.0500 (0.0000 – 0.1500)|",
        "melu|0.5000|0.4500 – 0.5500|old (40 users)|spread 0.1500 (0.0000 – 0.2500)|",
    ]
    assert "rating: for whom MAE is worst" in section()
    assert "click: for whom AUC is worst" in section()


def test_without_differences_there_is_one_picture() -> None:
    page = section({**SAVED, "paired_by_size": []})
    assert page.count("<svg class=\"broad\"") == 2
    assert "less that of" not in page


def test_where_nobody_has_rows_enough_the_page_says_so() -> None:
    one = {"tasks": {}, "curve": {"0": FEW, "20": FEW}, "groups": {}}
    page = section({"recipes": {"bias": one}})
    assert "No curve: of 3 users in the test part none has 30 to 100 rows" in page
    assert "<svg" not in page
    assert "for whom" not in page


def test_a_comparison_of_recipes_or_of_before_has_no_such_section() -> None:
    assert section({"recipes": {"stem": {"tasks": {"click": {"auc": cell(0.7)}}}}}) == ""


def test_differences_by_size_are_folded_under_the_others() -> None:
    saved = {**SAVED, "paired": [{**pair("melu", 0, -0.01), "task": "rating, user cold"}]}
    page = comparison_page(saved)
    assert "The same of new users by rows known" in page
    assert "The same of new users" not in comparison_page({**saved, "paired_by_size": []})


@pytest.mark.parametrize("broken", [{"curve": {"0": {"users": 3}}}, {"curve": []}])
def test_a_file_of_another_shape_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="not one of ours"):
        Compared.of({"recipes": {"bias": {"tasks": {}, **broken}}})
    with pytest.raises(UserError, match="not one of ours"):
        Compared.of({"recipes": {}, "paired_by_size": [{"task": "rating"}]})

"""report.html and compare.html: whole, self-contained, escaped, and saying what the figures say."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.browser import chromium, looking
from umbel.data.aside import Aside
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Linear, Platt
from umbel.evaluate.figures import Figures
from umbel.evaluate.judge import Predictions, TaskReport, calibrate_all, evaluate
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.slices import Worst
from umbel.learn.keep import Primary
from umbel.run.comparison import comparison_page
from umbel.run.kept import Kept
from umbel.run.page import page
from umbel.run.report import Moment, Report
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

HOSTILE = '<script>alert("1")</script>&\'"'
VOID = {"meta"}


@dataclass
class Tag:
    name: str
    attributes: dict[str, str | None]
    children: list[Tag | str] = field(default_factory=list)

    def text(self) -> str:
        """All text under it, in order, in one line."""
        parts = [child if isinstance(child, str) else child.text() for child in self.children]
        return re.sub(r"\s+", " ", " ".join(parts)).strip()

    def all(self, name: str, of: str | None = None) -> list[Tag]:
        """Every tag of that name (and class) under it."""
        found = []
        for child in self.children:
            if isinstance(child, Tag):
                if child.name == name and (of is None or of in (child.attributes.get("class") or "").split()):
                    found.append(child)
                found += child.all(name, of)
        return found


class Tree(HTMLParser):
    """A strict reading: every tag is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Tag("root", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Tag(tag, dict(attrs))
        assert len(made.attributes) == len(attrs), f"an attribute of {tag} is given twice"
        self.open[-1].children.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Tag(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"{self.open[-1].name} was closed by {tag}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.open[-1].children.append(data)


def tree(markup: str) -> Tag:
    reader = Tree()
    reader.feed(markup)
    reader.close()
    assert len(reader.open) == 1, f"never closed: {[tag.name for tag in reader.open[1:]]}"
    return reader.open[0]


def section(root: Tag, title: str) -> Tag:
    return next(one for one in root.all("section") if one.all("h2")[0].text() == title)


def row(where: Tag, name: str, nth: int = 0) -> Tag:
    """The nth table row whose heading starts with that name."""
    return [line for line in where.all("tr") if line.all("th") and line.all("th")[0].text().startswith(name)][nth]


@cache
def tasks(suffix: str = "") -> tuple[TaskReport, ...]:
    draw = np.random.default_rng(0)
    count = 2000
    schema = Schema(
        (Field("user", FieldKind.ID),),
        (Task("click" + suffix), Task("buy", given="click" + suffix), Task("seconds", REGRESSION), Task("never")),
    )
    logits = draw.normal(size=(count, 4))
    events = (draw.random((count, 4)) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    events[:, 1] *= events[:, 0]
    events[:, 2] = logits[:, 2] * 10 + draw.normal(size=count)
    events[:, 3] = 0
    log = Predictions(schema, logits, events, np.ones((count, 4), dtype=bool), draw.integers(0, 80, count))
    calibrators: dict[str, Calibrator] = {task.name: Platt() for task in schema.tasks} | {"seconds": Linear(10.0)}
    tab = np.where(np.arange(count) < 30, "tiny", np.where(np.arange(count) % 2 == 0, "home" + suffix, "feed" + suffix))
    return evaluate(log, calibrate_all(schema, logits, calibrators), slices={"tab" + suffix: tab})


def report(suffix: str = "") -> Report:
    scores = (0.60, 0.66, 0.65)
    each = [{"click" + suffix: score, "buy": score - 0.1 * at, "seconds": 0.1, "never": None} for at, score in enumerate(scores)]
    history = tuple(
        Moment(at + 1, (0.7 - at / 10, 0.3, 80.0, None), score, 90_000, 4.5, scores=each[at]) for at, score in enumerate(scores)
    )
    return Report(
        recipe="stem" + suffix,
        seed=3,
        rows={"train": 90_000, "valid": 1000, "test": 2000},
        tasks=tasks(suffix),
        parameters=12_345_678,
        seconds=20.5,
        rows_per_second=20_000.0,
        peak_memory_bytes=3 * 2**30,
        validation=tasks(suffix),
        history=history,
        settings={"fit": {"epochs": 2}, "data": {"log" + suffix: "a" + suffix}},
        versions={"umbel": "0.1.0", "torch" + suffix: "2" + suffix},
        commit="abc" + suffix,
        aside=Aside(12, 2000, {"click" + suffix: 3, "buy": 0}),
        kept=Kept.of(Primary("click" + suffix, {"buy": 0.1}), each, train={"click" + suffix: 0.75, "buy": 0.6, "seconds": 0.3}),
    )


def compared(name: str = "stem", verdict: str = "higher", against: str = "alone") -> dict[str, object]:
    def numbers(mean: float) -> dict[str, object]:
        return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "seeds": [mean - 0.001, mean + 0.001]}

    def recipe(called: str, at: float) -> dict[str, object]:
        metrics = {"auc": numbers(at), "logloss": numbers(1 - at)}
        cost = {"score": 0.7, "parameters": 1000, "seconds": 100.0, "rows_per_second": 5000.0, "peak_memory_bytes": 2**30}
        chosen = {"recipe": called.split(" x")[0], "rate": 0.001, "of": 4}
        return {"tasks": {"click": metrics, "buy": metrics}, "chosen": chosen, "cost": cost}

    recipes = {one: recipe(one, at) for one, at in (("alone", 0.70), (name, 0.72), ("ple x3", 0.71))}
    pair = {"recipe": name, "against": against, "metric": "auc", "mean": 0.02, "low": 0.01, "high": 0.03, "seeds": [0.02, 0.02], "p": 0.001}
    pairs = [{**pair, "task": task, "spread": [0.015, 0.025], "verdict": verdict} for task in ("click", "buy")]
    return {"rows": {"train": 9000, "valid": 500, "test": 1000}, "recipes": recipes, "paired": pairs}


def methods(suffix: str = "") -> dict[str, object]:
    """A comparison of eight cold-start methods."""
    def numbers(mean: float) -> dict[str, object]:
        return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "seeds": [mean - 0.001, mean + 0.001]}

    def measured(value: float) -> dict[str, object]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    def method(at: float) -> dict[str, object]:
        groups = [{"name": f"old{suffix}", "users": 40, **measured(at)}, {"name": "young", "users": 50, **measured(at - 0.1)}]
        by = {"metric": "mae", "groups": groups, "worst": {"name": f"old{suffix}"}, "spread": measured(0.1)}
        sizes = {shots: {f"stars{suffix}": {"mae": numbers(at - shots / 100)}} for shots in (0, 1, 10)}
        curve = {str(shots): {"users": 90, "rows": 700, "tasks": tasks} for shots, tasks in sizes.items()}
        cost = {"score": 0.7, "parameters": 1000, "seconds": 100.0, "rows_per_second": 5000.0, "peak_memory_bytes": 2**30}
        told = {f"stars{suffix}, user cold": {"mae": numbers(at)}}
        return {"tasks": told, "chosen": {}, "cost": cost, "curve": curve, "groups": {f"stars{suffix}": {f"age{suffix}": by}}}

    recipes = {f"method {at}{suffix}": method(0.7 + at / 100) for at in range(8)}
    against = f"method 0{suffix}"
    pair = {"metric": "mae", "mean": 0.02, "low": 0.01, "high": 0.03, "seeds": [0.02, 0.02], "p": 0.001, "verdict": "higher"}
    pairs = [{**pair, "recipe": name, "against": against, "task": task, "spread": [0.015, 0.025]}
             for name in recipes for task in (f"stars{suffix}, {shots} known" for shots in (0, 1, 10)) if name != against]
    return {"rows": {"train": 9000, "valid": 500, "test": 1000}, "recipes": recipes, "paired": [], "paired_by_size": pairs}


PAGES = {
    "methods": comparison_page(methods()),
    "hostile methods": comparison_page(methods(HOSTILE)),
    "report": page(report()),
    "hostile report": page(report(HOSTILE)),
    "bare report": page(Report("alone", 0, {}, tasks(), 1, 0.0, 0.0, 0)),
    "comparison": comparison_page(compared()),
    "hostile comparison": comparison_page(compared(HOSTILE, HOSTILE, HOSTILE)),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_tag_is_closed_in_order(name: str) -> None:
    root = tree(PAGES[name])
    assert [child.name for child in root.children if isinstance(child, Tag)] == ["html"]
    assert PAGES[name].startswith("<!doctype html>")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_from_anywhere(name: str) -> None:
    root = tree(PAGES[name])
    for tag in ("script", "link", "img", "iframe", "object", "image", "use"):
        assert not root.all(tag), tag
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", PAGES[name])


@pytest.mark.parametrize("name", PAGES)
def test_it_reads_on_a_phone_and_in_the_dark(name: str) -> None:
    root = tree(PAGES[name])
    assert any(tag.attributes.get("name") == "viewport" for tag in root.all("meta"))
    style = root.all("style")[0].text()
    assert "prefers-color-scheme: dark" in style
    for variable in set(re.findall(r"var\((--\w+)\)", PAGES[name])):
        assert style.count(f"{variable}:") == 2, f"{variable} needs a light and a dark value"
    assert all(any(table in scroll.all("table") for scroll in root.all("div", "scroll")) for table in root.all("table"))


@pytest.mark.parametrize("name", ["hostile report", "hostile comparison", "hostile methods"])
def test_what_users_wrote_is_shown_and_never_run(name: str) -> None:
    assert "<script" not in PAGES[name]
    assert 'alert("1")' in tree(PAGES[name]).text()


def test_hostile_names_reach_every_corner_of_the_report() -> None:
    root = tree(PAGES["hostile report"])
    shown = root.text()
    for text in ("stem", "click", "tab", "feed", "fit.epochs", f"data.log{HOSTILE}", f"a{HOSTILE}", f"torch{HOSTILE}", f"abc{HOSTILE}"):
        assert text in shown
    assert root.all("title")[0].text().startswith(f"stem{HOSTILE}")


@pytest.mark.parametrize("name", PAGES)
def test_no_number_is_not_a_number(name: str) -> None:
    shown = re.sub(r"<style>.*?</style>", "", PAGES[name], flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf|None|Undefined|Interval)\b", shown)


@pytest.mark.parametrize("name", PAGES)
def test_pictures_are_named_and_stay_in_their_frame(name: str) -> None:
    for picture in tree(PAGES[name]).all("svg"):
        if picture.attributes.get("aria-hidden") != "true":
            assert picture.attributes["role"] == "img"
            assert picture.all("title")[0].text() == picture.attributes["aria-label"]
        width, height = map(float, (picture.attributes["viewbox"] or "").split()[2:])
        for dot in picture.all("circle"):
            assert 0 <= float(dot.attributes["cx"] or "nan") <= width
            assert 0 <= float(dot.attributes["cy"] or "nan") <= height


def test_the_headline_table_has_a_row_a_task_and_sample_space() -> None:
    results = section(tree(PAGES["report"]), "Results on test")
    binary, regression = results.all("table")[:2]
    names = [line.all("th")[0].text() for line in binary.all("tbody")[0].all("tr")]
    plain = ["click rows with a label", "buy where click holds", "buy rows with both labels (click and buy)"]
    assert names == [*plain, "never rows with a label"]
    assert [head.text() for head in binary.all("thead")[0].all("th")] == [
        "task",
        "rows",
        "AUC",
        "PR-AUC",
        "GAUC",
        "log-loss",
        "NE",
        "ECE",
        "ratio",
    ]
    assert [head.text() for head in regression.all("thead")[0].all("th")] == ["task", "rows", "RMSE", "MAE", "R²"]


def test_values_come_with_their_intervals() -> None:
    found = tasks()[0].figures.metrics["auc"]
    assert not isinstance(found, Undefined)
    line = row(section(tree(PAGES["report"]), "Results on test"), "click")
    assert f"{found.value:.4f} {found.low:.4f} – {found.high:.4f}" in line.text()


def test_what_cannot_be_had_is_a_dash_with_its_reason() -> None:
    line = row(section(tree(PAGES["report"]), "Results on test"), "never")
    assert "— no positive row" in line.text()
    assert "0.5000" not in line.text()


def test_counts_are_shown() -> None:
    results = section(tree(PAGES["report"]), "Results on test")
    buy = tasks()[1]
    assert f"{buy.figures.rows:,} {buy.figures.positives:,} positive" in row(results, "buy").text()
    assert f"2,000 {buy.figures.positives:,} positive" in row(results, "buy", 1).text()


def test_the_worst_slice_is_named_and_marked() -> None:
    root = tree(PAGES["report"])
    worst = tasks()[0].worst
    assert isinstance(worst, Worst)
    said = section(root, "Results on test").all("li")[0].text()
    assert said.startswith(f"click is worst on tab: {worst.label}")
    slices = section(root, "Slices of test")
    marked = [line for line in slices.all("tr", "worst") if "click" in line.all("span", "badge")[0].text()]
    assert [line.all("th")[0].text().split()[0] for line in marked] == [worst.label]
    assert "never: no worst slice (no slice has enough rows)" in section(root, "Results on test").text()


def test_a_tiny_slice_says_so() -> None:
    slices = section(tree(PAGES["report"]), "Slices of test")
    assert "30 rows: fewer than 100" in row(slices, "tiny").text()
    folded = slices.all("details")[0]
    assert folded.all("summary")[0].text() == "1 too small to judge"
    assert [line.all("th")[0].text() for line in folded.all("tbody")[0].all("tr")] == [row(slices, "tiny").all("th")[0].text()]
    assert "30 rows" in row(slices, "tiny").all("th")[0].text()


def test_slices_show_whiskers_on_one_scale_a_task() -> None:
    slices = section(tree(PAGES["report"]), "Slices of test")
    # click, buy and seconds on two slices; nothing for the tiny slice or the task without a positive
    assert len(slices.all("svg", "whisker")) == 6


def test_training_shows_a_curve_a_task_and_rings_the_kept_epoch() -> None:
    training = section(tree(PAGES["report"]), "Training")
    why = "the highest validation score of click with buy within 0.1 of its best"
    assert f"The weights of epoch 2 of 3 were kept: {why}." in training.text()
    titles = [card.text() for card in training.all("h3")]
    assert titles == ["validation score", "click: training loss", "buy: training loss", "seconds: training loss", "never: training loss"]
    score, click = training.all("svg")[:2]
    dots = [dot.all("title")[0].text() for dot in score.all("circle")]
    assert dots == ["epoch 1: 0.60000", "epoch 2: 0.66000 (kept)", "epoch 3: 0.65000"]
    assert len(click.all("polyline")[0].attributes["points"].split()) == 3  # type: ignore[union-attr]
    assert "no epoch" in training.text()


def test_training_shows_each_tasks_own_best_epoch_its_gap_and_every_score() -> None:
    own, every = section(tree(PAGES["report"]), "Training").all("table")
    cells = {line.all("th")[0].text(): [cell.text() for cell in line.all("td")] for line in own.all("tbody")[0].all("tr")}
    assert cells == {
        "click": ["2", "0.6600", "0.6600", "0.7500", "0.0900"],
        "buy": ["1", "0.6000", "0.5600", "0.6000", "0.0400"],
        "seconds": ["1", "0.1000", "0.1000", "0.3000", "0.2000"],
        "never": ["–", "–", "–", "–", "–"],
    }
    lines = every.all("tbody")[0].all("tr")
    assert [line.all("th")[0].text() for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert [line.attributes.get("class") for line in lines] == [None, "worst", None]
    assert [cell.text() for cell in lines[2].all("td")] == ["0.6500", "0.4500", "0.1000", "–"]


def test_a_report_that_kept_nothing_says_nothing_of_it() -> None:
    training = section(tree(page(replace(report(), kept=None))), "Training")
    assert "were kept" not in training.text()
    assert training.all("table") == []


def test_calibration_shows_a_dot_a_bin_and_the_counts() -> None:
    calibration = section(tree(PAGES["report"]), "Calibration on test")
    curve = tasks()[0].figures.curve
    picture, table = calibration.all("svg")[0], calibration.all("table")[0]
    assert len(picture.all("circle")) == len(curve) == 10
    assert len(picture.all("line", "guide")) == 1
    shown = [[cell.text() for cell in line.all("td")] for line in table.all("tbody")[0].all("tr")]
    assert [line[2] for line in shown] == [f"{point.rows:,}" for point in curve]
    assert sum(point.rows for point in curve) == 2000


def test_what_was_run_is_all_there() -> None:
    ran = section(tree(PAGES["report"]), "What was run")
    for key, value in (("recipe", "stem"), ("seed", "3"), ("commit", "abc"), ("umbel", "0.1.0"), ("fit.epochs", "2"), ("data.log", "a")):
        assert row(ran, key).all("td")[0].text() == value
    head = tree(PAGES["report"]).all("header")[0].text()
    for fact in ("90,000", "1,000", "2,000", "12,345,678", "20,000 rows/s", "3.00 GiB"):
        assert fact in head


def test_a_report_read_back_gives_the_same_page() -> None:
    saved = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert page(Report.from_json(saved)) == PAGES["report"]


def test_a_report_without_history_slices_or_validation_leaves_those_out() -> None:
    bare = replace(report(), tasks=tuple(replace(task, slices={}) for task in tasks()), history=(), validation=())
    titles = [head.text() for head in tree(page(bare)).all("h2")]
    assert titles == ["Results on test", "Calibration on test", "What was run"]


def test_a_task_without_rows_still_has_its_place() -> None:
    empty = Figures(0, 0, 0, dict.fromkeys(tasks()[0].figures.metrics, Undefined("no row")))
    root = tree(page(replace(report(), tasks=(replace(tasks()[0], figures=empty, slices={}),))))
    assert row(section(root, "Results on test"), "click").text().count("— no row") == 7
    assert "no row" in section(root, "Calibration on test").text()


def test_many_tasks_do_not_run_out_of_colours() -> None:
    many = tuple(replace(tasks()[0], name=f"task {at}") for at in range(9))
    root = tree(page(replace(report(), tasks=many)))
    assert len(section(root, "Calibration on test").all("svg")) == 9


def test_the_comparison_has_a_row_a_recipe_and_marks_width_controls() -> None:
    standings = section(tree(PAGES["comparison"]), "On test")
    names = [line.all("th")[0].text() for line in standings.all("tbody")[0].all("tr")]
    assert names == ["alone rate 0.001 (best of 4)", "stem rate 0.001 (best of 4)", "ple x3 width control rate 0.001 (best of 4)"]
    assert [head.text() for head in standings.all("thead")[0].all("th")] == [
        "recipe",
        "click, AUC",
        "buy, AUC",
        "parameters",
        "time",
        "peak memory",
    ]
    alone = row(standings, "alone").text()
    for part in ("0.7000", "0.6900 – 0.7100", "seeds 0.6990, 0.7010", "1,000", "100 s", "5,000 rows/s", "1.00 GiB"):
        assert part in alone


def test_the_best_of_a_column_is_bold() -> None:
    standings = section(tree(PAGES["comparison"]), "On test")
    assert [cell.text() for cell in standings.all("b")] == ["0.7200", "0.7200"]


def test_the_best_of_an_error_is_the_lowest() -> None:
    swapped = json.loads(json.dumps(compared()).replace('"auc"', '"rmse"'))
    standings = section(tree(comparison_page(swapped)), "On test")
    assert [cell.text() for cell in standings.all("b")] == ["0.7000", "0.7000"]


@pytest.mark.parametrize(
    ("metric", "verdict", "tone"),
    [
        ("auc", "higher", "good"),
        ("auc", "lower", "warn"),
        ("rmse", "higher", "warn"),
        ("rmse", "lower", "good"),
        ("auc", "equal", "mute"),
        ("auc", "open", "mute"),
    ],
)
def test_a_verdict_has_the_colour_of_what_it_means(metric: str, verdict: str, tone: str) -> None:
    content = json.loads(json.dumps(compared(verdict=verdict)).replace('"auc"', f'"{metric}"'))
    badges = section(tree(comparison_page(content)), "Differences").all("span", "badge")
    assert [(badge.text(), tone in (badge.attributes["class"] or "")) for badge in badges] == [(verdict, True)] * 2


def test_differences_show_interval_seeds_and_p() -> None:
    differences = section(tree(PAGES["comparison"]), "Differences")
    assert differences.all("h3")[0].text() == "against alone"
    assert row(differences, "stem").all("td")[0].text() == "higher +0.0200 +0.0100 to +0.0300 seeds +0.0150 to +0.0250, p 0.001"


def test_one_seed_says_so() -> None:
    content = json.loads(json.dumps(compared()).replace('"spread": [0.015, 0.025]', '"spread": null'))
    assert "one seed" in section(tree(comparison_page(content)), "Differences").text()


def test_a_number_that_cannot_be_had_in_a_comparison_has_its_reason() -> None:
    content = json.loads(json.dumps(compared()))
    none = {"mean": None, "low": None, "high": None, "reason": "no positive row", "seeds": [None]}
    content["recipes"]["alone"]["tasks"]["buy"]["auc"] = none
    assert "— no positive row" in row(section(tree(comparison_page(content)), "On test"), "alone").text()


def test_all_metrics_of_all_tasks_are_folded_below() -> None:
    others = section(tree(PAGES["comparison"]), "All metrics")
    assert [one.text() for one in others.all("summary")] == ["click", "buy", "What the columns say"]
    assert "0.3000" in row(others, "alone").text()


def test_a_comparison_without_pairs_has_no_differences() -> None:
    content = compared()
    content["paired"] = []
    assert "Differences" not in [head.text() for head in tree(comparison_page(content)).all("h2")]


@pytest.mark.parametrize("content", [{}, {"recipes": 3}, {"recipes": {"a": 3}}, {"recipes": {}, "paired": [{"task": 1}]}])
def test_another_file_is_the_users_error(content: dict[str, object]) -> None:
    with pytest.raises(UserError, match="comparison: not one of ours"):
        comparison_page(content)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_comparison_of_methods_is_read_on_a_phone_and_at_a_desk(tmp_path: Path, width: int) -> None:
    """Nothing is wider than the screen, both pictures are whole on it, one above the other or side by side, and their words can be read."""
    place = tmp_path / "compare.html"
    place.write_text(PAGES["methods"], encoding="utf-8")
    with chromium() as browser, looking(browser, place.as_uri(), width=width) as looked:
        assert looked.page.evaluate("document.documentElement.scrollWidth") == width
        boxes = [one.bounding_box() for one in looked.page.locator("svg.broad").all()]
        words = looked.page.locator("svg.broad text").first.evaluate("one => one.getBoundingClientRect().height")
        assert not looked.wrong
    assert len(boxes) == 2
    assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width and box["width"] > 300 for box in boxes)
    first, second = (box or {"x": 0.0, "y": 0.0} for box in boxes)
    assert (first["x"] == second["x"], first["y"] == second["y"]) == ((True, False) if width == 390 else (False, True))
    assert words > 11

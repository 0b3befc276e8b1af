"""What a search found: back from tune.json, on its page, on the terminal."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from umbel.errors import UserError
from umbel.study.trial import Trial
from umbel.study.tune import pictures
from umbel.study.tune.outcome import Outcome
from umbel.study.tune.page import tune_page
from umbel.study.tune.point import in_effect
from umbel.study.tune.result import Tuned
from umbel.study.tune.search import Tried
from umbel.study.tune.show import said, tuned


def outcome(score: float, latency: float = 1.0, *, buy: float | None = 0.5) -> Outcome:
    return Outcome(Trial(score, 1000, 2.0, 1e4, 2**20), {"click": score, "buy": buy}, epochs=2, latency=latency)


def tried(number: int, value: float, latency: float = 1.0) -> Tried:
    point = {"fit.rate": 0.001 * (number + 1), "model.recipe": "stem"}
    return Tried(number, "complete", point, (value,), (value / 2, value), outcome(value, latency))


def across(value: float) -> dict[str, Any]:
    return {"mean": value, "low": value - 0.1, "high": value + 0.1, "seeds": [value]}


TEST = {
    "rows": {"train": 800, "valid": 100, "test": 123},
    "recipes": {
        name: {"tasks": {task: {"auc": across(value)} for task in ("click", "buy")}, "chosen": {"recipe": name, "of": 3}, "cost": {}}
        for name, value in (("trial 1", 0.71), ("trees", 0.69), ("trees + target means", 0.7))
    },
    "paired": [],
}
TRIALS = (
    tried(0, 0.6),
    tried(1, 0.75),
    Tried(2, "failed", {"fit.rate": 9.0, "model.recipe": "<mmoe>"}, (), (), None, "training: the loss is nan; lower fit.rate & mend"),
    Tried(3, "pruned", {"fit.rate": 0.1, "model.recipe": "stem"}, (), (0.3,)),
    tried(4, 0.7),
)
ONE = Tuned(
    objectives=("mean",), rises=(True,), space={"fit.rate": [0.001, 0.1], "model.recipe": ["stem", "<mmoe>"]}, epochs=2,
    trials=TRIALS, front=(1,),
    importances={"fit.rate": 0.75, "model.recipe": 0.25}, reads=1, test=TEST,
)  # fmt: skip


def two() -> Tuned:
    """Two objectives, the second of which falls."""
    values = [(0.6, 1.0), (0.75, 4.0), (), (), (0.7, 2.0)]
    trials = tuple(replace(one, values=pair) for one, pair in zip(TRIALS, values, strict=True))
    return replace(ONE, objectives=("mean", "latency"), rises=(True, False), trials=trials, front=(1, 4, 0))


@pytest.mark.parametrize("found", [ONE, two()], ids=["one", "two"])
def test_it_comes_back_from_its_file(tmp_path: Path, found: Tuned) -> None:
    path = tmp_path / "tune.json"
    assert Tuned.load(path) is None
    path.write_text(json.dumps(found.to_json()))
    assert Tuned.load(path) == found


def test_the_file_says_who_is_chosen_and_how_trials_ended() -> None:
    saved = json.loads(json.dumps(ONE.to_json()))
    assert saved["chosen"] == 1
    assert saved["counts"] == {"complete": 3, "pruned": 1, "failed": 1}
    assert saved["reads"] == 1
    assert saved["trials"][2]["reason"].startswith("training: the loss is nan")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"trials": [{}]}', '{"trials": 3}'])
def test_a_file_of_another_shape_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tune.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"tune\.json: not one of ours"):
        Tuned.load(path)


def test_the_best_so_far_never_falls_and_waits_for_the_first() -> None:
    assert ONE.bests() == [0.6, 0.75, 0.75, 0.75, 0.75]
    assert replace(ONE, trials=(TRIALS[2], TRIALS[0], TRIALS[1])).bests() == [None, 0.6, 0.75]
    falling = replace(ONE, rises=(False,))
    assert falling.bests() == [0.6, 0.6, 0.6, 0.6, 0.6]


class Reader(html.parser.HTMLParser):
    """Tags that were opened and not closed, what the page would load, and its text."""

    VOID = frozenset({"meta", "br", "line", "circle", "rect", "polyline", "path", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open, self.loads, self.text = list[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.mark.parametrize("found", [ONE, two(), replace(ONE, importances={})], ids=["one", "two", "unknown"])
def test_the_page_is_whole_and_loads_nothing(found: Tuned) -> None:
    reader = read(tune_page(found))
    assert reader.open == []
    assert reader.loads == ["best/report.html"], "one link, beside it"
    assert "@import" not in tune_page(found)
    assert "url(" not in tune_page(found)


def test_the_page_says_what_was_found() -> None:
    text = " ".join(read(tune_page(ONE)).text)
    assert "at most 2 epochs" in text
    assert "rate 0.002, recipe stem" in text
    for part in ("Trial 1: mean 0.7500", "the best on validation", "test reads", "best.toml", "What mattered", "75%"):
        assert part in text, part
    for name in ("trial 1", "trees", "trees + target means"):
        assert name in text
    assert re.search(r"5\s+trials\s+3\s+complete\s+1\s+pruned\s+1\s+failed\s+1\s+test reads", text)


def test_names_and_reasons_are_text() -> None:
    page = tune_page(ONE)
    assert "&lt;mmoe&gt;" in page
    assert "<mmoe>" not in page
    assert "lower fit.rate &amp; mend" in page


def test_the_page_of_one_objective_has_no_front_and_that_of_several_does() -> None:
    assert "The front" not in tune_page(ONE)
    page = tune_page(two())
    assert "The front" in page
    assert "the best mean of 3 that no other beats on validation" in " ".join(read(page).text)
    assert "mean against latency" in page


def test_nothing_is_said_of_what_mattered_where_it_is_not_known() -> None:
    assert "What mattered" not in tune_page(replace(ONE, importances={}))


def test_the_reads_on_the_page_are_those_that_were_counted() -> None:
    facts = re.search(r"<b>(\d+)</b><span class=\"mute\">test reads", tune_page(replace(ONE, reads=7)))
    assert facts is not None
    assert facts[1] == "7"


def circles(picture: str) -> list[str]:
    return re.findall(r"<title>([^<]+)</title></circle>", picture)


def test_progress_has_a_dot_for_every_finished_trial_and_rings_the_chosen_one() -> None:
    assert circles(pictures.progress(ONE)) == ["trial 0: 0.6", "trial 1: 0.75 (chosen)", "trial 4: 0.7"]


def test_the_best_so_far_is_a_staircase() -> None:
    drawn = re.search(r'<polyline points="([^"]+)"', pictures.progress(ONE))
    assert drawn is not None
    places = [tuple(map(float, pair.split(","))) for pair in drawn[1].split()]
    tops = [top for _, top in places]
    assert tops == sorted(tops, reverse=True), "up the page, never down"
    for (left, top), (right, above) in pairwise(places):
        assert left == right or top == above


@pytest.mark.parametrize("found", [replace(ONE, trials=(tried(0, 0.5),), front=(0,)), replace(ONE, trials=(tried(0, 0.0),), front=(0,))])
def test_one_trial_is_a_picture_too(found: Tuned) -> None:
    assert len(circles(pictures.progress(found))) == 1
    assert "nan" not in pictures.progress(found)


def test_the_front_joins_those_that_none_beats() -> None:
    picture = pictures.front(two(), 1)
    assert circles(picture) == ["trial 0: mean 0.6, latency 1", "trial 1: mean 0.75, latency 4 (chosen)", "trial 4: mean 0.7, latency 2"]
    drawn = re.search(r'<polyline points="([^"]+)"', picture)
    assert drawn is not None
    assert len(drawn[1].split()) == 3


def test_of_three_objectives_nothing_is_joined() -> None:
    found = two()
    trials = tuple(replace(one, values=(*one.values, 5.0)) if one.values else one for one in found.trials)
    three = replace(found, objectives=("mean", "latency", "parameters"), rises=(True, False, False), trials=trials)
    assert "polyline" not in pictures.front(three, 1)
    assert tune_page(three).count(" against ") >= 4


def test_the_terminal_has_the_trials_the_test_part_and_the_reads(capsys: pytest.CaptureFixture[str]) -> None:
    tuned(ONE)
    out = capsys.readouterr().out
    assert "validation: the best of 5 trials" in out
    assert "1 chosen" in out
    assert "rate 0.002, recipe stem" in out
    assert out.index("1 chosen") < out.index("│ 4 ") < out.index("│ 0 ")
    assert "test: 123 rows" in out
    assert "0.7100 ±0.1000" in out
    assert "trees + target means" in out


def test_at_most_ten_trials_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    many = tuple(tried(number, 0.5 + number / 100) for number in range(30))
    tuned(replace(ONE, trials=many, front=(29,)))
    out = capsys.readouterr().out
    assert len(re.findall(r"│\s+0\.[5-8]\d*\s+│", out)) == 10
    assert "29 chosen" in out


def test_a_front_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    tuned(two())
    out = capsys.readouterr().out
    assert "those that none beats first" in " ".join(out.split())
    assert "4 front" in out
    assert "0 front" in out


def test_the_last_line() -> None:
    assert said(ONE) == "5 trials: 3 complete, 1 pruned, 1 failed; trial 1 is chosen (the best on validation); test reads: 1"
    assert "(the best mean of 3 that none beats on validation)" in said(two())
    assert said(replace(ONE, reads=2)).endswith("test reads: 2")


WEIGHED = {"fit.balancer": "static", "balance.weights.buy": 0.5871, "fit.rate": 0.01}


@pytest.mark.parametrize(("balancer", "weighed"), [("static", True), ("uncertainty", False), ("pcgrad", False), ("none", False)])
def test_weights_are_listed_where_they_were_in_effect(capsys: pytest.CaptureFixture[str], balancer: str, weighed: bool) -> None:
    point = {**WEIGHED, "fit.balancer": balancer}
    space = {"fit.balancer": [balancer], "balance.weights.buy": [0.25, 4.0], "fit.rate": [0.001, 0.1]}
    found = replace(ONE, trials=tuple(replace(one, point=point) for one in TRIALS), space=space)
    tuned(found)
    assert ("balance.weights.buy 0.5871" in " ".join(capsys.readouterr().out.split())) == weighed
    assert ("0.5871" in tune_page(found)) == weighed
    assert f"balancer {balancer}, " in tune_page(found)


def test_options_and_sizes_are_listed_where_the_model_takes_them() -> None:
    point = {"model.recipe": "stem", "model.options.taught": True, "model.options.rank": 4, "model.views": "own"}
    assert in_effect(point) == {"model.recipe": "stem", "model.options.taught": True, "model.views": "own"}
    assert in_effect({**point, "model.recipe": "home"}) == {"model.recipe": "home", "model.options.rank": 4, "model.views": "own"}
    assert in_effect({**point, "model.recipe": "ame"}) == {"model.recipe": "ame"}
    sizes = {"model.shared": 3, "model.gate": "[4]", "model.interact": "fm", "model.interact_sizes.rank": 2, "model.sequence": "din",
             "model.sequence_sizes.hidden": 8}
    left = {"model.interact": "fm", "model.sequence": "din", "model.sequence_sizes.hidden": 8}
    assert in_effect({**sizes, "model.recipe": "shared_bottom"}) == {**left, "model.recipe": "shared_bottom"}
    assert in_effect({**sizes, "model.recipe": "alone", "model.specific": 1}) == {**left, "model.recipe": "alone", "model.specific": 1}
    assert "model.gate" in in_effect({**sizes, "model.recipe": "alone"}), "the run file may give a task several experts"
    assert in_effect({"model.shared": 3, "model.interact_sizes.rank": 2}) == {"model.shared": 3, "model.interact_sizes.rank": 2}
    assert in_effect({"model.options.rank": 4, "balance.weights.buy": 2.0}) == {"model.options.rank": 4, "balance.weights.buy": 2.0}

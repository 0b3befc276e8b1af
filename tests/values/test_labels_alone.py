"""What labels say by themselves: by hand, and against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef, mutual_info_score
from tests import logs

from umbel.study.transfer.labels import Labels, Overlap, overlap, overlaps, supplies


def labels(*numbers: int) -> np.ndarray:
    return np.array(numbers) > 0


def test_supplies_of_a_table(tmp_path: Path) -> None:
    click, buy = supplies(logs.table(tmp_path))
    assert (click.task, click.rows, click.positives) == ("click", 6, 3)
    assert click.rate == pytest.approx(0.5)
    assert click.seen == 1.0
    assert click.users == pytest.approx(3.0)  # one click of each of three users
    assert buy.users == pytest.approx(1.0)
    assert buy.positives == 1
    assert buy.sparse


def test_a_few_fans_are_worth_a_few_users(tmp_path: Path) -> None:
    rows = logs.changed(click=[1, 1, 1, 0, 1, 1, 1, 0, 1, 0])
    click = supplies(logs.table(tmp_path, rows))[0]
    # Of the six training rows users 1, 2 and 3 clicked 3, 1 and 1 times.
    assert click.users == pytest.approx(25 / 11)


def test_unseen_labels_are_no_supply(tmp_path: Path) -> None:
    rows = logs.changed(click=[None, 1, 1, 0, None, 0, 1, 0, 1, 0])
    click = supplies(logs.table(tmp_path, rows))[0]
    assert click.seen == pytest.approx(4 / 6)
    assert click.positives == 2
    assert click.rate == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(8))
def test_overlap_against_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    first = draw.random(500) < draw.uniform(0.05, 0.9)
    second = np.where(draw.random(500) < draw.uniform(0, 1), first, draw.random(500) < 0.3)
    found = overlap(("a", "b"), first, second)
    assert found.correlation == pytest.approx(matthews_corrcoef(first, second), abs=1e-9)
    entropies = [mutual_info_score(one, one) for one in (first, second)]
    assert found.information == pytest.approx(mutual_info_score(first, second) / min(entropies), abs=1e-9)
    assert found.second_in_first == pytest.approx(np.mean(first[second]))
    assert found.first_in_second == pytest.approx(np.mean(second[first]))


def test_one_label_twice_and_its_opposite() -> None:
    same = overlap(("a", "b"), labels(1, 0, 1, 0), labels(1, 0, 1, 0))
    assert same.duplicate
    assert same.correlation == pytest.approx(1.0)
    assert same.new_step is None
    opposite = overlap(("a", "b"), labels(1, 0, 1, 0), labels(0, 1, 0, 1))
    assert opposite.duplicate
    assert opposite.correlation == pytest.approx(-1.0)


@pytest.mark.parametrize(("first", "second", "step"), [
    ((1, 1, 1, 0, 0), (1, 0, 0, 0, 0), ("b", "a")),
    ((1, 0, 0, 0, 0), (1, 1, 1, 0, 0), ("a", "b")),
    ((1, 1, 0, 0, 0), (1, 0, 1, 0, 0), None),
])
def test_a_step_after_another(first: tuple[int, ...], second: tuple[int, ...], step: tuple[str, str] | None) -> None:
    assert overlap(("a", "b"), labels(*first), labels(*second)).new_step == step


def test_a_label_without_both_classes_tells_nothing() -> None:
    found = overlap(("a", "b"), labels(0, 0, 0), labels(1, 0, 1))
    assert (found.correlation, found.information, found.duplicate, found.first_in_second) == (0.0, 0.0, False, 0.0)


def test_what_is_already_given_is_no_news(tmp_path: Path) -> None:
    (pair,) = overlaps(logs.table(tmp_path))
    assert (pair.first, pair.second, pair.later) == ("click", "buy", "buy")
    assert pair.second_in_first == 1.0
    assert pair.new_step is None


@pytest.mark.parametrize(("flips", "duplicate"), [(0.0, True), (0.005, True), (0.01, True), (0.05, False), (0.3, False)])
def test_a_copied_label_is_a_duplicate_even_with_a_few_slips(flips: float, duplicate: bool) -> None:
    draw = np.random.default_rng(3)
    first = draw.random(20_000) < 0.3
    second = first ^ (draw.random(20_000) < flips)
    found = overlap(("click", "tap"), first, second)
    assert found.duplicate is duplicate
    said = Labels((), (found,)).sentences()
    assert [one for one in said if one.startswith("tap is a duplicate of click (correlation ")] == list(said[:1] if duplicate else ())


def test_a_rare_step_after_a_frequent_one_is_no_duplicate() -> None:
    draw = np.random.default_rng(4)
    click = draw.random(20_000) < 0.3
    assert not overlap(("click", "buy"), click, click & (draw.random(20_000) < 0.2)).duplicate


def pair(second_in_first: float, *, later: str | None) -> Overlap:
    return Overlap("click", "buy", 0.3, 0.2, second_in_first, 0.1, later=later)


def test_a_funnel_is_what_is_given() -> None:
    assert pair(0.98, later="buy").funnel == ("buy", "click", 0.98)
    assert pair(0.98, later="click").funnel == ("click", "buy", 0.1)
    assert pair(0.98, later=None).funnel is None


def test_a_broken_funnel_is_told() -> None:
    assert Labels((), (pair(0.98, later="buy"),)).sentences() == (
        "2.00% of the buy have no click, though buy is given click: its sample space is wrong there.",)
    assert Labels((), (pair(1.0, later="buy"),)).sentences() == ()


def test_a_funnel_of_a_table(tmp_path: Path) -> None:
    (found,) = overlaps(logs.table(tmp_path))
    assert found.funnel == ("buy", "click", 1.0)

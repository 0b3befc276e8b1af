"""Cold-start scenarios by rule: shares near what is stated, no new user or item in training, draws that know nothing of each other."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from umbel.data.sources.scenarios import SCENARIOS, drawn, part, scenario

USERS, ITEMS = 3_000, 200


def log() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"user": draw.integers(USERS, size=40_000), "item": draw.integers(ITEMS, size=40_000)})
    told = scenario(frame["user"], frame["item"], frame["item"] >= ITEMS // 2)
    return frame.with_columns(told, part(told, frame["user"]))


LOG = log()


def of(name: str) -> pl.DataFrame:
    return LOG.filter(pl.col("scenario") == name)


def test_every_row_has_one_scenario_and_one_part() -> None:
    assert set(LOG["scenario"]) == set(SCENARIOS)
    assert set(LOG["part"]) == {"train", "valid", "test"}


@pytest.mark.parametrize(("new_user", "new_item"), [("user_cold", "train"), ("both_cold", "train"), ("user_cold", "item_cold")])
def test_new_users_have_no_row_among_the_known(new_user: str, new_item: str) -> None:
    assert not set(of(new_user)["user"]) & set(of(new_item)["user"])


def test_new_items_have_no_row_among_the_known() -> None:
    known = set(of("train")["item"]) | set(of("warm")["item"]) | set(of("user_cold")["item"])
    assert max(known) < ITEMS // 2 <= min(set(of("item_cold")["item"]) | set(of("both_cold")["item"]))


def test_shares_are_near_what_is_stated() -> None:
    new = len(set(of("user_cold")["user"]) | set(of("both_cold")["user"])) / USERS
    assert new == pytest.approx(0.2, abs=0.03)
    assert of("warm").height / (of("warm").height + of("train").height) == pytest.approx(0.1, abs=0.01)
    valid = LOG.filter(pl.col("part") == "valid")["user"].n_unique()
    assert valid / of("train")["user"].n_unique() == pytest.approx(0.1, abs=0.02)


def test_a_validating_user_has_no_training_row_and_every_other_row_tests() -> None:
    kept = LOG.filter(pl.col("part") == "valid")["user"].unique()
    theirs = LOG.filter(pl.col("user").is_in(kept.implode()))
    assert set(theirs["part"]) == {"valid", "test"}
    assert set(theirs.filter(pl.col("part") == "test")["scenario"]) == {"warm", "item_cold"}


def test_text_and_numbers_are_drawn_the_same_each_time() -> None:
    for units in (pl.Series(range(1000)), pl.Series(map(str, range(1000)))):
        once = drawn(units, 0.3, seed=4)
        assert once.reverse().to_list() == drawn(units.reverse(), 0.3, seed=4).to_list()
        assert once.sum() == pytest.approx(300, abs=50)
        again = drawn(units, 0.3, seed=5)
        assert (once & again).sum() == pytest.approx(90, abs=35)


def test_a_larger_share_keeps_whom_a_smaller_one_drew() -> None:
    units = pl.Series(range(500))
    small, large = (drawn(units, share, seed=0) for share in (0.1, 0.4))
    assert (small & ~large).sum() == 0
    assert not drawn(units, 0.0, seed=0).any()
    assert drawn(units, 1.0, seed=0).all()

"""The cold-start scenarios of a log of ratings: who and what is new in it, and which of its rows train, validate and test."""

from __future__ import annotations

import polars as pl

from umbel.data.groups import stable
from umbel.data.split import uniform

TRAIN, WARM, USER_COLD, ITEM_COLD, BOTH_COLD = SCENARIOS = ("train", "warm", "user_cold", "item_cold", "both_cold")
NEW_USERS, HELD_ROWS, VALID_USERS = 0.2, 0.1, 0.1
VALID_SEED, NEW_SEED, HELD_SEED = 0, 1, 2  # three draws that know nothing of each other


def drawn(units: pl.Series, share: float, *, seed: int) -> pl.Series:
    """Which units a stable hash draws, the same on every machine: those of one value all or none.

    Example
    -------
    >>> drawn(pl.Series([7, 8, 7, 9]), 0.5, seed=1).to_list()
    [True, False, True, False]
    """
    return pl.Series(units.name, uniform(stable(units), seed) < share)


def scenario(users: pl.Series, items: pl.Series, new: pl.Series) -> pl.Series:
    """The scenario of each row, where `new` says which items are new.

    A fifth of the users is new. Rows of known users with known items train, but for a tenth of them, drawn row by row, which is
    warm; the others are user-cold, item-cold or both-cold by which of the two is new.
    """
    stranger = drawn(users, NEW_USERS, seed=NEW_SEED)
    pairs = pl.select(pl.concat_str([users.cast(pl.String), items.cast(pl.String)], separator="\n")).to_series()
    cold = pl.when(stranger & new).then(pl.lit(BOTH_COLD)).when(stranger).then(pl.lit(USER_COLD)).when(new).then(pl.lit(ITEM_COLD))
    held = pl.when(drawn(pairs, HELD_ROWS, seed=HELD_SEED)).then(pl.lit(WARM)).otherwise(pl.lit(TRAIN))
    return pl.select(scenario=cold.otherwise(held)).to_series()


def part(scenario: pl.Series, users: pl.Series) -> pl.Series:
    """`train`, `valid` or `test`: all training rows of a tenth of the users validate, the other four scenarios test."""
    trains, validates = scenario == TRAIN, drawn(users, VALID_USERS, seed=VALID_SEED)
    kept = pl.when(validates).then(pl.lit("valid")).otherwise(pl.lit("train"))
    return pl.select(part=pl.when(trains).then(kept).otherwise(pl.lit("test"))).to_series()

"""Run files with `[episodes]` over a small simulated log of ratings and clicks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tests.runs import written

MORE = """user = { kind = "id", min_count = 1 }
item = { kind = "id", min_count = 1 }
age = { kind = "category", min_count = 1 }
genres = { kind = "bag", length = 3, min_count = 1 }
year = { kind = "number" }
[tasks]
rating = { kind = "regression" }
click = { }
[split]
by = "column"
column = "part"
[model]
recipe = "shared_bottom"
dim = 4
expert = [8, 8]
tower = []
[episodes]
method = { name = "melu", steps = 2, rate = 0.05 }
support = 5
history = [8, 100]
users = 16
curve = [0, 1, 3, 5]
curve_history = [10, 100]
groups = ["age"]
[fit]
epochs = 2
rate = 0.01
threads = 1
[evaluate]
resamples = 20
"""


def frame(*, users: int = 150, items: int = 40, seed: int = 0) -> pl.DataFrame:
    """Users of 10 to 20 rated items: tastes by taste group, three users in five train, one validates, one is new to the test.

    A tenth of a training user's rows are held out for the test. The last eight items are rated in test rows alone.
    """
    rng = np.random.default_rng(seed)
    quality, taste = rng.normal(size=items), rng.normal(size=(3, items))
    rows: list[tuple[object, ...]] = []
    for user in range(users):
        part = ("train", "train", "train", "valid", "test")[user % 5]
        group = user % 3
        for place, item in enumerate(rng.permutation(items if part == "test" or user % 5 == 0 else items - 8)[: 10 + user % 11]):
            new = item >= items - 8
            own = "test" if part == "train" and (new or place == 0) else part
            rating = float(np.clip(np.round(3.2 + quality[item] * 0.6 + taste[group, item] * 0.7 + 0.4 * rng.normal()), 1, 5))
            genres = [f"g{item % 4}", f"g{item % 7}"]
            rows.append((user, f"i{item}", f"a{group}", genres, 1980.0 + float(item), rating, int(rating >= 4), own))
    names = ["user", "item", "age", "genres", "year", "rating", "click", "part"]
    return pl.DataFrame(rows, schema=names, orient="row", strict=False).with_row_index("time")


def write(folder: Path, *, log: pl.DataFrame | None = None, changes: dict[str, str] | None = None) -> Path:
    """The log and its run file in a folder, some text of the file replaced; the path of the file."""
    return written(folder, frame() if log is None else log, MORE, changes=changes)

"""A log with planted tastes, and the run file that trains retrieval on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tests.runs import written

TASTES, ITEMS, USERS, ROWS = 4, 120, 200, 6_000
MORE = """user = {{ kind = "id" }}
item = {{ kind = "id" }}
taste = {{ kind = "category" }}
kind = {{ kind = "category" }}
price = {{ kind = "number" }}
[tasks]
click = {{ }}
[split]
by = "time"
valid = 4800
test = 5400
[model]
recipe = "shared_bottom"
dim = 2
expert = [4]
tower = [2]
[fit]
epochs = 1
threads = 1
[evaluate]
resamples = 40
[retrieval]
task = "click"
dim = 8
hidden = []
width = 8
epochs = {epochs}
batch = 256
rate = 0.02
neighbours = 30
shrink = 2.0
"""


def planted(folder: Path, *, epochs: int = 6) -> Path:
    """Users click items of the kind that is their taste, and hardly any others; the path of the run file.

    Taste is a field of users, kind and price are fields of items: item 7 is of kind 3, and so on. A tenth of all rows show item 0.
    """
    draw = np.random.default_rng(5)
    user, item = draw.integers(0, USERS, ROWS), draw.integers(0, ITEMS, ROWS)
    item = np.where(draw.random(ROWS) < 0.1, 0, item)
    clicked = draw.random(ROWS) < np.where(user % TASTES == item % TASTES, 0.9, 0.02)
    about = {"taste": user % TASTES, "kind": item % TASTES, "price": np.sqrt(item), "click": clicked.astype(int)}
    return written(folder, pl.DataFrame({"user": user, "item": item, **about, "time": np.arange(ROWS)}), MORE.format(epochs=epochs))

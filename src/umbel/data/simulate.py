"""A simulated log with a known answer: tastes that agree or conflict between tasks, and the exact probability behind every label."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from umbel import durable
from umbel.data.source import Source
from umbel.data.split import ByTime
from umbel.errors import UserError
from umbel.schema import Field, FieldKind, Schema, Task

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = 86_400_000  # milliseconds
DEVICES = ("desktop", "phone", "tablet")
LABELS = (Task("click"), Task("like"), Task("buy", given="click"))
GROUPS = 6  # regions of users, and genres of items
PRICES = 4


@dataclass(frozen=True, slots=True)
class Planted:
    """What is planted in a simulated log.

    An item has two sets of `dim` traits: what shows at once and what shows later. A user has a taste for either. What
    draws a user, `drawn = taste . first / sqrt(dim)`, moves `click`; what satisfies moves `like` and `buy`. On agreeing
    users it is the same number; on a share `conflict` of the users it is
    `correlation * drawn + sqrt(1 - correlation^2) * later taste . later traits / sqrt(dim)`,
    so that over items the two go together by `correlation` (-1 .. 1). The logit of a label is
    `intercept + strength * (drawn or satisfied) + quality of the item + device`,
    with intercepts that make the mean probabilities equal to `rates` (click, like, buy given click).
    A share `explained` of tastes and of items is known from the user's region and the item's genre.
    A share `unobserved` of the labels is missing at random; items follow a Zipf law with exponent `skew`.
    """

    users: int = 2_000
    items: int = 400
    rows: int = 100_000
    dim: int = 6
    conflict: float = 0.5
    correlation: float = -1.0
    strength: float = 2.5
    rates: tuple[float, float, float] = (0.3, 0.2, 0.1)
    explained: float = 0.1
    unobserved: float = 0.02
    skew: float = 0.5
    days: int = 10
    seed: int = 1

    def __post_init__(self) -> None:
        counts = {"users": self.users, "items": self.items, "rows": self.rows, "dim": self.dim, "days": self.days - 2}
        for name, value in counts.items():
            if value < 1:
                raise UserError(f"simulate: {name} is too small", mend="give at least 1 (3 days)")
        shares = {"conflict": self.conflict, "explained": self.explained, "unobserved": self.unobserved}
        for name, share in {**shares, "|correlation|": abs(self.correlation)}.items():
            if not 0.0 <= share <= 1.0:
                raise UserError(f"simulate: {name} = {share} is no share", mend="give a number from 0 to 1")
        if not all(0.0 < rate < 1.0 for rate in self.rates):
            raise UserError(f"simulate: rates = {self.rates}", mend="every rate lies between 0 and 1")


# Two dense tasks that want unrelated things of the same ids; and tasks that want the same, one of them sparse.
CONFLICTING = Planted(users=800, items=200, rows=100_000, dim=3, conflict=1.0, correlation=0.0, rates=(0.4, 0.3, 0.3), days=7)
AGREEING = Planted(users=400, items=150, rows=100_000, dim=2, conflict=0.0, rates=(0.3, 0.05, 0.2), days=7)


@dataclass(frozen=True, slots=True)
class World:
    """The latent half of a simulation: one row a user or an item."""

    tastes: Float[np.ndarray, "two users dim"]
    conflicting: Bool[np.ndarray, "users"]
    regions: Int[np.ndarray, "users"]
    traits: Float[np.ndarray, "two items dim"]
    genres: Int[np.ndarray, "items"]
    prices: Int[np.ndarray, "items"]
    quality: Float[np.ndarray, "three items"]
    device: Float[np.ndarray, "three devices"]


def simulate(planted: Planted, folder: Path) -> None:
    """Write `log.parquet`, `truth.parquet` and `planted.json` into a folder; equal settings give equal bytes.

    The log holds `user, item, time_ms, device, region, genre, price` and the labels `click, like, buy` (null where
    unobserved), in order of time. The truth holds, for the same rows, `p_click, p_like, p_buy` (buy given click) and
    whether the user's tastes conflict; nothing in the log tells either.

    :raises UserError: if the folder cannot be written.
    """
    world_seed, row_seed, label_seed = np.random.SeedSequence(planted.seed).spawn(3)
    world = _world(planted, _generator(world_seed))
    rows = _rows(planted, world, _generator(row_seed))
    chances = _chances(planted, world, rows)
    labels = _labels(planted, chances, _generator(label_seed))
    user = rows["user"].to_numpy()
    truth = pl.DataFrame({f"p_{task.name}": chance for task, chance in zip(LABELS, chances, strict=True)})
    _write(rows.with_columns(labels), folder / "log.parquet")
    _write(truth.with_columns(conflicting=pl.Series(world.conflicting[user])), folder / "truth.parquet")
    durable.write(folder / "planted.json", json.dumps(asdict(planted), indent=1) + "\n")


def schema(tasks: tuple[str, ...] = ("click", "like", "buy")) -> Schema:
    """The schema of a simulated log, for some of its tasks; :raises UserError: on a task it does not have."""
    known = Schema(_FIELDS, LABELS)
    return Schema(_FIELDS, tuple(known.task(name) for name in tasks))


def source(folder: Path) -> Source:
    """Where a simulated log lies."""
    return Source(str(folder / "log.parquet"), user="user", item="item", time="time_ms")


def split(planted: Planted) -> ByTime:
    """The last day is the test, the day before it validation."""
    return ByTime(valid=(START + timedelta(days=planted.days - 2)).date(), test=(START + timedelta(days=planted.days - 1)).date())


_FIELDS = (
    Field("user", FieldKind.ID, min_count=1),
    Field("item", FieldKind.ID, min_count=1),
    Field("device", FieldKind.CATEGORY, min_count=1),
    Field("region", FieldKind.CATEGORY, min_count=1),
    Field("genre", FieldKind.CATEGORY, min_count=1),
    Field("price", FieldKind.CATEGORY, min_count=1),
)


def _generator(seed: np.random.SeedSequence) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _world(planted: Planted, draw: np.random.Generator) -> World:
    regions, genres = draw.integers(GROUPS, size=planted.users), draw.integers(GROUPS, size=planted.items)
    return World(
        tastes=_grouped(planted, draw, regions),
        conflicting=draw.random(planted.users) < planted.conflict,
        regions=regions,
        traits=_grouped(planted, draw, genres),
        genres=genres,
        prices=draw.integers(PRICES, size=planted.items),
        quality=0.3 * draw.standard_normal((len(LABELS), planted.items)),
        device=0.3 * draw.standard_normal((len(LABELS), len(DEVICES))),
    )


def _grouped(planted: Planted, draw: np.random.Generator, groups: Int[np.ndarray, "members"]) -> Float[np.ndarray, "two members dim"]:
    # Unit variance a number: a share `explained` comes from the group's centre, the rest is the member's own.
    centres = draw.standard_normal((2, GROUPS, planted.dim))[:, groups]
    own = draw.standard_normal((2, groups.size, planted.dim))
    mixed: Float[np.ndarray, "two members dim"] = np.sqrt(planted.explained) * centres + np.sqrt(1.0 - planted.explained) * own
    return mixed


def _rows(planted: Planted, world: World, draw: np.random.Generator) -> pl.DataFrame:
    popularity = (1.0 + np.arange(planted.items)) ** -planted.skew
    user = draw.integers(planted.users, size=planted.rows)
    item = draw.choice(planted.items, size=planted.rows, p=popularity / popularity.sum())
    time = int(START.timestamp() * 1000) + np.sort(draw.integers(planted.days * DAY, size=planted.rows))
    columns = {
        "user": user,
        "item": item,
        "time_ms": time,
        "device": np.array(DEVICES)[draw.integers(len(DEVICES), size=planted.rows)],
        "region": world.regions[user],
        "genre": world.genres[item],
        "price": world.prices[item],
    }
    return pl.DataFrame(columns)


def _chances(planted: Planted, world: World, rows: pl.DataFrame) -> list[Float[np.ndarray, "rows"]]:
    user, item = rows["user"].to_numpy(), rows["item"].to_numpy()
    device = np.searchsorted(np.array(DEVICES), rows["device"].to_numpy().astype(str))
    first, later = (np.einsum("rd,rd->r", world.tastes[which][user], world.traits[which][item]) / np.sqrt(planted.dim) for which in (0, 1))
    turned = planted.correlation * first + np.sqrt(1.0 - planted.correlation**2) * later
    satisfied = np.where(world.conflicting[user], turned, first)
    chances: list[Float[np.ndarray, "rows"]] = []
    for task, (rate, pull) in enumerate(zip(planted.rates, (first, satisfied, satisfied), strict=True)):
        logit = planted.strength * pull + world.quality[task, item] + world.device[task, device]
        chances.append(_sigmoid(logit + _intercept(logit, rate)))
    return chances


def _sigmoid(logit: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows"]:
    chance: Float[np.ndarray, "rows"] = np.exp(-np.logaddexp(0.0, -logit))
    return chance


def _intercept(logit: Float[np.ndarray, "rows"], rate: float) -> float:
    low, high = -50.0, 50.0  # the mean probability rises with the intercept: halve until the two meet
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logit + middle).mean() < rate else (low, middle)
    return (low + high) / 2


def _labels(planted: Planted, chances: list[Float[np.ndarray, "rows"]], draw: np.random.Generator) -> list[pl.Series]:
    events = [draw.random(chance.size) < chance for chance in chances]
    events[2] &= events[0]  # what was not clicked was not bought
    hidden = [draw.random(event.size) < planted.unobserved for event in events]
    hidden[2] |= hidden[0]  # without the click nobody knows whether there was a sale to see
    return [
        pl.Series(task.name, np.where(missing, -1, event).astype(np.int8)).replace(-1, None)
        for task, event, missing in zip(LABELS, events, hidden, strict=True)
    ]


def _write(frame: pl.DataFrame, path: Path) -> None:
    # Every option that shapes the bytes is named, so that a changed default of the library cannot change a log.
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=65_536)
    durable.write(path, buffer.getvalue())

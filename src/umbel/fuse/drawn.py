"""What a service drew, as it can be drawn again by another fusion: candidates, chances, and the labels that came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from umbel.bundle import Bundle
from umbel.data.derive import label_value
from umbel.data.groups import groups
from umbel.data.labels import events
from umbel.data.source import Log, Source
from umbel.errors import UserError
from umbel.evaluate.offpolicy import UNKNOWN
from umbel.evaluate.slates import NOBODY, Slates
from umbel.fuse.ranked import Columns

SIZE = 1 << 16
UNEXPLAINED = "chances that the candidates do not explain"
AGREE = 1e-3  # logged chances and those of the logged candidates, which are kept in single precision


@final
@dataclass(frozen=True, slots=True)
class Drawn:
    """Decisions that another fusion could have made. Labels of positions that a list does not have are 0.

    `excluded` counts the decisions that are left out, by reason.
    """

    columns: Columns
    slates: Slates
    predictions: Float[np.ndarray, "candidates columns"]
    temperature: Float[np.ndarray, "decisions"]
    logging: Float[np.ndarray, "decisions positions"]
    labels: Float[np.ndarray, "decisions positions tasks"]
    user: Int[np.ndarray, "decisions"]
    excluded: Mapping[str, int] = field(default_factory=dict)

    def where(self, rows: Bool[np.ndarray, "decisions"]) -> Drawn:
        """Some of the decisions."""
        owner = self.slates.owner()
        kept = rows[owner]
        sizes = np.diff(np.append(self.slates.start, self.slates.candidates))[rows]
        start = np.cumsum(sizes) - sizes
        there = self.slates.shown[rows] != NOBODY
        shown = np.where(there, self.slates.shown[rows] - self.slates.start[rows, None] + start[:, None], NOBODY)
        slates = Slates(start, shown, int(sizes.sum()))
        predictions, temperature, logging = self.predictions[kept], self.temperature[rows], self.logging[rows]
        return Drawn(self.columns, slates, predictions, temperature, logging, self.labels[rows], self.user[rows], self.excluded)


def read_drawn(bundle: Bundle, source: Source, columns: Columns, *, choices: pl.DataFrame, checksum: str) -> Drawn:
    """The decisions of a collected log (in `source`) that this bundle, of that checksum, drew, beside what each chose from.

    Left out and counted: those without candidates or chances (degraded and cached answers), those of another bundle, those where
    nothing was drawn, those with a label that is not settled, and those whose chances their candidates do not explain.

    :raises UserError: for a log that `umbel collect` did not write, or one of which less than half is left.
    """
    frame = _labelled(bundle, source, columns)
    whole = frame.join(choices, on="request_id", how="left", maintain_order="left")
    reasons = {
        "no candidates": pl.col("shown").is_null(),
        "another bundle": ~pl.lit(checksum).str.starts_with(pl.col("bundle")),
        "no propensity": pl.col("propensity").list.eval(pl.element().is_null().any()).list.first().fill_null(value=True),
        "nothing was drawn": pl.col("temperature").fill_null(0.0) <= 0,
        "not what was shown": pl.col("shown").list.len() != pl.col("labels").list.len(),
        "a label is not settled": pl.col("unsettled"),
    }
    decisions, excluded = whole.height, dict[str, int]()
    for reason, holds in reasons.items():
        left = whole.filter(~holds)
        excluded[reason] = whole.height - left.height
        whole = left
    _check_left(source.log, decisions, excluded)
    drawn, fused = _arrays(whole, columns)
    explained = _explained(drawn, fused)
    excluded[UNEXPLAINED] = int((~explained).sum())
    _check_left(source.log, decisions, excluded)
    return replace(drawn.where(explained), excluded={reason: count for reason, count in excluded.items() if count})


def _check_left(log: str, decisions: int, excluded: Mapping[str, int]) -> None:
    """:raises UserError: where too few are left to stand for all."""
    lost = sum(excluded.values())
    if lost > UNKNOWN * decisions:
        counts = ", ".join(f"{reason}: {count:,}" for reason, count in excluded.items() if count)
        what = f"{log}: {lost:,} of {decisions:,} decisions cannot be replayed ({counts})"
        mend = "give a log of this bundle, drawn at a temperature above 0"
        penalised = excluded.get(UNEXPLAINED, 0) > lost / 2
        raise UserError(what, mend=f"{mend} and without a penalty, which choices do not hold" if penalised else mend)


def _labelled(bundle: Bundle, source: Source, columns: Columns) -> pl.DataFrame:
    """A row a decision: its request, the user, the labels of its positions from the top, and whether one is not settled."""
    tasks = {task.name: task for task in bundle.schema.tasks}
    places = [list(tasks).index(name) for name in columns.tasks]
    log = Log(source)
    wanted = dict.fromkeys(["request_id", "position", *(name for task in columns.tasks for name in label_value(tasks[task]).reads)])
    for column in wanted:
        log.first(column)
    parts, start = [], 0
    for frame in log.read([*wanted, *([source.user] if source.user else [])], SIZE):
        happened = events(frame, bundle.schema, start, log=source.log)[:, places].astype(np.float64)
        parts.append(frame.select(
            pl.col("request_id").cast(pl.String), pl.col("position"), pl.Series("user", groups(frame, source, start)),
            pl.Series("labels", happened, dtype=pl.Array(pl.Float64, len(places))), pl.Series("unsettled", np.isnan(happened).any(1)),
        ))  # fmt: skip
        start += frame.height
    if not parts:
        raise UserError(f"{source.log}: no rows", mend="give a log that has some")
    rows = pl.concat(parts).sort("request_id", "position", maintain_order=True)
    return rows.group_by("request_id", maintain_order=True).agg(pl.col("user").first(), pl.col("labels"), pl.col("unsettled").any())


def _arrays(whole: pl.DataFrame, columns: Columns) -> tuple[Drawn, Float[np.ndarray, "candidates"]]:
    """Decisions as arrays, and the fused scores that they were drawn by."""
    sizes = whole["fused"].list.len().to_numpy().astype(np.int64)
    start = np.cumsum(sizes) - sizes
    lengths = whole["shown"].list.len().to_numpy().astype(np.int64)
    there = np.arange(lengths.max())[None] < lengths[:, None]
    shown = np.full(there.shape, NOBODY)
    shown[there] = (whole["shown"].explode().to_numpy() + np.repeat(start, lengths))
    logging, labels = np.ones(there.shape), np.zeros((*there.shape, len(columns.tasks)))
    logging[there] = whole["propensity"].explode().to_numpy()
    labels[there] = whole["labels"].explode().to_numpy()
    outputs = whole["outputs"][0].to_list()
    table = whole["predictions"].explode().to_numpy().reshape(-1, len(outputs)).astype(np.float64)
    predictions = table[:, [outputs.index(one) for one in columns.predictions]]
    slates = Slates(start, shown, int(sizes.sum()))
    temperature, user = whole["temperature"].to_numpy(), whole["user"].to_numpy()
    return Drawn(columns, slates, predictions, temperature, logging, labels, user), whole["fused"].explode().to_numpy().astype(np.float64)


def _explained(drawn: Drawn, fused: Float[np.ndarray, "candidates"]) -> Bool[np.ndarray, "decisions"]:
    """Whether a draw by the logged scores has the logged chances: no other candidates, masks or penalties were at work."""
    chance = drawn.slates.steps(fused / drawn.temperature[drawn.slates.owner()]).chance
    agrees: Bool[np.ndarray, "decisions"] = (np.abs(chance - drawn.logging) <= AGREE * drawn.logging).all(1)
    return agrees

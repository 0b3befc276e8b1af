"""A bundle of an untrained model on a small log, with a fusion to start at: for tests of what is done with predictions."""

from __future__ import annotations

from pathlib import Path

from tests.logs import SCHEMA, SPLIT, source
from umbel.bundle import Built, Bundle
from umbel.data.ingest import ingest
from umbel.evaluate.calibrate import Calibrator, Identity, Platt
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.nn.recommender import Sizes
from umbel.run.report import Report

POLICY = Fusion((Term("click", Linear()), Term("buy_marginal", Linear(2.0)), Term("spent", Linear(0.5), -1)), "small")


def bundle(folder: Path, *, fusion: Fusion | None = POLICY) -> Path:
    """Where it lies."""
    rows = source(folder)
    table = ingest(rows, SCHEMA, SPLIT, folder=folder / "table")
    built = Built("ple", Sizes({name: one.size for name, one in table.encoder.vocabularies.items()}, dim=2, expert=(4,), tower=(3,)))
    report = Report("ple", 5, {"train": 6}, (), 77, 1.0, 2.0, 3, settings={}).to_json()
    calibrators: dict[str, Calibrator] = {"click": Platt(), "buy": Platt(), "spent": Identity()}
    made = Bundle(rows, table.encoder, built, built(SCHEMA).eval(), calibrators, report, fusion=fusion)
    made.save(folder / "bundle", golden=table.golden())
    return folder / "bundle"

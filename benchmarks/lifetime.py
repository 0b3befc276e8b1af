"""Does a zero-inflated log-normal beat squared error on lifetime values? Simulated customers whose worth is known, paired seeds.

`python benchmarks/lifetime.py` trains the model of examples/lifetime.toml as it is and with a plain regression in the place of the amount,
each with the same rates to choose from by validation Gini, and judges both on the same test customers.
"""

from __future__ import annotations

import argparse
import json
import runpy
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from umbel.bundle import Bundle
from umbel.data.source import Source
from umbel.data.table import Table
from umbel.evaluate import amounts
from umbel.evaluate.figures import Rows
from umbel.evaluate.intervals import Sampled, resample
from umbel.evaluate.metrics import Undefined
from umbel.evaluate.paired import average, paired
from umbel.evaluate.spread import amount_figures
from umbel.run.run import prepare, train
from umbel.run.settings import read

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples"
UNIT = 50.0  # the regression's label is the value by this, so that its loss begins near 1; its predictions are multiplied again
VALID, TEST = 255, 310
KINDS: Mapping[str, Sequence[str]] = {
    "zero_inflated": (),
    "regression": ('tasks.value.kind="regression"', f'tasks.value.sql="value / {UNIT}"'),
}
METRICS = ("gini", "decile_slope", "decile_error", "rmse", "mae", "calibration_ratio")


def predictions(folder: Path, log: pl.DataFrame, *, unit: float) -> np.ndarray:
    """What a run's bundle says of these customers, in the log's unit."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.parquet"
        log.write_parquet(path)
        bundle = Bundle.load(folder / "bundle")
        scores = np.concatenate([one for _, one in bundle.score(Source(str(path), user="customer", time="day"))])
    found: np.ndarray = scores[:, bundle.columns.index("value")] * unit
    return found


def judged(log: pl.DataFrame, found: np.ndarray) -> dict[str, Sampled]:
    """All figures of amounts, on the rows as they are and resampled by customer."""
    customers = log["customer"].to_numpy()
    draws = amount_figures(Rows(log["value"].to_numpy(), found, found, customers, resample(customers))).draws
    known = {name: draws[name] for name in METRICS}
    assert not any(isinstance(one, Undefined) for one in known.values())
    return {name: one for name, one in known.items() if isinstance(one, Sampled)}


def runs(
    kind: str, log: pl.DataFrame, folder: Path, *, rates: Sequence[float], seeds: int
) -> tuple[float, list[dict[str, Sampled]], list[float]]:
    """The rate with the highest mean validation Gini, what its seeds come to on test, and each rate's Gini."""
    unit = UNIT if kind == "regression" else 1.0
    valid = log.filter(pl.col("day").is_between(VALID, TEST - 1))
    test = log.filter(pl.col("day") >= TEST)
    common = [f'data.log="{folder / "log.parquet"}"', *KINDS[kind]]
    prepare(read(EXAMPLE / "lifetime.toml", common), folder / kind / "table")
    table = Table.open(folder / kind / "table")
    scores = []
    for rate in rates:
        each = []
        for seed in range(1, seeds + 1):
            at = folder / kind / f"rate={rate}" / f"seed={seed}"
            own = [*common, f"fit.rate={rate}", f"fit.seed={seed}", "fit.threads=1"]
            train(read(EXAMPLE / "lifetime.toml", own), at, table=table)
            one = amounts.gini(valid["value"].to_numpy(), predictions(at, valid, unit=unit))
            each.append(one if isinstance(one, float) else 0.0)
        print(f"{kind}, rate {rate}: validation Gini {np.mean(each):.4f} ({min(each):.4f} to {max(each):.4f})", flush=True)
        scores.append(float(np.mean(each)))
    best = rates[int(np.argmax(scores))]
    at = folder / kind / f"rate={best}"
    return best, [judged(test, predictions(at / f"seed={seed}", test, unit=unit)) for seed in range(1, seeds + 1)], scores


def main() -> None:
    """Simulate, train, judge, leave results/lifetime.json."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--customers", type=int, default=20_000)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--rates", type=float, nargs="+", default=[0.001, 0.003])
    asked.add_argument("-o", "--out", type=Path, default=HERE / "results" / "lifetime.json")
    given = asked.parse_args()
    log, worth = runpy.run_path(str(EXAMPLE / "lifetime.py"))["customers"](given.customers, 1)
    later = log["day"].to_numpy() >= TEST
    rates = " ".join(map(str, given.rates))
    result: dict[str, object] = {
        "command": f"python benchmarks/lifetime.py --customers {given.customers} --seeds {given.seeds} --rates {rates}",
        "rows": {"train": int((log["day"] < VALID).sum()), "test": int(later.sum()),
                 "buyers in test": int((log["value"].to_numpy()[later] > 0).sum())},
        "known worth": {name: asdict(one.interval()) for name, one in judged(log.filter(pl.Series(later)), worth[later]).items()},
    }
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        log.write_parquet(Path(scratch) / "log.parquet")
        with ProcessPoolExecutor(len(KINDS), mp_context=get_context("spawn")) as pool:
            judging = [pool.submit(runs, kind, log, Path(scratch), rates=given.rates, seeds=given.seeds) for kind in KINDS]
        for kind, one in zip(KINDS, judging, strict=True):
            rate, seeds, scores = one.result()
            found[kind] = seeds
            result[kind] = {
                "rate": rate,
                "validation gini by rate": dict(zip(map(str, given.rates), scores, strict=True)),
                "test": {name: asdict(average([one[name] for one in seeds]).interval()) for name in METRICS},
                "seeds": {name: [one[name].value for one in seeds] for name in METRICS},
            }
    ginis = ([one["gini"] for one in found[kind]] for kind in ("zero_inflated", "regression"))
    pair = paired(*ginis)
    result["gini, zero_inflated less regression"] = asdict(pair)
    given.out.write_text(json.dumps(result, indent=1, default=str) + "\n")
    print(json.dumps(result, indent=1, default=str))


if __name__ == "__main__":
    main()

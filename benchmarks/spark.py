"""The same log into the same table, here and on Spark `local[2]`: rows a second, and whether a byte differs.

Run `python benchmarks/spark.py`. The log is that of `ingest.py`: twelve integer columns, and eight of two tables joined by key. Every
ingest is a process of its own, local and Spark in turn; of Spark's time the part until its rows are laid out is told, too (with its start).
"""

from __future__ import annotations

import argparse
import filecmp
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import ingest as logs
import measured

from umbel.data.ingest import KEPT, ingest
from umbel.data.laid import Elsewhere, Laid
from umbel.data.source import Source
from umbel.data.split import ByTime, Split
from umbel.schema import Schema

MASTER = "local[2]"
Figures = dict[str, float]


def one(folder: Path, rows: int, out: Path, *, spark: bool) -> Figures:
    """One ingest, in this process."""
    source = logs.source(folder, folder / "log.parquet")
    laid = 0.0

    def lay(given: Source, schema: Schema, split: Split, *, folder: Path) -> Laid:
        nonlocal laid
        from umbel.data.spark.lay import Spark
        from umbel.data.spark.session import started

        began = time.perf_counter()
        found = Spark(partial(started, MASTER), KEPT)(given, schema, split, folder=folder)
        laid = time.perf_counter() - began
        return found

    began = time.perf_counter()
    ingest(Elsewhere(source, lay) if spark else source, logs.schema(), ByTime(rows * 8 // 10, rows * 9 // 10), folder=out)
    return {"seconds": time.perf_counter() - began, "laid_seconds": laid}


def apart(folder: Path, rows: int, where: str) -> Figures:
    """One ingest in a process of its own."""
    command = [sys.executable, __file__, "--one", str(folder), str(rows), where]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    seconds, laid = figures["seconds"], figures["laid_seconds"]
    print(f"{where:6} {rows / seconds:11,.0f} rows/s, {seconds:.1f} s, of these {laid:.1f} s until Spark is done", flush=True)
    return figures


def alike(one: Path, other: Path) -> bool:
    """Whether two tables have the same files."""
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    same = names == sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
    return same and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def main() -> None:
    """Parse, measure in turn, compare, write."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=2 * 10**6)
    parser.add_argument("--distinct", type=lambda text: int(float(text)), default=10**5, help="ids a column")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, rows, where = options.one
        print(json.dumps(one(Path(folder), int(rows), Path(folder) / where, spark=where == "spark")))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logs.write_log(folder / "log.parquet", options.rows, options.distinct, spread=False)
        for key in ("c0", "c1"):
            logs.write_joined(folder / f"{key}.parquet", key, options.distinct, spread=False)
        runs = [{where: apart(folder, options.rows, where) for where in ("here", "spark")} for _ in range(options.rounds)]
        same = alike(folder / "here", folder / "spark")
    print(f"the tables are {'the same' if same else 'NOT the same'}")
    here, there = ([run[where]["seconds"] for run in runs] for where in ("here", "spark"))
    found = [
        measured.ratio("local ingest: million rows a second", [options.rows / one / 1e6 for one in here]),
        measured.ratio("Spark local[2]: million rows a second", [options.rows / one / 1e6 for one in there]),
        measured.ratio("Spark local[2] over local ingest, seconds", measured.over(there, here)),
    ]
    measured.write(options.o, {"rows": options.rows, "distinct": options.distinct, "same": same, "runs": runs}, found, threads=2)


if __name__ == "__main__":
    main()

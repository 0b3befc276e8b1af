"""How fast a log becomes a table, and how much memory that takes: integer columns, two joins, Parquet and CSV, several sizes.

Run `python benchmarks/ingest.py --rows 1e6 1e7`. Every ingest is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import measured
import numpy as np
import polars as pl

from umbel.data.ingest import ingest
from umbel.data.source import Join, Source
from umbel.data.split import ByTime
from umbel.data.table import Table
from umbel.schema import Field, FieldKind, Schema, Task

HERE = Path(__file__).parent
OWN, JOINED = 12, 4  # columns of the log, and of each of the two joined tables: 20 in all
CHUNK = 1 << 20
Figures = dict[str, object]


def ids(count: int, rows: int, column: int, *, spread: bool) -> np.ndarray:
    """Numbers below `count`; spread over all of int64 where ids are hashes rather than counters."""
    numbers = np.random.default_rng([column, rows]).integers(0, count, rows)
    return numbers * 0x9E3779B97F4A7C1 if spread else numbers


def write_log(path: Path, rows: int, distinct: int, *, spread: bool, group: int = CHUNK) -> None:
    """Row groups of `group` rows; of a CSV, the same rows as text."""
    part = path.with_suffix(".parts")
    part.mkdir()
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        columns = {f"c{column}": ids(distinct, count, column + OWN * start, spread=spread) for column in range(OWN)}
        label = np.random.default_rng(start).integers(0, 2, count)
        pl.DataFrame({**columns, "time": np.arange(start, start + count), "click": label}).write_parquet(part / f"{start:012}.parquet")
    frame = pl.scan_parquet(part / "*.parquet")
    frame.sink_csv(path) if path.suffix == ".csv" else frame.sink_parquet(path, row_group_size=group)
    for one in part.iterdir():
        one.unlink()
    part.rmdir()


def write_joined(path: Path, key: str, distinct: int, *, spread: bool) -> None:
    """One row for every id of a column."""
    known = np.arange(distinct) * (0x9E3779B97F4A7C1 if spread else 1)
    columns = {f"{key}_{column}": np.random.default_rng(column).integers(0, distinct, distinct) for column in range(JOINED)}
    pl.DataFrame({key: known, **columns}).write_parquet(path)


def schema() -> Schema:
    """Twenty coded columns and a click."""
    names = [f"c{column}" for column in range(OWN)] + [f"c{key}_{column}" for key in range(2) for column in range(JOINED)]
    return Schema(tuple(Field(name, FieldKind.ID) for name in names), (Task("click"),))


def source(folder: Path, log: Path) -> Source:
    """The log with both tables joined."""
    joins = tuple(Join(str(folder / f"{key}.parquet"), key) for key in ("c0", "c1"))
    return Source(str(log), user="c0", item="c1", time="time", joins=joins)


def one(folder: Path, log: Path, rows: int) -> Figures:
    """One ingest, in this process: its time and its peak memory, that of importing everything apart.

    `bytes` counts pages of files that the system has mapped and may drop; `own_bytes` (where the system tells) does not.
    """
    before = peak()
    with Watched() as memory:
        wall, cpu = time.perf_counter(), time.process_time()
        table = ingest(source(folder, log), schema(), ByTime(rows * 8 // 10, rows * 9 // 10), folder=folder / "table")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    held = sum(vocabulary.frame.height for vocabulary in table.encoder.vocabularies.values())
    figures = {"seconds": wall, "cpu_seconds": cpu, "bytes": peak(), "bytes_at_rest": before, "ids": held, "table_bytes": size(table)}
    return {**figures, "own_bytes": memory.peak, "own_bytes_at_rest": memory.before, "load": os.getloadavg()[0]}


class Watched:
    """The most anonymous memory of this process while it lasts, looked at every 20 ms."""

    def __init__(self) -> None:
        self.before = self.peak = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, anonymous())


def anonymous() -> int:
    """Bytes of memory that are no file's; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def peak() -> int:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def size(table: Table) -> int:
    """Bytes of a table on disk."""
    return sum(path.stat().st_size for path in table.folder.rglob("*") if path.is_file())


def apart(folder: Path, log: Path, rows: int, threads: int) -> Figures:
    """One ingest in a process of its own."""
    command = [sys.executable, str(HERE / "ingest.py"), "--one", str(folder), str(log), str(rows)]
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(folder: Path, rows: int, options: argparse.Namespace) -> list[Figures]:
    """Parquet and CSV of one size."""
    found: list[Figures] = []
    for key in ("c0", "c1"):
        write_joined(folder / f"{key}.parquet", key, options.distinct, spread=options.spread)
    for suffix in options.formats:
        log = folder / f"log.{suffix}"
        write_log(log, rows, options.distinct, spread=options.spread, group=options.group)
        for _ in range(options.repeat):
            figures = apart(folder, log, rows, options.threads)
            found.append(line({"format": suffix, "rows": rows, "log_bytes": log.stat().st_size, **figures}, options))
        log.unlink()
    return found


def line(figures: Figures, options: argparse.Namespace) -> Figures:
    """Figures with their ratios, printed."""
    rows, seconds, cpu, memory, held = (float(str(figures[name])) for name in ("rows", "seconds", "cpu_seconds", "own_bytes", "ids"))
    rest = float(str(figures["own_bytes_at_rest"]))
    figures |= {"rows_per_second": rows / seconds, "rows_per_cpu_second": rows / cpu, "own_bytes_per_id": (memory - rest) / held}
    figures |= {"distinct": options.distinct, "spread": options.spread, "group": options.group, "reader": "slices"}
    print(
        f"{figures['format']:8} {rows:11,.0f} rows  {rows / seconds:11,.0f} rows/s  {rows / cpu:11,.0f} rows per CPU second"
        f"  {memory / 2**20:7,.0f} MiB at most, {rest / 2**20:,.0f} at rest  {held:12,.0f} ids kept",
        flush=True,
    )
    return figures


def ratios(runs: list[Figures]) -> list[measured.Ratio]:
    """Of each format and size: millions of rows a second, and bytes for each id that is kept."""
    found = []
    for kind, rows in dict.fromkeys((str(run["format"]), int(str(run["rows"]))) for run in runs):
        own = [run for run in runs if (run["format"], run["rows"]) == (kind, rows)]
        name, goal = f"{kind}, {rows:,} rows", {"parquet": 2.0, "csv": 0.3}[kind]
        found.append(measured.ratio(f"{name}: million rows a second", [float(str(run["rows_per_second"])) / 1e6 for run in own], goal=goal))
        found.append(measured.ratio(f"{name}: million rows a second of processor time",
                                    [float(str(run["rows_per_cpu_second"])) / 1e6 for run in own]))
        found.append(measured.ratio(f"{name}: own memory, GB over what ids may take (60 bytes each)",
                                    [(float(str(run["own_bytes"])) - 60 * float(str(run["ids"]))) / 1e9 for run in own], goal=4, most=True))
    return found


def main() -> None:
    """Parse, measure, print, write."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--distinct", type=lambda text: int(float(text)), default=10**6, help="ids a column")
    parser.add_argument("--spread", action="store_true", help="ids all over int64 instead of from 0")
    parser.add_argument("--formats", nargs="+", default=["parquet", "csv"])
    parser.add_argument("--group", type=lambda text: int(float(text)), default=CHUNK, help="rows of a row group")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the logs are written (a temporary folder)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, log, rows = options.one
        print(json.dumps(one(Path(folder), Path(log), int(rows))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        runs = [run for rows in options.rows for run in measure(Path(folder), int(rows), options)]
    earlier = json.loads(options.o.read_text())["runs"] if options.o.exists() else []
    kept = [*earlier, *({**run, "command": measured.command(sys.argv)} for run in runs)]
    measured.write(options.o, {"runs": kept}, ratios(runs), threads=options.threads)


if __name__ == "__main__":
    main()

"""Batches of a table that memory does not hold: the whole part shuffled, and windows of it, in processes of a bounded memory.

Run `python benchmarks/held.py` as root on Linux: each order is read in a process of a control group of its own, from a table none
of whose pages are in memory, for an epoch or for `--seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ingest as logs
import measured

from umbel.data.ingest import ingest
from umbel.data.loader import Loader
from umbel.data.source import Source
from umbel.data.split import ByTime
from umbel.data.table import Table
from umbel.schema import Field, FieldKind, Schema, Task

HERE = Path(__file__).parent
GROUPS = Path("/sys/fs/cgroup")
BATCH = 4096
Figures = dict[str, float]


def table(folder: Path, rows: int) -> Table:
    """Integer columns and a click; nine rows of ten to train on."""
    logs.write_log(folder / "log.parquet", rows, 10**5, spread=False)
    fields = tuple(Field(f"c{column}", FieldKind.ID) for column in range(logs.OWN))
    source = Source(str(folder / "log.parquet"), user="c0", item="c1", time="time")
    return ingest(source, Schema(fields, (Task("click"),)), ByTime(rows * 9 // 10, rows * 95 // 100), folder=folder / "table")


@contextmanager
def bounded(limit: int) -> Iterator[Path]:
    """A control group that may hold so many bytes, pages of files among them; either version's."""
    old = GROUPS / "memory"
    group = (old if old.is_dir() else GROUPS) / f"umbel-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(limit))
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def forget(table: Table) -> None:
    """Have the system let go of a table's pages."""
    for file in table.folder.glob("*.npy"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def one(folder: Path, window: int, seconds: float) -> Figures:
    """An epoch in this process, or as much of it as a time allows, at least a batch."""
    opened = Table.open(folder)
    forget(opened)
    batches = iter(Loader(opened, "train", BATCH, window=window)(0))
    began, rows = time.perf_counter(), 0
    for batch in batches:
        rows += len(batch.labels)
        if time.perf_counter() - began > seconds:
            break
    passed = time.perf_counter() - began
    return {"rows": rows, "seconds": passed, "rows_per_second": rows / passed, "waits": resource.getrusage(resource.RUSAGE_SELF).ru_majflt}


def apart(folder: Path, window: int, asked: argparse.Namespace) -> Figures:
    """One order in a process of bounded memory."""
    words = [sys.executable, str(HERE / "held.py"), "--one", str(folder), str(window), str(asked.seconds)]
    with bounded(asked.megabytes << 20) as group:
        enter = ["sh", "-c", f'echo $$ > {group}; exec "$@"', "sh"]
        done = subprocess.run([*enter, *words], check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Rounds in turns; figures to benchmarks/results/held.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=30_000_000)
    parser.add_argument("--window", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=1024, help="memory of the process that reads, pages of files among them")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the table is written (a temporary folder)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(Path(asked.one[0]), int(asked.one[1]), float(asked.one[2]))))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        made = table(Path(folder), asked.rows)
        size = sum(file.stat().st_size for file in made.folder.glob("*.npy"))
        orders = {"whole": 0, "windows": asked.window}
        rounds = [{name: apart(made.folder, window, asked) for name, window in orders.items()} for _ in range(asked.rounds)]
    speeds = {name: [each[name]["rows_per_second"] for each in rounds] for name in orders}
    ratios = [
        measured.ratio("rows a second, windows over the whole part shuffled", measured.over(speeds["windows"], speeds["whole"])),
        measured.ratio("by windows, million rows a second", [speed / 1e6 for speed in speeds["windows"]]),
    ]
    print("\n".join(f"{ratio.what}: {ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g})" for ratio in ratios))
    measured.write(asked.o, {"table_bytes": size, "megabytes": asked.megabytes, "window": asked.window, "rounds": rounds}, ratios)


if __name__ == "__main__":
    main()

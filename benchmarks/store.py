"""What a store can take and how fast it becomes a table: durable events and decisions a second, then join, log and ingest.

`python benchmarks/store.py --events 1e6`. Every phase is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import measured
import polars as pl

from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByTime
from umbel.feedback import Feedback, Rule
from umbel.schema import Field, FieldKind, Schema, Task
from umbel.serve.records import Decision, Event, Outcome, Rung, Shown
from umbel.serve.store import Store
from umbel.serve.store.collect import collect

HERE = Path(__file__).parent
START, STEP = 1_704_067_200_000, 10_000  # a decision every ten seconds from 2024-01-01 on
SHOWN, USERS, ITEMS = 10, 50_000, 20_000
EACH = 10                # events of a decision: nine that name the request, one that does not
FEEDBACK = Feedback(
    rules=(
        Rule(task="click", window=3_600_000, positive_when="kind = 'click'"),
        Rule(task="buy", window=2 * 3_600_000, positive_when="kind = 'buy' AND value > 1"),
    ),
    lateness=0,
)
Figures = dict[str, object]
Phase = Callable[[str, Path, int], Figures]


def item(decision: int, position: int) -> str:
    """Different items at the positions of a decision."""
    return str((decision * 7919 + position * 104_729) % ITEMS)


def decision(number: int) -> Decision:
    """A decision that shows ten items."""
    shown = tuple(
        Shown(item=item(number, position), fused=1 - position / 16, propensity=0.1, predictions=(0.25, 0.01)) for position in range(SHOWN)
    )
    return Decision(
        request=f"r{number:09}", user=str(number * 31 % USERS), time=START + number * STEP, bundle="b", fusion="f", rung=Rung.FULL,
        shown=shown, outputs=("click", "buy"), fields={"hour": number % 24, "device": "phone" if number % 3 else "desk"},
    )  # fmt: skip


def event(number: int) -> Event:
    """Events of one decision after another, some minutes later; their ids are spread as random ones are."""
    of, place = divmod(number, EACH)
    kind = "buy" if place == 8 else "click"
    return Event(
        id=f"{number * 0x9E3779B97F4A7C1 % 2**64:016x}", kind=kind, item=item(of, place), time=START + of * STEP + 60_000 * (place + 1),
        user=str(of * 31 % USERS), request=None if place == 9 else f"r{of:09}", value=2.5 if kind == "buy" else None,
    )  # fmt: skip


def waiting(futures: Iterator[Future[tuple[Outcome, ...]]], most: int) -> None:
    """Have at most so many requests in flight, as that many clients would."""
    held: deque[Future[tuple[Outcome, ...]]] = deque()
    for one in futures:
        held.append(one)
        if len(held) >= most:
            held.popleft().result()
    for one in held:
        one.result()


def batches(first: int, last: int, size: int) -> Iterator[Sequence[Event]]:
    """Events in batches."""
    for start in range(first, last, size):
        yield [event(number) for number in range(start, min(last, start + size))]


def decisions(store: str, _: Path, events: int) -> Figures:
    """Log every decision, 64 requests in flight; making them is in the time."""
    rows = events // EACH
    with Store(store) as opened:
        opened.declare(FEEDBACK)
        began = time.perf_counter()
        waiting((opened.log(decision(number)) for number in range(rows)), 64)
        return {"rows": rows, "seconds": time.perf_counter() - began}


def sent(size: int, most: int, share: float, *, again: bool = False) -> Phase:
    """Send a part of the events in batches, so many requests in flight; making them is in the time."""

    def phase(store: str, _: Path, events: int) -> Figures:
        first = 0 if again or share == 1 else events
        last = first + round(events * share)
        waits: list[float] = []
        with Store(store) as opened:
            began = time.perf_counter()

            def timed(one: Sequence[Event]) -> Future[tuple[Outcome, ...]]:
                asked = time.perf_counter()
                future = opened.record(one)
                future.add_done_callback(lambda _: waits.append(time.perf_counter() - asked))
                return future

            waiting(map(timed, batches(first, last, size)), most)
            seconds = time.perf_counter() - began
        waits.sort()
        middle, worst = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
        return {"rows": last - first, "seconds": seconds, "batch": size, "in_flight": most, "wait_p50_ms": 1000 * middle,
                "wait_p99_ms": 1000 * worst}  # fmt: skip

    return phase


def collected(store: str, folder: Path, _: int) -> Figures:
    """Join events to what was shown and write the log."""
    with Store(store) as opened:
        began = time.perf_counter()
        done = collect(opened.session, folder / "log.parquet")
        seconds = time.perf_counter() - began
    size = (folder / "log.parquet").stat().st_size
    tasks = {task: [counted.settled, counted.positive] for task, counted in done.tasks.items()}
    return {"rows": done.rows, "seconds": seconds, "labels": tasks, "orphans": done.orphans, "log_bytes": size}


def synced(store: str, folder: Path, events: int) -> Figures:
    """What the disk itself takes: a page written and synced, alone."""
    del store
    rows, page = min(200, events), os.urandom(4096)
    with (folder / "page").open("wb", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(rows):
            file.write(page)
            os.fsync(file.fileno())
    return {"rows": rows, "seconds": time.perf_counter() - began}


def ingested(_: str, folder: Path, __: int) -> Figures:
    """Encode the log as a table."""
    names = ("user", "item", "hour", "device")
    schema = Schema(tuple(Field(name, FieldKind.ID) for name in names), (Task("click"), Task("buy")))
    log = Source(str(folder / "log.parquet"), user="user", item="item", time="time_ms")
    last = pl.scan_parquet(log.log).select(pl.col("time_ms").max()).collect().item()
    last -= max(rule.window for rule in FEEDBACK.rules)  # later labels are not settled, and every part needs some
    split = ByTime(START + (last - START) * 8 // 10, START + (last - START) * 9 // 10)
    began = time.perf_counter()
    table = ingest(log, schema, split, folder=folder / "table")
    return {"rows": sum(len(rows) for rows in table.parts.values()), "seconds": time.perf_counter() - began}


PHASES: dict[str, Phase] = {
    "pages synced, by the disk alone": synced,
    "decisions": decisions,
    "events, batches of 1000": sent(1000, 4, 1.0),
    "events again (duplicates)": sent(1000, 4, 1.0, again=True),
    "events one a request, 1 in flight": sent(1, 1, 0.0005),
    "events one a request, 64 in flight": sent(1, 64, 0.02),
    "events 50 a request, 16 in flight": sent(50, 16, 0.05),
    "collect": collected,
    "ingest": ingested,
}


def peak() -> int:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(name: str, store: str, folder: Path, events: int) -> Figures:
    """One phase in a process of its own."""
    command = [sys.executable, str(HERE / "store.py"), "--phase", name, store, str(folder), "--events", str(events)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(store: str, folder: Path, events: int) -> list[Figures]:
    """All phases, one after another, on one store."""
    found: list[Figures] = []
    for name in PHASES:
        figures = apart(name, store, folder, events)
        rows, seconds = float(str(figures["rows"])), float(str(figures["seconds"]))
        found.append({"phase": name, **figures, "rows_per_second": rows / seconds})
        memory, rest = (float(str(figures[key])) / 2**20 for key in ("bytes", "bytes_at_rest"))
        print(f"{name:36} {rows:11,.0f} rows {rows / seconds:11,.0f} rows/s {memory:7,.0f} MiB, {rest:,.0f} at rest", flush=True)
    return found


def ratios(runs: list[Figures]) -> list[measured.Ratio]:
    """What sharing a sync is worth, and how fast events become a table."""
    rate = {str(run["phase"]): float(str(run["rows_per_second"])) for run in runs}
    shared, page = rate["events one a request, 64 in flight"], rate["pages synced, by the disk alone"]
    whole = sum(1 / rate[name] for name in ("events, batches of 1000", "collect", "ingest"))
    return [
        measured.ratio("events one a request, 64 in flight over 1", [shared / rate["events one a request, 1 in flight"]]),
        measured.ratio("events one a request, 64 in flight, over pages that the disk syncs", [shared / page]),
        measured.ratio("decisions, 64 in flight, over pages that the disk syncs", [rate["decisions"] / page]),
        measured.ratio("from events to an encoded table, thousand rows a second", [1e-3 / whole]),
    ]


def main() -> None:
    """Parse, measure, print, write."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--events", type=lambda text: int(float(text)), default=10**6)
    parser.add_argument("--store", help="a postgresql:// URL of an empty database (a new SQLite file)")
    parser.add_argument("--folder", type=Path, help="where the file and the log are written (a temporary folder)")
    parser.add_argument("--phase", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        name, store, folder = options.phase
        rest, cpu = peak(), time.process_time()
        figures = PHASES[name](store, Path(folder), options.events)
        print(json.dumps({**figures, "cpu_seconds": time.process_time() - cpu, "bytes": peak(), "bytes_at_rest": rest}))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store = options.store or str(Path(folder) / "umbel.db")
        runs = measure(store, Path(folder), options.events)
        size = {} if options.store else {"store_bytes": Path(store).stat().st_size}
    engine = "postgresql" if options.store else "sqlite"
    command = measured.command(sys.argv)
    run = {"engine": engine, "events": options.events, "command": command, "sqlite": sqlite3.sqlite_version, **size, "phases": runs}
    earlier = json.loads(options.o.read_text())["runs"] if options.o.exists() else []
    measured.write(options.o, {"runs": [*earlier, run]}, ratios(runs))


if __name__ == "__main__":
    main()

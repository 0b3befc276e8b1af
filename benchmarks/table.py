"""Benchmarks one after another, each in a process of its own, and what they found in one table and one file."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from umbel import durable

from .measured import Ratio, machine, versions


@dataclass(frozen=True, slots=True)
class Script:
    """A benchmark by name, and what it is told for a short run and for a full one."""

    name: str
    short: tuple[str, ...] = ()
    full: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a script: its ratios, who was not there to be measured, or why it failed."""

    name: str
    command: str
    seconds: float
    cpu_seconds: float
    ratios: tuple[Ratio, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    load_at_start: float | None = None
    failed: str | None = None


def run(script: Path, words: Sequence[str], *, out: Path, log: Path) -> Ran:
    """Run a script that writes its figures to `out`; what it prints goes to `log`, of which a failure tells the last line."""
    began, cpu = time.perf_counter(), _spent()
    command = " ".join(["python", f"{script.parent.name}/{script.name}", *words])
    with log.open("w") as printed:
        code = subprocess.run([sys.executable, script, *words, "-o", out], stdout=printed, stderr=subprocess.STDOUT, check=False).returncode
    taken = (round(time.perf_counter() - began, 1), round(_spent() - cpu, 3))
    if code:
        lines = log.read_text(errors="replace").split("\n")
        return Ran(script.stem, command, *taken, failed=next((line for line in reversed(lines) if line.strip()), f"exit code {code}"))
    told = json.loads(out.read_text())
    ratios, load = tuple(Ratio(**one) for one in told["ratios"]), told["machine"]["load_at_start"]
    return Ran(script.stem, command, *taken, ratios, told["absent"], load)


def _spent() -> float:
    """Seconds of processor time of all processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bench(scripts: Sequence[Script], folder: Path, *, results: Path, full: bool, console: Console) -> int:
    """Run all scripts of a folder, keep what they found in `results` and print it; the exit code: 1 if a script failed.

    A full run leaves every script's own file in `results`, too; a short one does not touch those.
    """
    ran: list[Ran] = []
    with tempfile.TemporaryDirectory() as name:
        aside = Path(name)
        for script in scripts:
            console.print(f"{script.name:15}", end="")
            out = (results if full else aside) / f"{script.name}.json"
            words = script.full if full else script.short
            ran.append(run(folder / f"{script.name}.py", words, out=out, log=aside / f"{script.name}.txt"))
            console.print(f"{ran[-1].seconds:7.1f} s  {ran[-1].failed or ''}", markup=False)
    how, kept = ("make bench-full", "bench-full.json") if full else ("make bench", "bench.json")
    keep(results / kept, ran, how=how)
    console.print(table(ran))
    return int(any(one.failed is not None for one in ran))


def table(ran: Sequence[Ran]) -> Table:
    """One line a ratio, a side that was absent, or a failure."""
    wall, cpu = sum(one.seconds for one in ran), sum(one.cpu_seconds for one in ran)
    title = f"{wall:.0f} s by the clock, {cpu:.0f} s of processor time"
    made = Table("benchmark", "what", "ratio (low to high)", "goal", "", title=title)
    for one in ran:
        for number, cells in enumerate(_cells(one)):
            made.add_row("" if number else one.name, *map(escape, cells))
        made.add_section()
    return made


def _cells(ran: Ran) -> Iterator[tuple[str, str, str, str]]:
    if ran.failed is not None:
        yield ran.command, ran.failed, "", "failed"
    for one in ran.ratios:
        goal = "" if one.goal is None else f"{'≤' if one.most else '≥'} {one.goal:g}"
        verdict = {None: "", True: "reached", False: "not reached"}[one.reached]
        yield one.what, f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})", goal, verdict
    for name, why in ran.absent.items():
        yield name, why, "", "left out"


def keep(path: Path, ran: Sequence[Ran], *, how: str) -> None:
    """All ratios with commands, machine and versions."""
    every = {one.name: {key: value for key, value in asdict(one).items() if key != "name"} for one in ran}
    about = {"command": how, "machine": machine(), "versions": versions(), "seconds": round(sum(one.seconds for one in ran), 1)}
    durable.write(path, json.dumps({**about, "benchmarks": every}, indent=1) + "\n")

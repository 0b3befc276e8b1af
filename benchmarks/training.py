"""How fast a training is: our loader, step and whole epoch beside two libraries', and our recipes over small and large tables.

Alone, it measures umbel. `python benchmarks/training.py --peers FOLDER` measures the peers too: FOLDER holds, or gets from PyPI,
an environment for each. Their processes idle while another is timed, and everyone takes turns, so that a busy moment of the
machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from peers.rows import BATCH, COLUMNS, DIM, EXPERT, EXPERTS, LARGE, SKEW, SMALL, TOWER, model, packed, ready, table

from umbel.data.batch import Batch
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.learn.fit import fit
from umbel.learn.memory import keep_freed
from umbel.learn.plan import Plan
from umbel.learn.step import Fast

HERE = Path(__file__).parent
STEPS = 8  # timed together
PEERS = {
    "rechub": ["torch-rechub==0.9.0"],
    "deepctr": ["deepctr-torch==0.3.0", "requests", "pandas"],
}
FITS = 9 * 2**30  # bytes of table and moments that a run may take
Timing = dict[str, list[float]]
Scaled = dict[str, dict[str, float]] | str
Ask = Callable[[str], dict[str, float]]


class Ours:
    """umbel, asked for the same things as its peers."""

    def __init__(self, table: Table, large: Table) -> None:
        self.loader, self.large = Loader(table, "train", BATCH), Loader(large, "train", BATCH)
        self.ready = [batch for _, batch in zip(range(STEPS), self.loader(0), strict=False)]
        self.plain = Fast(model("mmoe", SMALL), Plan())
        self.halved = Fast(model("mmoe", SMALL), Plan(precision=torch.bfloat16))
        self.fitted = model("mmoe", SMALL)

    def load(self) -> int:
        """Draw every batch (of a larger log: this one's are gone too soon to be timed)."""
        for _ in self.large(0):
            pass
        return len(self.large.table.parts["train"])

    def step(self) -> int:
        """Train on ready batches."""
        return self._steps(self.plain)

    def bf16(self) -> int:
        """The same with the forward pass in bfloat16."""
        return self._steps(self.halved)

    def whole(self) -> int:
        """Train for an epoch."""
        (epoch,) = fit(self.fitted, self.loader, plan=Plan(epochs=1), judge=lambda model: 0.0)
        return epoch.rows

    def _steps(self, step: Fast) -> int:
        for batch in self.ready:
            step(batch)
        return len(self.ready) * BATCH


def bare() -> Callable[[], int]:
    """The matrix products of one MMoE step and nothing else: forward, and backward to weights and inputs."""
    x = torch.randn(BATCH, COLUMNS * DIM)
    wide, gate = torch.randn(EXPERTS * EXPERT[0], x.shape[1]), torch.randn(2 * EXPERTS, x.shape[1])
    deep = torch.randn(EXPERTS, EXPERT[0], EXPERT[1])
    out, tower = torch.randn(EXPERTS, BATCH, EXPERT[1]), torch.randn(2, EXPERT[1], TOWER[0])
    back = torch.empty(BATCH, EXPERTS * EXPERT[0])

    def once() -> None:
        hidden = x @ wide.t()
        shares = x @ gate.t()
        for expert in range(EXPERTS):
            part = slice(expert * EXPERT[0], (expert + 1) * EXPERT[0])
            _ = hidden[:, part] @ deep[expert]
            torch.mm(out[expert], deep[expert].t(), out=back[:, part])
            _ = hidden[:, part].t() @ out[expert]
        for task in range(2):
            seen = out[task] @ tower[task]
            _ = (seen @ tower[task].t(), out[task].t() @ seen)
        _ = (back @ wide, back.t() @ x, shares @ gate, shares.t() @ x)

    def products() -> int:
        for _ in range(STEPS):
            once()
        return STEPS * BATCH

    return products


@contextmanager
def peer(name: str, environments: Path, folder: Path) -> Iterator[Ask]:
    """A peer's process, ready and warm; ask it for `load`, `step` or `whole`."""
    python = environment(name, environments)
    process = subprocess.Popen(
        [python, HERE / "peers" / f"{name}.py", folder], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "THREADS": str(torch.get_num_threads())},
    )

    def ask(what: str) -> dict[str, float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(what + "\n")
        process.stdin.flush()
        answer: dict[str, float] = json.loads(process.stdout.readline())
        return answer

    try:
        yield ask
    finally:
        process.kill()
        process.wait()


def environment(name: str, environments: Path) -> Path:
    """The python of a peer's own environment, made on first use: torch first, since the peers do not bound it."""
    python = environments / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", environments / name], check=True)
        for wanted in (["torch==2.13.0"], PEERS[name]):
            subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    return python


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Rows, wall and processor seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    rows = work()
    return {"rows": rows, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def compare(ask: dict[str, Ask], what: str, rounds: int) -> dict[str, Timing]:
    """Rows a second of each, in turns, after a first turn that is not counted."""
    found: dict[str, Timing] = {name: {"wall": [], "cpu": []} for name in ask}
    for number in range(rounds + 1):
        for name, one in ask.items():
            told = one(what)
            if number:
                for clock in ("wall", "cpu"):
                    found[name][clock].append(told["rows"] / told[clock])
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest, highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def side_by_side(environments: Path | None, rounds: int) -> Iterator[tuple[str, dict[str, Timing]]]:
    """Loader, step and whole epoch of MMoE, ours and the peers'; and what bare matrix products leave to gain."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "large").mkdir()
        own, large = table(folder, 20 * BATCH + 200), table(folder / "large", 500_000)
        rows = own.parts["train"]
        np.save(folder / "codes.npy", np.load(folder / "table" / "int32.npy")[: len(rows)])
        np.save(folder / "labels.npy", own.labels("train")[0])
        sizes = {"ids": SMALL // COLUMNS, "dim": DIM, "experts": EXPERTS, "expert": EXPERT, "tower": TOWER, "batch": BATCH}
        (folder / "sizes.json").write_text(json.dumps(sizes))
        ours = Ours(own, large)
        ask: dict[str, Ask] = {"umbel": lambda what: timed(getattr(ours, what))}
        if environments is not None:
            ask |= {one: stack.enter_context(peer(one, environments, folder)) for one in PEERS}
        others: dict[str, Ask] = {"bare products": lambda what: timed(products), "umbel bf16": lambda what: timed(ours.bf16)}
        products = bare()
        yield "step", compare({**ask, **others}, "step", rounds)
        yield "load", compare(ask, "load", max(3, rounds // 2))
        yield "whole", compare(ask, "whole", max(3, rounds // 2))


def scale(recipe: str, *, batches: int = 14) -> dict[str, Scaled]:
    """Milliseconds a step of a recipe, by number of ids and how they are distributed, in turns."""
    steps: dict[str, tuple[Fast, list[Batch]]] = {}
    found: dict[str, Scaled] = {}
    for ids, label in ((SMALL, "1e5"), (LARGE, "1e7")):
        for skew, law in ((SKEW, "zipf"), (0.0, "uniform")):
            name = f"{label} {law}"
            width = _width(recipe)
            if 3 * 4 * ids * width > FITS:
                found[name] = f"left out: table and moments take {3 * 4 * ids * width / 2**30:.0f} GiB"
                continue
            step = next((one for other, (one, _) in steps.items() if other.startswith(label)), None) or Fast(model(recipe, ids), Plan())
            steps[name] = (step, ready(packed(batches * BATCH, ids, skew)))
    times: dict[str, Timing] = {name: {"wall": [], "cpu": []} for name in steps}
    for number in range(batches):
        for name, (step, rows) in steps.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step(rows[number])
            if number >= 4:
                times[name]["cpu"].append(1e3 * (time.process_time() - cpu))
                times[name]["wall"].append(1e3 * (time.perf_counter() - wall))
    return found | {name: {clock: spread(values) for clock, values in timing.items()} for name, timing in times.items()}


def _width(recipe: str) -> int:
    """Numbers in a row of its table."""
    return model(recipe, COLUMNS).table.shape[1]


def told(what: str, found: dict[str, Timing]) -> Iterator[str]:
    """A comparison as lines of text: rows a second, ratios, and the ceiling that bare matrix products set."""
    for clock in ("wall", "cpu"):
        medians = {name: statistics.median(timing[clock]) for name, timing in found.items()}
        for name, timing in found.items():
            low, high = min(timing[clock]), max(timing[clock])
            yield f"{what:6} {clock:4} {name:14} {medians[name]:12,.0f} rows/s  ({low:,.0f} to {high:,.0f})"
        for name in PEERS:
            if name in medians:
                yield f"{what:6} {clock:4} umbel / {name} = {medians['umbel'] / medians[name]:.2f}"
            if name in medians and "bare products" in medians:
                yield f"{what:6} {clock:4} bare products / {name} = {medians['bare products'] / medians[name]:.2f} (the ceiling)"
        if "bare products" in medians:
            yield f"{what:6} {clock:4} bare products' share of our step = {medians['umbel'] / medians['bare products']:.2f}"


def scaled(recipe: str, found: dict[str, Scaled]) -> Iterator[str]:
    """A recipe's steps as lines of text."""
    for name, figures in found.items():
        if isinstance(figures, str):
            yield f"{recipe:14} {name:12} {figures}"
            continue
        for clock, one in figures.items():
            yield f"{recipe:14} {name:12} {clock:4} {one['median']:8.1f} ms ({one['low']:.1f} to {one['high']:.1f})"
    small, large = found["1e5 zipf"], found["1e7 zipf"]
    if isinstance(small, dict) and isinstance(large, dict):
        ratios = ", ".join(f"{large[clock]['median'] / small[clock]['median']:.2f} ({clock})" for clock in small)
        yield f"{recipe:14} 1e7 / 1e5 (zipf) = {ratios}"


def main() -> None:
    """Measure, print, and write the figures as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipes", nargs="*", default=["shared_bottom", "mmoe", "ple", "stem", "me_mmoe"])
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed()  # as `fit` does
    versions = {"torch": torch.__version__, "python": platform.python_version(), "peers": PEERS}
    machine = {"processor": platform.machine(), "threads": torch.get_num_threads(), "load": os.getloadavg(), **versions}
    settings = {"columns": COLUMNS, "dim": DIM, "batch": BATCH, "experts": EXPERTS, "expert": EXPERT, "tower": TOWER, "skew": SKEW}
    speeds: dict[str, dict[str, Timing]] = {}
    steps: dict[str, dict[str, Scaled]] = {}
    results = {"machine": machine, "settings": settings, "rows_per_second": speeds, "milliseconds_a_step": steps}

    def note(lines: Iterator[str]) -> None:
        print("\n".join(lines), flush=True)
        asked.out.write_text(json.dumps(results, indent=1) + "\n")

    for what, found in side_by_side(asked.peers, asked.rounds):
        speeds[what] = found
        note(told(what, found))
    for recipe in asked.recipes:
        steps[recipe] = scale(recipe)
        note(scaled(recipe, steps[recipe]))


if __name__ == "__main__":
    main()

"""How fast a training is: our loader, step and whole epoch beside two libraries', and our recipes over small and large tables.

Alone, it measures umbel. `python benchmarks/training.py --peers FOLDER` measures the peers too: FOLDER holds, or gets from PyPI,
an environment for each; one that cannot be had is left out, and named. Their processes idle while another is timed, and everyone takes
turns, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import measured
import numpy as np
import torch
from peers.environments import PEERS, made, python
from peers.rows import BATCH, COLUMNS, DIM, EXPERT, EXPERTS, LARGE, SKEW, SMALL, TOWER, model, packed, ready, table
from products import LIBRARIES, products

from umbel.data.batch import Batch
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.learn.fit import fit
from umbel.learn.memory import keep_freed
from umbel.learn.plan import Plan
from umbel.learn.step import Fast
from umbel.run.resolve import emulated
from umbel.run.settings import FitSection

HERE = Path(__file__).parent
STEPS = 8  # timed together
FITS = 9 * 2**30  # bytes of table and moments that a run may take
Timing = dict[str, list[float]]
Scaled = dict[str, dict[str, float]] | str
Ask = Callable[[str], dict[str, float]]
OURS, HALVED, BARE = "umbel", "umbel bf16", "bare products"  # these by the faster of two libraries, round by round
CLOCKS = ("wall", "cpu")
EMULATED = emulated(FitSection(precision="bfloat16", device="cpu"))  # then it takes many times as long as float32, and tells nothing
LOADERS = {"rechub": 60.0, "deepctr": 60.0}  # times whose loader ours is to be


class Ours:
    """umbel, asked for the same things as its peers."""

    def __init__(self, table: Table, large: Table) -> None:
        self.loader, self.large = Loader(table, "train", BATCH), Loader(large, "train", BATCH)
        self.ready = [batch for _, batch in zip(range(STEPS), self.loader(0), strict=False)]
        self.plain = Fast(model("mmoe", SMALL), Plan())
        self.halved = Fast(model("mmoe", SMALL), Plan(precision=torch.bfloat16))
        self.fitted, self.lighter = model("mmoe", SMALL), model("mmoe", SMALL)

    def load(self) -> int:
        """Draw every batch (of a larger log: this one's are gone too soon to be timed)."""
        for _ in self.large(0):
            pass
        return len(self.large.table.parts["train"])

    def step(self) -> int:
        """Train on ready batches."""
        return self._steps(self.plain)

    def step_bf16(self) -> int:
        """The same with the forward pass in bfloat16."""
        return self._steps(self.halved)

    def whole(self) -> int:
        """Train for an epoch."""
        (epoch,) = fit(self.fitted, self.loader, plan=Plan(epochs=1), judge=lambda model: 0.0)
        return epoch.rows

    def whole_bf16(self) -> int:
        """The same with the forward pass in bfloat16."""
        (epoch,) = fit(self.lighter, self.loader, plan=Plan(epochs=1, precision=torch.bfloat16), judge=lambda model: 0.0)
        return epoch.rows

    def _steps(self, step: Fast) -> int:
        for batch in self.ready:
            step(batch)
        return len(self.ready) * BATCH


def several(once: Callable[[], object], what: str) -> dict[str, float]:
    """Something as often as there are steps in a round, whatever is asked for."""

    def work() -> int:
        for _ in range(STEPS):
            once()
        return STEPS * BATCH

    return timed(work)


@contextmanager
def peer(name: str, environments: Path, folder: Path) -> Iterator[Ask]:
    """A peer's process, ready and warm; ask it for `load`, `step` or `whole`."""
    process = subprocess.Popen(
        [python(name, environments), HERE / "peers" / f"{name}.py", folder], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
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
                for clock in CLOCKS:
                    found[name][clock].append(told["rows"] / told[clock])
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest, highest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def side_by_side(environments: Path | None, names: Sequence[str], *, rounds: int, batches: int) -> Iterator[tuple[str, dict[str, Timing]]]:
    """Loader, step and whole epoch of MMoE, ours and the peers'; and what bare matrix products leave to gain."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "large").mkdir()
        own, large = table(folder, batches * BATCH + 200), table(folder / "large", 500_000)
        rows = own.parts["train"]
        np.save(folder / "codes.npy", np.load(folder / "table" / "int32.npy")[: len(rows)])
        np.save(folder / "labels.npy", own.labels("train")[0])
        sizes = {"ids": SMALL // COLUMNS, "dim": DIM, "experts": EXPERTS, "expert": EXPERT, "tower": TOWER, "batch": BATCH}
        (folder / "sizes.json").write_text(json.dumps(sizes))
        ours = Ours(own, large)
        ask: dict[str, Ask] = {OURS: lambda what: timed(getattr(ours, what))}
        if environments is not None:
            ask |= {one: stack.enter_context(peer(one, environments, folder)) for one in names}
        others: dict[str, Ask] = {f"{BARE}, {library}": partial(several, products(DIM, EXPERT, one)) for library, one in LIBRARIES.items()}
        lighter: dict[str, Ask] = {} if EMULATED else {HALVED: lambda what: timed(getattr(ours, f"{what}_bf16"))}
        found = compare({**ask, **others, **lighter}, "step", rounds)
        found[BARE] = {clock: [max(rates) for rates in zip(*(found[name][clock] for name in others), strict=True)] for clock in CLOCKS}
        yield "step", found
        yield "load", compare(ask, "load", max(3, rounds // 2))
        yield "whole", compare({**ask, **lighter}, "whole", max(3, rounds // 2))


def scale(recipe: str, clock: str, *, batches: int = 14) -> tuple[dict[str, Scaled], list[measured.Ratio]]:
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
    found |= {name: {one: spread(values) for one, values in timing.items()} for name, timing in times.items()}
    if not all(f"{ids} zipf" in times for ids in ("1e5", "1e7")):
        return found, []
    rounds = measured.over(times["1e7 zipf"][clock], times["1e5 zipf"][clock])
    return found, [measured.ratio(f"step of {recipe}, 10^7 ids over 10^5 (Zipf)", rounds, goal=1.2, most=True)]


def gained(what: str, found: dict[str, Timing], clock: str) -> list[measured.Ratio]:
    """A comparison as ratios: over the fastest peer and under the bare products; of the loader alone, over every peer."""
    rates = {name: timing[clock] for name, timing in found.items()}
    peers = sorted((name for name in PEERS if name in rates), key=lambda name: -statistics.median(rates[name]))
    if what == "load":
        millions = [one / 1e6 for one in rates[OURS]]
        over = {name: measured.over(rates[OURS], rates[name]) for name in peers}
        return [measured.ratio(f"load: million rows a second of {COLUMNS} columns", millions, goal=10),
                *(measured.ratio(f"load: {OURS} over {name}", rounds, goal=LOADERS.get(name)) for name, rounds in over.items())]
    goals = {OURS: 2.0, HALVED: 3.0} if what == "whole" else {OURS: 1.5}
    ratios = [measured.ratio(f"{what}: {name} over {peer}, the fastest peer", measured.over(rates[name], rates[peer]), goal=goals.get(name))
              for peer in peers[:1] for name in (OURS, HALVED, BARE) if name in rates]
    if BARE in rates:
        ratios.append(measured.ratio(f"{what}: share of {BARE} in ours", measured.over(rates[OURS], rates[BARE]), goal=0.55))
    return ratios


def _width(recipe: str) -> int:
    """Numbers in a row of its table."""
    return model(recipe, COLUMNS).table.shape[1]


def told(what: str, found: dict[str, Timing]) -> Iterator[str]:
    """A comparison as lines of text: rows a second, ratios, and the ceiling that bare matrix products set."""
    for clock in CLOCKS:
        medians = {name: statistics.median(timing[clock]) for name, timing in found.items()}
        for name, timing in found.items():
            low, high = min(timing[clock]), max(timing[clock])
            yield f"{what:6} {clock:4} {name:14} {medians[name]:12,.0f} rows/s  ({low:,.0f} to {high:,.0f})"
        for name in PEERS:
            if name in medians:
                yield f"{what:6} {clock:4} umbel / {name} = {medians[OURS] / medians[name]:.2f}"
            if name in medians and BARE in medians:
                yield f"{what:6} {clock:4} bare products / {name} = {medians[BARE] / medians[name]:.2f} (the ceiling)"
        if BARE in medians:
            yield f"{what:6} {clock:4} bare products' share of our step = {medians[OURS] / medians[BARE]:.2f}"


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
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=20, help=f"of an epoch, {STEPS} at least")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu", help="what ratios are taken by; both are kept")
    parser.add_argument("--recipes", nargs="*", default=["shared_bottom", "mmoe", "ple", "stem", "me_mmoe"])
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed()  # as `fit` does
    absent = {} if asked.peers is None else made(asked.peers)
    names = [name for name in PEERS if name not in absent]
    absent |= {HALVED: "this processor has no products of bfloat16"} if EMULATED else {}
    settings = {"columns": COLUMNS, "dim": DIM, "batch": BATCH, "experts": EXPERTS, "expert": EXPERT, "tower": TOWER, "skew": SKEW}
    speeds: dict[str, dict[str, Timing]] = {}
    steps: dict[str, dict[str, Scaled]] = {}
    results = {"settings": settings, "peers": PEERS, "rows_per_second": speeds, "milliseconds_a_step": steps}
    ratios: list[measured.Ratio] = []

    def note(lines: Iterator[str], more: list[measured.Ratio]) -> None:
        print("\n".join(lines), flush=True)
        ratios.extend(more)
        measured.write(asked.o, results, ratios, threads=asked.threads, absent=absent)

    for what, found in side_by_side(asked.peers, names, rounds=asked.rounds, batches=asked.batches):
        speeds[what] = found
        note(told(what, found), gained(what, found, asked.clock))
    for recipe in asked.recipes:
        steps[recipe], more = scale(recipe, asked.clock)
        note(scaled(recipe, steps[recipe]), more)


if __name__ == "__main__":
    main()

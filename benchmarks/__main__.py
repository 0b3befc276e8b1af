"""All benchmarks of speed, in short (some minutes) or, with `--full`, at length; what they find in one table, its figures in results/.

A short run keeps `results/bench.json` and no more: what each script found goes to a temporary folder. A full one leaves every
script's own file in results/, too. Studies of quality train for hours: run one by name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from .measured import RESULTS
from .peers.environments import PEERS, made
from .table import Ran, Script, keep, run, say

HERE = Path(__file__).parent
SCRIPTS = (
    Script("training", ("--rounds", "3", "--threads", "1", "--recipes", "mmoe"), ("--clock", "wall")),
    Script("processes", ("--rounds", "3", "--recipes", "mmoe")),
    Script("ingest", ("--rows", "2e6", "--distinct", "1e5")),
    Script("row_optimizers", ("--repeats", "5")),
    Script("seam"),
    Script("balancers", ("--rounds", "3", "--steps", "1", "--only", "normalised", "pcgrad", "upgrad")),
    Script("meta_step", ("--rounds", "3", "--steps", "2")),
    Script("serving", ("--requests", "60", "--rounds", "3", "--recipes", "mmoe")),
    Script("crowd", ("--connections", "200")),
    Script("swaps", ("--seconds", "20", "--rate", "10")),
    Script("store", ("--events", "2e4")),
    Script("recommend", ("--requests", "60", "--catalogues", "2000", "20000")),
    Script("nearest", ("--items", "100000", "--queries", "60")),
)


def main() -> int:
    """Run every script in a process of its own, so that one's memory and threads are not another's; 1 if one failed."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="at full length, every script's figures into results/")
    parser.add_argument("--peers", type=Path, default=HERE.parent / ".peers", help="the folder of the peers' environments (%(default)s)")
    asked = parser.parse_args()
    console = Console()
    console.print(f"environments of {', '.join(PEERS)} (made once, from the package index)")
    for name, why in made(asked.peers).items():
        console.print(f"  without {name}: {why}")
    ran: list[Ran] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for script in SCRIPTS:
            words = [*(script.full if asked.full else script.short), *(("--peers", str(asked.peers)) if script.name == "training" else ())]
            console.print(f"{script.name:15}", end="")
            out = (RESULTS if asked.full else folder) / f"{script.name}.json"
            ran.append(run(HERE / f"{script.name}.py", words, out=out, log=folder / f"{script.name}.txt"))
            console.print(f"{ran[-1].seconds:7.1f} s  {ran[-1].failed or ''}", markup=False)
    how = "make bench-full" if asked.full else "make bench"
    keep(RESULTS / ("bench-full.json" if asked.full else "bench.json"), ran, how=how)
    return say(ran, console)


if __name__ == "__main__":
    sys.exit(main())

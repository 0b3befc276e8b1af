"""All benchmarks of speed, in short (some minutes) or, with `--full`, at length; what they find in one table, its figures in results/.

A short run keeps `results/bench.json` and no more: what each script found goes to a temporary folder. A full one leaves every
script's own file in results/, too. Studies of quality train for hours: run one by name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from .measured import RESULTS
from .peers.environments import PEERS, made
from .table import Script, bench

ENVIRONMENTS = Path(".peers")  # in the checkout, which `umbel bench` runs this from
BESIDE = ("--peers", str(ENVIRONMENTS))
SCRIPTS = (
    Script("training", (*BESIDE, "--rounds", "3", "--batches", "8", "--threads", "1", "--recipes", "mmoe"), (*BESIDE, "--clock", "wall")),
    Script("large", ("--rounds", "3", "--only", "share", "loop")),
    Script("processes", ("--rounds", "3", "--recipes", "mmoe")),
    Script("ingest", ("--rows", "2e6", "--distinct", "1e5")),
    Script("row_optimizers", ("--repeats", "5")),
    Script("seam"),
    Script("balancers", ("--rounds", "3", "--steps", "1", "--only", "normalised", "pcgrad", "upgrad")),
    Script("meta_step", ("--rounds", "3", "--steps", "1")),
    Script("ccml_epoch", ("--users", "512", "--some", "16", "--rounds", "3")),
    Script("intervals", ("--rows", "2e5")),
    Script("scoring", ("--rounds", "3", "--recipes", "mmoe")),
    Script("serving", ("--requests", "60", "--rounds", "3", "--recipes", "mmoe")),
    Script("crowd", ("--connections", "200")),
    Script("swaps", ("--seconds", "20", "--rate", "10")),
    Script("store", ("--events", "2e4")),
    Script("recommend", ("--requests", "60", "--catalogues", "2000", "20000")),
    Script("nearest", ("--items", "100000", "--queries", "60")),
)


def main() -> int:
    """Make the peers' environments if they are not there, run every script, print the table; 1 if a script failed."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="at full length, every script's figures into results/")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)  # a file has no width of its own
    console.print(f"environments of {', '.join(PEERS)}: made once, from the package index, in {ENVIRONMENTS}")
    made(ENVIRONMENTS)
    return bench(SCRIPTS, Path(__file__).parent, results=RESULTS, full=asked.full, console=console)


if __name__ == "__main__":
    sys.exit(main())

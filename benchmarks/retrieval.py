"""How often what users then click is among the first that each source brings, on KuaiRand-Pure.

Run `python benchmarks/retrieval.py`: towers of every temperature are trained once and judged by recall@100 on validation; the best of them
is trained with every seed and judged on test, beside popularity and item-to-item, which have nothing to choose.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from umbel.data.table import Table
from umbel.run.candidates import fit_retrieval
from umbel.run.run import prepare
from umbel.run.settings import read
from umbel.run.watch import Silence

HERE = Path(__file__).parent
RUN = HERE.parent / "examples" / "kuairand.toml"
TEMPERATURES = (0.05, 0.1, 0.2)


def trained(table: Table, folder: Path, *, temperature: float, seed: int, more: Sequence[str]) -> dict[str, object]:
    """What one training comes to: its figures on test, and the recall@100 on validation that it was stopped by."""
    began = time.perf_counter()
    settings = read(RUN, [f"retrieval.temperature={temperature}", f"fit.seed={seed}", "fit.threads=1", *more])
    found = fit_retrieval(settings, table, folder / f"{temperature}-{seed}", watch=Silence())
    assert found is not None
    epochs = found.told["epochs"]
    assert isinstance(epochs, list)
    scores = [float(epoch["score"]) for epoch in epochs]
    print(f"temperature {temperature} seed {seed}: valid {max(scores):.4f} in epoch {scores.index(max(scores)) + 1}", flush=True)
    told = {name: one for name, one in found.told.items() if name != "epochs"}
    return {"seed": seed, "valid": max(scores), "epochs": len(scores), "seconds": round(time.perf_counter() - began), "told": told}


def main() -> None:
    """Choose, then judge; figures to benchmarks/results/retrieval.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", type=Path, help="of examples/kuairand.toml, where there is one")
    parser.add_argument("--work", type=Path, help="a folder that keeps the trainings, so that one that was stopped goes on")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("-o", type=Path, default=HERE / "results" / "retrieval.json")
    arguments = parser.parse_args()
    more = arguments.set
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.work or Path(name)
        table = Table.open(arguments.table) if arguments.table else prepare(read(RUN, more), folder / "table")
        tried = {one: trained(table, folder, temperature=one, seed=1, more=more) for one in TEMPERATURES}
        best = max(tried, key=lambda one: tried[one]["valid"])
        seeds = [tried[best], *(trained(table, folder, temperature=best, seed=1 + one, more=more) for one in range(1, arguments.seeds))]
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
    valid = {str(temperature): one["valid"] for temperature, one in tried.items()}
    command = " ".join(["python benchmarks/retrieval.py", f"--seeds {arguments.seeds}", *(f"--set {one}" for one in more)])
    found = {"command": command, "machine": machine, "valid": valid, "temperature": best, "seeds": seeds}
    arguments.o.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a row optimiser costs: ways to write rows back, and a step beside torch's own for sparse gradients (docs/decisions/0005)."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from umbel.learn.optim import RowAdagrad, RowAdam

ROWS, REPEATS, RATE = 1_000_000, 15, 1e-3
SIZES = [(20_000, 16), (60_000, 16), (20_000, 48), (60_000, 48)]  # rows touched, width


def ways(table: Tensor, ids: Tensor, rows: Tensor) -> dict[str, Callable[[], object]]:
    """Each way to write, by torch's name for it; `scatter_add_` adds a difference instead."""
    spread = ids[:, None].expand(-1, rows.shape[1])
    return {
        "index_copy_": lambda: table.index_copy_(0, ids, rows),
        "index_put_": lambda: table.index_put_((ids,), rows),
        "scatter_": lambda: table.scatter_(0, spread, rows),
        "scatter_add_": lambda: table.scatter_add_(0, spread, rows),
        "index_add_": lambda: table.index_add_(0, ids, rows),
    }


def steps(table: Tensor, ids: Tensor, grad: Tensor) -> dict[str, Callable[[], object]]:
    """A step of each optimiser on the rows touched."""
    weight = nn.Parameter(table.clone())
    weight.grad = torch.sparse_coo_tensor(ids[None], grad, weight.shape, check_invariants=False)
    sparse = torch.optim.SparseAdam([weight], lr=RATE)
    adam, adagrad = RowAdam(table), RowAdagrad(table)
    return {
        "RowAdam": lambda: adam.step(ids, grad, rate=RATE),
        "RowAdagrad": lambda: adagrad.step(ids, grad, rate=RATE),
        "torch SparseAdam": lambda: sparse.step(),
    }


def milliseconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median processor time of each, in turns, after one turn that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(REPEATS + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if repeat:
                found[name].append(1e3 * (time.process_time() - start))
    return {name: round(statistics.median(times), 2) for name, times in found.items()}


def main() -> None:
    """Measure on one thread, print, and write `benchmarks/results/row_optimizers.json`."""
    torch.set_num_threads(1)
    table = torch.zeros(ROWS, max(width for _, width in SIZES))
    results = {}
    for touched, width in SIZES:
        own = table[:, :width].contiguous()
        ids, grad = torch.randperm(ROWS)[:touched].sort().values, 1e-3 * torch.randn(touched, width)
        results[f"{touched} rows of {width}"] = milliseconds(ways(own, ids, grad)) | milliseconds(steps(own, ids, grad))
        print(f"{touched} rows of {width} in {ROWS}:", results[f"{touched} rows of {width}"], flush=True)
    (Path(__file__).parent / "results" / "row_optimizers.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

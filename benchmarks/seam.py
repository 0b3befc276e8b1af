"""What the seam costs on histories: a leaf per slot looked up, against a leaf per table row touched (docs/decisions/0001)."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from umbel.nn.pool import mean_rows
from umbel.nn.views import compact

ROWS, LISTS, LENGTH, WIDTH, IDS = 4096, 3, 50, 32, 7500
REPEATS = 15


def per_slot(table: Tensor, place: Tensor) -> Tensor:
    """Look every slot up, take the masked mean, then sum the gradients of the slots by row."""
    index = place.clamp(min=0).flatten()
    leaf = table.index_select(0, index).requires_grad_()
    known = (place >= 0).float().view(ROWS, LISTS, LENGTH, 1)
    mean = (leaf.view(ROWS, LISTS, LENGTH, WIDTH) * known).sum(2) / known.sum(2).clamp(min=1)
    mean.square().sum().backward()
    assert leaf.grad is not None
    ids, inverse = torch.unique(index, return_inverse=True)
    return torch.zeros(len(ids), WIDTH).scatter_add_(0, inverse[:, None].expand(-1, WIDTH), leaf.grad)


def per_row(table: Tensor, place: Tensor) -> Tensor:
    """Take the rows touched, each once, and the mean over them; their gradient is there."""
    _, rows = compact({"table": table, "place": place})
    mean_rows(rows["table"], rows["place"], (LENGTH,) * LISTS).square().sum().backward()
    assert rows["table"].grad is not None
    return rows["table"].grad


def measure(step: Callable[[Tensor, Tensor], Tensor], table: Tensor, place: Tensor) -> list[float]:
    """CPU milliseconds of each repeat, on one thread."""
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        step(table, place)
        found.append(1e3 * (time.process_time() - began))
    return sorted(found)


def main() -> None:
    """Print both and their ratio; leave benchmarks/results/seam.json."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = torch.randn(IDS, WIDTH)
    length = torch.randint(0, LENGTH + 1, (ROWS, LISTS, 1))
    place = torch.where(torch.arange(LENGTH) < length, torch.randint(0, IDS, (ROWS, LISTS, LENGTH)), -1).flatten(1)
    times = {step.__name__: measure(step, table, place) for step in (per_slot, per_row)}
    ratio = statistics.median(times["per_slot"]) / statistics.median(times["per_row"])
    for name, each in times.items():
        print(f"{name:9} median {statistics.median(each):6.1f} ms, {each[0]:.1f} to {each[-1]:.1f}")
    print(f"per slot / per row touched: {ratio:.1f}")
    where = {"machine": platform.machine(), "torch": torch.__version__}
    found = {"command": "python benchmarks/seam.py", **where, "cpu_ms": times, "ratio": ratio}
    Path(__file__).parent.joinpath("results", "seam.json").write_text(json.dumps(found, indent=1) + "\n")


main()

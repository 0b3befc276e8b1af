"""STEM in its published TikTok configuration on a GPU: rows a second, the share of the device's matrix rate, and the published loop.

Run `python benchmarks/gpu.py` where CUDA is. Eight category fields of 16 numbers in three views, experts 512-512-512 (8 shared, 1 a
task), gates 128-64, towers 128-64, two tasks. The real log's counts of values are not published: those here are of its order (5.5
million ids in all), drawn by Zipf's law; batches lie on the device. Ways to step, and bare products, take turns: each holds a table and
its moments all the while (by arithmetic 13 GB in all, and what L2 keeps for a while). Before it times, it checks that steps on the
device are those on the CPU, with a listwise loss, too, and in bfloat16 nearly. The script itself is tried by
`--device cpu --shrink 1000 --batches 256`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from measured import Ratio, over, parser, quartiles, ratio, write
from peers.rows import draw
from published import Published

from umbel.data.batch import Batch
from umbel.learn.plan import Plan
from umbel.learn.step import Fast
from umbel.nn.recommender import Recommender, Sizes
from umbel.objectives import LIKELIHOOD, Listwise, Objective
from umbel.recipes import stem
from umbel.schema import Field, FieldKind, Schema, Task

VALUES = {
    "uid": 300_000, "item": 4_000_000, "author": 1_000_000, "city": 500, "channel": 5, "music": 100_000, "device": 100_000, "duration": 100,
}  # fmt: skip
SKEW, DIM, STEPS, L2 = 1.05, 16, 8, 1e-6
EXPERT, GATE, TOWER = (512, 512, 512), (128, 64), (128, 64)
LIST, FEW = 8, 512  # rows of a request, and of a batch that is checked
PRODUCTS = "bfloat16 products, operations a second"


@dataclass(frozen=True, slots=True)
class Check:
    """What is trained on either device, in float32 on the CPU, and how close its losses must be, of themselves."""

    loss: Objective = LIKELIHOOD
    precision: torch.dtype | None = None
    close: float = 1e-3


CHECKS = {"float32": Check(), "listwise": Check(Listwise()), "bfloat16": Check(precision=torch.bfloat16, close=1e-2)}


def model(shrink: int, loss: Objective = LIKELIHOOD) -> Recommender:
    """The published shape over so many ids, or a part of them and narrower experts."""
    torch.manual_seed(0)
    tasks = tuple(Task(name, loss=loss) for name in ("finish", "like"))
    schema = Schema(tuple(Field(name, FieldKind.ID) for name in VALUES), tasks)
    vocabulary = {name: max(2, values // shrink) + 1 for name, values in VALUES.items()}
    expert = EXPERT if shrink == 1 else (32, 32, 32)
    return stem(schema, Sizes(vocabulary, dim=DIM, expert=expert, gate=GATE, tower=TOWER, specific=1, shared=8))


def batches(size: int, shrink: int, device: torch.device) -> list[Batch]:
    """Rows of Zipf-distributed ids on the device."""
    columns = {}
    for seed, (name, values) in enumerate(VALUES.items()):
        most = max(2, values // shrink)
        places = np.random.default_rng(seed).permutation(most).astype(np.int32) + np.int32(1)
        columns[name] = torch.from_numpy(places[draw(STEPS * size, most, skew=SKEW, seed=seed) - 1])
    labels = torch.from_numpy((np.random.default_rng(9).random((STEPS * size, 2)) < (0.4, 0.02)).astype(np.float32))
    index = torch.arange(len(labels))
    made = Batch(columns, labels, torch.ones_like(labels, dtype=torch.bool), index, group=index // LIST)
    return [made.take(slice(start, start + size)).to(device) for start in range(0, len(labels), size)]


def waited(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(step: Callable[[Batch], object], rows: list[Batch], device: torch.device) -> float:
    """Rows a second of steps one after another."""
    waited(device)
    began = time.perf_counter()
    for batch in rows:
        step(batch)
    waited(device)
    return sum(len(batch.labels) for batch in rows) / (time.perf_counter() - began)


def products(device: torch.device, *, side: int, repeats: int = 20) -> float:
    """Operations a second of square bfloat16 products, the rate that shares are of."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    _ = left @ right
    waited(device)
    began = time.perf_counter()
    for _ in range(repeats):
        _ = left @ right
    waited(device)
    return repeats * 2 * side**3 / (time.perf_counter() - began)


def operations(made: Recommender) -> int:
    """Of a row's step in matrices: each weight once forward, twice backward, a product and a sum each time."""
    return 6 * sum(parameter.numel() for parameter in made.dense_parameters() if parameter.ndim > 1)


def check(one: Check, shrink: int, device: torch.device) -> float:
    """How far the losses of some steps on the device are from those on the CPU, of themselves; :raises AssertionError: if not close."""
    found = []
    for place, precision in ((torch.device("cpu"), None), (device, one.precision)):
        step = Fast(model(shrink, one.loss).to(place), Plan(device=place, precision=precision))
        found.append(torch.stack([step(batch).cpu() for batch in batches(FEW, shrink, place)]))
    worst = float(((found[0] - found[1]).abs() / found[0]).max())
    assert worst < one.close, f"{one}: losses on {device} differ by {worst:.2g}"
    return worst


def measured(size: int, shrink: int, device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Rows a second of each way to step at one batch size, and operations a second of bare products, round by round in turns."""
    rows, whole = batches(size, shrink, device), Plan(device=device)
    steps: dict[str, Callable[[Batch], object]] = {
        "float32": Fast(model(shrink).to(device), whole),
        "bfloat16": Fast(model(shrink).to(device), replace(whole, precision=torch.bfloat16)),
        "published loop": Published(model(shrink).to(device), l2=L2),
    }
    turns: dict[str, Callable[[], float]] = {name: partial(rate, step, rows, device) for name, step in steps.items()}
    turns[PRODUCTS] = partial(products, device, side=8192 if shrink == 1 else 256)
    found: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds + 1):
        for name, turn in turns.items():
            found[name].append(turn())
    return {name: rates[1:] for name, rates in found.items()}  # the first round is not counted


def main() -> None:
    """Check, then time every batch size; figures to benchmarks/results/gpu.json."""
    asking = parser(__file__, __doc__)
    asking.add_argument("--device", default="cuda")
    asking.add_argument("--shrink", type=int, default=1, help="a part of the ids, and narrow experts: to try this script")
    asking.add_argument("--batches", type=int, nargs="+", default=[4096, 16384, 65536])
    asking.add_argument("--rounds", type=int, default=5)
    asked = asking.parse_args()
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: no CUDA device here; --device cpu --shrink 1000 --batches 256 tries the script itself")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    checked = {what: check(one, max(asked.shrink, 100), device) for what, one in CHECKS.items()}
    figures: dict[str, object] = {"device": name, "losses differ by": checked}
    per_row = operations(model(asked.shrink))
    ratios: list[Ratio] = []
    for size in asked.batches:
        speeds = measured(size, asked.shrink, device, asked.rounds)
        own = speeds["bfloat16"]
        figures[f"batch {size}"] = {way: quartiles(found) for way, found in speeds.items()}
        ratios += [
            ratio(f"batch {size}: million rows a second, bfloat16", [one / 1e6 for one in own], goal=1.0),
            ratio(f"batch {size}: bfloat16 over the published loop", over(own, speeds["published loop"]), goal=10.0),
            ratio(f"batch {size}: share of the device's bfloat16 products", over([per_row * one for one in own], speeds[PRODUCTS]),
                  goal=0.3 if size == 65536 else None),
        ]
        for one in ratios[-3:]:
            print(f"{one.what:60} {one.value:9.3f} ({one.low:.3f} to {one.high:.3f})", flush=True)
    write(asked.o, {**figures, "operations a row": per_row}, ratios)


if __name__ == "__main__":
    main()

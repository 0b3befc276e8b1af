"""What a balancer costs: step time and memory over the plain sum, every balancer, three tasks, MMoE with eight experts.

Ratios are taken within a round, in which everyone steps in turn, so that a busy moment of the machine meets all of them;
their median and quartiles over rounds are the figures. Memory is the most that one step holds at once above what it starts with,
by torch's own count of what it allocates (on a CPU: from its profiler).
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import measured
import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from umbel.balance.named import BALANCERS, balancer
from umbel.data.batch import Batch
from umbel.learn.memory import keep_freed
from umbel.learn.plan import Plan
from umbel.learn.step import Fast
from umbel.learn.taps import At
from umbel.learn.weigh import Balance
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.schema import Field, FieldKind, Schema, Task

TASKS, COLUMNS, DIM, BATCH, IDS = 3, 16, 16, 4096, 10**5
SIZES = {"expert": (128, 64), "tower": (32,), "specific": 1, "shared": 5}  # eight experts in all for mmoe
OTHERS = ("omoe", "ple", "stem")  # measured with one balancer of each kind
KINDS = ("normalised", "pcgrad")
VIEWS = "mmoe pcgrad, at views"  # on request only


def schema() -> Schema:
    """Sixteen ids, three binary tasks."""
    return Schema(tuple(Field(f"c{column}", FieldKind.ID) for column in range(COLUMNS)), tuple(Task(name) for name in "abc"))


def model(recipe: str) -> Recommender:
    """A recipe over a hundred thousand ids."""
    torch.manual_seed(0)
    vocabulary = {f"c{column}": IDS // COLUMNS + 1 for column in range(COLUMNS)}
    return RECIPES[recipe](schema(), Sizes(vocabulary, dim=DIM, **SIZES))


def batches(count: int) -> list[Batch]:
    """Rows of ids by Zipf's law; the third task has few positives."""
    random, found = np.random.default_rng(0), []
    for _ in range(count):
        codes = torch.from_numpy(np.minimum(random.zipf(1.3, (BATCH, COLUMNS)), IDS // COLUMNS).astype(np.int32))
        labels = torch.from_numpy((random.random((BATCH, TASKS)) < [0.3, 0.2, 0.02]).astype(np.float32))
        fields = {f"c{column}": codes[:, column] for column in range(COLUMNS)}
        found.append(Batch(fields, labels, torch.ones_like(labels, dtype=torch.bool), torch.arange(BATCH)))
    return found


def stepper(recipe: str, name: str | None, *, at: At = At.EXPERTS, scalar: bool = False) -> Fast:
    """A step with a balancer, or with the plain sum."""
    balance = None if name is None else Balance(partial(balancer, name), at=at, scalar=scalar)
    return Fast(model(recipe), Plan(balance=balance))


def entrants(named: list[str]) -> dict[str, tuple[str, Fast]]:
    """Everyone by name, with the recipe whose plain step it is measured against."""
    found = {f"mmoe {name}": ("mmoe", stepper("mmoe", name)) for name in named}
    weights = {"weights": (0.5, 1.0, 2.0)}
    found["mmoe static, unequal"] = ("mmoe", Fast(model("mmoe"), Plan(balance=Balance(partial(balancer, "static", settings=weights)))))
    found |= {f"mmoe {name}, scalar": ("mmoe", stepper("mmoe", name, scalar=True)) for name in KINDS}
    found[VIEWS] = ("mmoe", stepper("mmoe", "pcgrad", at=At.VIEWS))
    return found | {f"{recipe} {name}": (recipe, stepper(recipe, name)) for recipe in OTHERS for name in KINDS}


def timed(step: Fast, rows: list[Batch]) -> float:
    """Seconds of processor time a step."""
    began = time.process_time()
    for one in rows:
        step(one)
    return (time.process_time() - began) / len(rows)


def peak(step: Fast, one: Batch) -> int:
    """The most bytes that a step holds at once, by the profiler's allocations and frees in order."""
    step(one)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        step(one)
    held = most = 0
    for event in told.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def dearest(ratios: dict[str, list[float]]) -> list[measured.Ratio]:
    """Of each recipe, the balancer whose step takes longest, and the Gramian at the views."""
    found = []
    for recipe in ("mmoe", *OTHERS):
        every = {name: own for name, own in ratios.items() if name.split()[0] == recipe and name != VIEWS}
        name = max(every, key=lambda one: statistics.median(every[one]))
        found.append(measured.ratio(f"a step over the plain sum's, the dearest of {len(every)}: {name}", every[name], goal=1.5, most=True))
    return [*found, measured.ratio(f"a step over the plain sum's: {VIEWS}", ratios[VIEWS])]


def main() -> None:
    """Measure, print, and leave results/balancers.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", nargs="+", default=list(BALANCERS), help="balancers of mmoe")
    given = parser.parse_args()
    keep_freed()
    rows, plain = batches(given.steps), {recipe: stepper(recipe, None) for recipe in ("mmoe", *OTHERS)}
    every = entrants(given.only)
    for step in (*plain.values(), *(step for _, step in every.values())):
        timed(step, rows[:1])
    base: dict[str, list[float]] = {recipe: [] for recipe in plain}
    ratios: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(given.rounds):
        now = {recipe: timed(step, rows) for recipe, step in plain.items()}
        for recipe, seconds in now.items():
            base[recipe].append(seconds)
        for name, (recipe, step) in every.items():
            ratios[name].append(timed(step, rows) / now[recipe])
    held = {recipe: peak(step, rows[0]) for recipe, step in plain.items()}
    found = {name: {"time": measured.quartiles(ratios[name]), "memory": round(peak(step, rows[0]) / held[recipe], 3)}
             for name, (recipe, step) in every.items()}
    about = {
        "rounds": given.rounds, "steps": given.steps, "batch": BATCH, "tasks": TASKS,
        "what": "processor time of a step and its peak memory, over the plain sum's",
    }
    report = {**about, "plain": {recipe: {"milliseconds": measured.quartiles([1000 * one for one in base[recipe]]), "bytes": held[recipe]}
                                 for recipe in plain}, "over_plain": found}
    measured.write(given.o, report, dearest(ratios), threads=torch.get_num_threads())
    for name, one in found.items():
        cost = one["time"]
        print(f"{name:28} time {cost['median']:.2f} ({cost['low']:.2f}-{cost['high']:.2f})  memory {one['memory']:.2f}")


if __name__ == "__main__":
    main()

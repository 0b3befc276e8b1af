"""What large tables and large experts cost: 10^8 ids over 10^5, the share of bare products, and loops that update whole tables.

Steps of MMoE (eight experts) and STEM over rows that are ready in memory. `python benchmarks/large.py --only share` measures one part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import measured
import torch
from peers.rows import BATCH, COLUMNS, EXPERTS, SKEW, SMALL, TOWER, packed, ready, schema
from products import LIBRARIES, products
from published import Published

from umbel.data.batch import Batch
from umbel.learn.memory import keep_freed
from umbel.learn.optim import RowAdagrad
from umbel.learn.plan import Plan
from umbel.learn.step import Exact, Fast
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES

HUGE, LARGE = 10**8, 10**7
L2 = 1e-6
LOOP, EXACT = "the published loop over whole tables", "our exact mode over whole tables"
WAYS: dict[str, Callable[[Recommender], Callable[[Batch], object]]] = {
    "ours": lambda made: Fast(made, Plan(l2=L2)),
    LOOP: lambda made: Published(made, l2=L2),
    EXACT: lambda made: Exact(made, Plan(l2=L2, exact=True)),
}
Timed = dict[str, list[float]]


def model(recipe: str, ids: int, *, dim: int, expert: Sequence[int]) -> Recommender:
    """A recipe of eight experts over `ids` ids in sixteen fields."""
    torch.manual_seed(0)
    vocabulary = {f"c{column}": ids // COLUMNS + 1 for column in range(COLUMNS)}
    sizes = Sizes(vocabulary, dim=dim, expert=tuple(expert), tower=TOWER, specific=1, shared=EXPERTS - 2)
    return RECIPES[recipe](schema(), sizes)


def turns(work: dict[str, Callable[[], object]], rounds: int) -> Timed:
    """Processor milliseconds of each, in turns, after a first turn that is not counted."""
    found: Timed = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, one in work.items():
            began = time.process_time()
            one()
            if number:
                found[name].append(1e3 * (time.process_time() - began))
    return found


def stepping(step: Callable[[Batch], object], ids: int, *, skew: float, count: int) -> Callable[[], object]:
    """A step on the next of some batches, again and again."""
    batches = cycle(ready(packed(count * BATCH, ids, skew)))
    return lambda: step(next(batches))


def tables(rounds: int) -> Iterator[tuple[str, Timed, list[measured.Ratio]]]:
    """MMoE of width 8 under row-wise Adagrad, 10^8 ids over 10^5, by how ids are distributed."""
    steps = {ids: Fast(model("mmoe", ids, dim=8, expert=(128, 64)), Plan(rows=RowAdagrad)) for ids in (SMALL, HUGE)}
    for law, skew, goal in (("Zipf", SKEW, 1.25), ("uniform", 0.0, None)):
        found = turns({f"{ids:.0e}": stepping(step, ids, skew=skew, count=rounds + 1) for ids, step in steps.items()}, rounds)
        small, huge = (found[f"{ids:.0e}"] for ids in (SMALL, HUGE))
        what = f"step of mmoe, width 8, row-wise Adagrad, 10^8 ids over 10^5 ({law})"
        yield f"tables, {law}", found, [measured.ratio(what, measured.over(huge, small), goal=goal, most=True)]


def share(rounds: int) -> Iterator[tuple[str, Timed, list[measured.Ratio]]]:
    """Bare matrix products over a step of MMoE, by the width of its experts."""
    for expert, goal in (((128, 64), 0.55), ((512, 512, 512), 0.75)):
        step = stepping(Fast(model("mmoe", SMALL, dim=16, expert=expert), Plan()), SMALL, skew=SKEW, count=4)
        bare = {f"bare products, {library}": products(16, expert, multiply) for library, multiply in LIBRARIES.items()}
        found = turns({**bare, "step": step}, rounds)
        name = "-".join(map(str, expert))
        what = f"share of bare products in a step of mmoe, experts {name}, by the faster of {' and '.join(LIBRARIES)}"
        least = [min(one) for one in zip(*(found[side] for side in bare), strict=True)]
        yield f"share, {name}", found, [measured.ratio(what, measured.over(least, found["step"]), goal=goal)]


def loop(rounds: int) -> Iterator[tuple[str, Timed, list[measured.Ratio]]]:
    """Training over whole tables as STEM's authors do it, and as our exact mode does, over a step of ours, by the number of ids."""
    for ids, goal in ((SMALL, None), (LARGE, 40.0)):
        timed: Timed = {}
        for name, make in WAYS.items():  # one after the other: they do not fit at once
            step = make(model("stem", ids, dim=16, expert=(128, 64)))
            timed |= turns({name: stepping(step, ids, skew=SKEW, count=4)}, rounds)
            del step
        yield f"loop, {ids:.0e}", timed, [
            measured.ratio(f"{name} over a step of ours, stem, {ids:.0e} ids", measured.over(timed[name], timed["ours"]), goal=wanted)
            for name, wanted in ((LOOP, goal), (EXACT, None))
        ]


PARTS = {"share": share, "loop": loop, "tables": tables}


def main() -> None:
    """Measure, print, and write the figures as they come."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()  # as `fit` does
    results: dict[str, dict[str, dict[str, float]]] = {}
    ratios: list[measured.Ratio] = []
    for part in asked.only:
        for name, timed, more in PARTS[part](asked.rounds):
            results[name] = {side: measured.quartiles(values) for side, values in timed.items()}
            ratios += more
            told = [f"{one.what}: {one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in more]
            print(name, results[name], *told, sep="\n  ", flush=True)
            measured.write(asked.o, {"processor_milliseconds_a_step": results}, ratios)


if __name__ == "__main__":
    main()

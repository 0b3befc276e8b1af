"""A meta-learning step of 32 users, and one new user's adaptation: umbel against two loops, one thread, MeLU's network.

Everyone has the shapes of MovieLens-1M (eight fields, 32 numbers each, 13,627 values in all, layers of 64 and 64) and does the whole
step: look-ups, inner steps, query, backward pass, optimiser. Ratios are taken within a round, in which all step in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import measured
import numpy as np
import torch
from meta_loops import Columns, Copying, Functional, Network, User

from umbel.data.batch import Batch
from umbel.data.shots import Shots, episode_batch, even
from umbel.learn import dual
from umbel.learn.adapt import Inner, Steps, adapt
from umbel.learn.episode import Learner
from umbel.learn.ladder import Ladder
from umbel.learn.memory import keep_freed
from umbel.learn.plan import Plan
from umbel.learn.rates import fixed
from umbel.learn.scope import DECISION, LAST
from umbel.learn.step import Fast
from umbel.learn.taken import shorter
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

USERS, QUERY, DIM, HIDDEN, RATE = 32, 10, 32, (64, 64), 0.005
SLOW = 1e-5  # so that nobody learns the few drawn labels by heart
LISTS = {"genre": (25, 4), "director": (2186, 2), "actor": (7978, 4)}  # values, and how many a movie has at most
SINGLES = {"content_rating": 6, "gender": 2, "age": 7, "occupation": 21, "zip": 3402}
CASES = {f"support {size or '3 to 82'}, K={steps}, {'second' if second else 'first'} order": (size, steps, second)
         for size in (10, None) for steps in (1, 3) for second in (False, True)}


def schema() -> Schema:
    """Eight fields, one rating."""
    lists = (Field(name, FieldKind.BAG, length=most) for name, (_, most) in LISTS.items())
    return Schema((*lists, *(Field(name, FieldKind.CATEGORY) for name in SINGLES)), (Task("rating", REGRESSION),))


def sizes() -> dict[str, int]:
    """Rows of each table, unknown included."""
    return {name: size + 1 for name, size in {**{name: size for name, (size, _) in LISTS.items()}, **SINGLES}.items()}


def model() -> Recommender:
    """MeLU's network as a recipe."""
    torch.manual_seed(0)
    return RECIPES["shared_bottom"](schema(), Sizes(sizes(), dim=DIM, expert=HIDDEN, tower=()))


def stepper(*, steps: int, second: bool, plain: bool = False) -> Fast:
    """Ours; `plain` without the low-rank form."""
    made = model()
    adapter = Steps(made, Inner(DECISION, steps=steps, second=second), rates=fixed(RATE))
    adapter.chain = None if plain else adapter.chain
    learner = Learner(made, adapter)
    return Fast(learner.train(), Plan(rate=SLOW))


def rows(random: np.random.Generator, count: int) -> Columns:
    """Codes of so many rows of one user, whose own fields do not change."""
    found = []
    for size, most in LISTS.values():
        codes = random.integers(1, size + 1, (count, most))
        found.append(torch.from_numpy(np.where(np.arange(most) < random.integers(1, most + 1, (count, 1)), codes, -1)))
    found.append(torch.from_numpy(random.integers(1, SINGLES["content_rating"] + 1, count)))
    return found + [torch.full((count,), int(random.integers(1, size + 1))) for name, size in SINGLES.items() if name != "content_rating"]


def users(random: np.random.Generator, *, support: int | None) -> list[User]:
    """A batch of users who rate about 0 (what is known of items is taken off).

    Supports have so many rows, or as many as MovieLens-1M's: 3 to 82, 29 in the middle, one of 82 in every batch.
    """
    found = []
    for number in range(USERS):
        drawn = int(np.clip(random.lognormal(3.3, 0.8), 3, 82))
        size = support or (82 if number == 0 else drawn)
        both, own = rows(random, size + QUERY), torch.from_numpy(random.integers(-2, 3, size + QUERY)).float()
        found.append(User([one[:size] for one in both], own[:size], [one[size:] for one in both], own[size:]))
    return found


def batch(given: list[User]) -> Batch:
    """The same users as an episode batch, padded."""
    return episode_batch(_shots([one.support for one in given], [one.support_labels for one in given]),
                         _shots([one.query for one in given], [one.query_labels for one in given]))


def _shots(columns: list[Columns], labels: list[torch.Tensor]) -> Shots:
    most = max(map(len, labels))
    fields = {name: torch.stack([_pad(own[place], most) for own in columns]) for place, name in enumerate(sizes())}
    seen = torch.stack([torch.arange(most) < len(own) for own in labels])[..., None]
    y = torch.stack([_pad(own, most) for own in labels])[..., None]
    return Shots(fields, y, seen, even(seen), torch.zeros(*y.shape))


def _pad(column: torch.Tensor, most: int) -> torch.Tensor:
    return torch.cat([column, column[:1].expand(most - len(column), *column.shape[1:])])


def milliseconds(run: Callable[[], object], calls: int = 1) -> float:
    """Processor time of one call, on average over some in a row."""
    began = time.process_time()
    for _ in range(calls):
        run()
    return 1000 * (time.process_time() - began) / calls


def raced(case: tuple[int | None, int, bool], rounds: int, calls: int) -> dict[str, list[float]]:
    """Milliseconds of each in every round."""
    support, steps, second = case
    random = np.random.default_rng(0)
    drawn = [users(random, support=support) for _ in range(4)]
    ready = [batch(one) for one in drawn]
    ours = stepper(steps=steps, second=second)
    copying, loop = (made(Network(list(sizes().values()), DIM, HIDDEN), steps=steps, rates=(RATE, SLOW), second=second)
                     for made in (Copying, Functional))
    times: dict[str, list[float]] = {"ours": [], "copying": [], "functional": []}
    for number in range(rounds + 1):
        place = number % len(drawn)
        everyone = {"ours": partial(ours, ready[place]), "copying": partial(copying, drawn[place]),
                    "functional": partial(loop, drawn[place])}
        for name, run in everyone.items():
            taken = milliseconds(run, calls)
            times[name] += [taken] if number else []
    return times


def beside(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """How many times ours each loop takes, round by round."""
    return {name: measured.over(times[name], times["ours"]) for name in ("copying", "functional")}


def told(times: dict[str, list[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """A case as the file has it."""
    return {"milliseconds": {name: measured.quartiles(one) for name, one in times.items()},
            "times ours": {name: measured.quartiles(one) for name, one in beside(times).items()}}


def goals(case: str, times: dict[str, list[float]]) -> list[measured.Ratio]:
    """A case's ratios: with supports that differ only the loop of copies has a goal."""
    support, _, _ = CASES[case]
    least = {"copying": 15.0, "functional": 7.0} if support else {"copying": 4.0}
    return [measured.ratio(f"{name} loop over a meta-step of ours, {case}", rounds, goal=least.get(name))
            for name, rounds in beside(times).items()]


def alone(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of processor time for one new user's ten rows to become what is the user's own."""
    made = model().eval()
    one = users(np.random.default_rng(1), support=10)[0]
    given = Batch(dict(zip(sizes(), one.support, strict=True)), one.support_labels[:, None], torch.ones(10, 1, dtype=torch.bool),
                  torch.arange(10))
    ways = {"head form (ridge)": partial(Ladder(head=1).adapt, made, given),
            "decision layers, K=1": partial(adapt, made, given, inner=Inner(DECISION), rate=RATE),
            "last layer, K=1": partial(adapt, made, given, inner=Inner(LAST), rate=RATE)}
    return {name: [milliseconds(way) for _ in range(20 * rounds + 5)][5:] for name, way in ways.items()}


def border(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Milliseconds of a first-order step by the length of the support: maps kept by rows, by matrices, by the rule, and copies (`vmap`)."""
    found: dict[str, dict[str, float]] = {}
    for support in (5, 10, 20, 40, 80):
        for steps in (1, 3):
            ready = batch(users(np.random.default_rng(2), support=support))
            ways: dict[str, list[float]] = {name: [] for name in ("rows", "matrices", "rule", "copies")}
            steppers = {name: stepper(steps=steps, second=False, plain=name == "copies") for name in ways}
            for number in range(rounds + 1):
                for name, own in steppers.items():
                    dual.shorter = {"rows": always, "matrices": never}.get(name, shorter)
                    taken = milliseconds(partial(own, ready), calls)
                    ways[name] += [taken] if number else []
            found[f"support {support}, K={steps}"] = {name: round(statistics.median(one), 2) for name, one in ways.items()}
    return found


def always(rows: int, out: int, width: int) -> bool:
    """By rows."""
    return True


def never(rows: int, out: int, width: int) -> bool:
    """By matrices."""
    return False


def main() -> None:
    """Measure, print, and leave results/meta_step.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="of each in turn")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()
    cases = {name: raced(case, given.rounds, given.steps) for name, case in CASES.items()}
    one = alone(given.rounds)
    ratios = [ratio for name, times in cases.items() for ratio in goals(name, times)]
    ratios += [measured.ratio(f"one new user of ten rows: {way}, ms", times, goal=2, most=True) for way, times in one.items()]
    steps, forms = {name: told(times) for name, times in cases.items()}, border(max(2, given.rounds // 3), given.steps)
    report = {"rounds": given.rounds, "users": USERS, "query": QUERY, "what": "processor time of a whole step", "steps": steps,
              "one new user, ten rows": {way: measured.quartiles(times) for way, times in one.items()}, "milliseconds by form": forms}
    measured.write(given.o, report, ratios)
    for ratio in ratios:
        print(f"{ratio.what:70} {ratio.value:6.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
    for name, own in forms.items():
        print(f"{name:40} {own}")


if __name__ == "__main__":
    main()

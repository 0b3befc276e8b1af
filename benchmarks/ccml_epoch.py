"""An epoch of CCML, one thread: umbel against two loops that take a user at a time; MeLU's network on shapes of MovieLens-1M.

Simulated users of 13 to 100 ratings, ten of them the support; ten fields of 32 numbers (the eight of MovieLens-1M, user and movie ids),
layers of 64 and 64; three joint steps with the ten collaborators that gradients and ratings choose of 128 candidates; first order, no
graph. Umbel's epoch is whole: everybody's gradient, the choice, batches of 32 read from the table, look-ups, steps, optimisers. The loops
(`ccml_loops.py`) find their users' rows ready; they take some users in every round, and their epoch is reckoned from what those cost.
Before anything is measured, all sides have to come to one meta-gradient on a small case. Sides take turns; processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import measured
import numpy as np
import polars as pl
import torch
from ccml_loops import Anew, Loop, Once, Person, Rows, Rules
from meta_loops import Columns, Network
from torch import Tensor

from umbel.coldstart.ccml import Ccml
from umbel.coldstart.collaboration import Collaboration
from umbel.coldstart.method import Prepared, Setup
from umbel.coldstart.prior import ItemMeans
from umbel.coldstart.source import Reader
from umbel.data.episodes import Protocol
from umbel.data.ingest import ingest
from umbel.data.shots import Shots
from umbel.data.source import Source
from umbel.data.split import ByColumn
from umbel.data.table import Table
from umbel.learn.memory import keep_freed
from umbel.learn.plan import Plan
from umbel.learn.step import Fast
from umbel.nn.losses import Denominator
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task

BATCH, DIM, HIDDEN, SLOW = 32, 32, (64, 64), 1e-5  # a rate at which nobody learns the drawn ratings by heart
LISTS = {"genres": (25, 4), "directors": (2186, 2), "actors": (7978, 4)}  # values, and how many a movie has at most
MOVIES, OF_MOVIES, OF_USERS = 3675, {"content_rating": 6}, {"gender": 2, "age": 7, "occupation": 21, "zip": 3402}
SETTINGS = Ccml(graph=False, warmup=0)
LOOPS = {"collaborators found anew at every user": Anew, "gradients once an epoch": Once}
GOALS = {"collaborators found anew at every user": 30.0}
NEAR = 1e-4  # the largest gap of a meta-gradient, as a share of its largest number


def schema() -> Schema:
    """The user's and the movie's id and attributes, one rating."""
    ids = (Field("user", FieldKind.ID, min_count=1), Field("movie", FieldKind.ID, min_count=1))
    one = (Field(name, FieldKind.CATEGORY, min_count=1) for name in (*OF_USERS, *OF_MOVIES))
    many = (Field(name, FieldKind.BAG, length=most, min_count=1) for name, (_, most) in LISTS.items())
    return Schema((*ids, *one, *many), (Task("rating", REGRESSION),))


def table(users: int, folder: Path) -> Table:
    """So many training users, and a few others, with ratings drawn at random."""
    draw = np.random.default_rng(0)
    count = np.clip(draw.lognormal(3.3, 0.8, users + 8).astype(int), 13, 100)
    user = np.repeat(np.arange(users + 8), count)
    movie = np.concatenate([draw.permutation(MOVIES)[:own] for own in count])
    rating = draw.integers(1, 6, len(user)).astype(float)
    columns: dict[str, object] = {"user": user, "movie": movie, "time": np.arange(len(user)), "rating": rating}
    columns |= {name: draw.integers(size, size=users + 8)[user] for name, size in OF_USERS.items()}
    columns |= {name: draw.integers(size, size=MOVIES)[movie] for name, size in OF_MOVIES.items()}
    lists = {name: [draw.integers(size, size=most).tolist() for _ in range(MOVIES)] for name, (size, most) in LISTS.items()}
    columns |= {name: [own[one] for one in movie] for name, own in lists.items()}
    part = np.where(user < users, "train", np.where(user < users + 4, "valid", "test"))
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({**columns, "part": part}).write_parquet(folder / "log.parquet")
    source = Source(str(folder / "log.parquet"), user="user", item="movie", time="time")
    return ingest(source, schema(), ByColumn("part", "valid", "test"), folder=folder / "table")


def prepared(made: Table, method: Ccml) -> Prepared:
    """Umbel's side."""
    rows = {name: one.size for name, one in made.encoder.vocabularies.items()}

    def build(own: Schema) -> Recommender:
        torch.manual_seed(0)
        model = RECIPES["shared_bottom"](own, Sizes(rows, dim=DIM, expert=HIDDEN, tower=()))
        with torch.no_grad():
            model.table.normal_(std=0.5)  # as far apart as after some training: else everybody's gradient is the same
            if model.views.counts is not None:
                model.views.counts.weight.zero_()  # the loops know no counts of lists, which are of one length here
        return model

    return method.prepare(Setup(Reader(made, ItemMeans.of(made)), build, Protocol(support=10, query=None), size=BATCH))


def network(model: Recommender) -> Network:
    """The same weights as modules of torch."""
    spans = [model.places.span(field.name) for field in model.schema.fields]
    found = Network([len(span) for span in spans], DIM, HIDDEN)
    own = dict(model.named_parameters())
    first, second, out = (own[f"{place}.blocks.0.weights.{at}"] for place, at in
                          (("layers.0.bank", 0), ("layers.0.bank", 1), ("head.towers.banks.0", 0)))
    with torch.no_grad():
        for span, one in zip(spans, found.tables, strict=True):
            assert isinstance(one, torch.nn.Embedding)
            one.weight.copy_(model.table[span.start : span.stop])
        for layer, weight in ((found.first, first), (found.second, second[0].T), (found.out, out)):
            layer.weight.copy_(weight)
            layer.bias.zero_()
    return found


def people(made: Prepared, *, epoch: int) -> list[Person]:
    """Every training user of an epoch as the loops read one."""
    batches = collaboration(made)
    own = batches.training.episodes(epoch)
    support, query = (rows(batches.sampler.reader.shots(one), made.learner.user) for one in (own.support, own.query))
    near = [[one for one in line if one >= 0] for line in batches.sampler.near.tolist()]
    return [Person(*each) for each in zip(support, query, near, strict=True)]


def rows(shots: Shots, user: str | None) -> list[Rows]:
    """Users without their padding; nobody is known by id."""
    columns = {name: torch.zeros_like(one) if name == user else one.long() for name, one in shots.fields.items()}
    found = []
    for place, seen in enumerate(shots.seen[..., 0]):
        own: Columns = [column[place][seen] for column in columns.values()]
        found.append(Rows(own, shots.labels[place][seen][:, 0], shots.prior[place][seen][:, 0]))
    return found


def rules(made: Prepared) -> Rules:
    """What the loops have to know of the settings."""
    sampler = collaboration(made).sampler
    told = (*sampler.attributes.users, made.learner.user)
    items = tuple(place for place, field in enumerate(made.learner.schema.fields) if field.name not in told)
    own = SETTINGS
    return Rules(items, sampler.scale.level, sampler.scale.levels, steps=own.steps, rate=own.rate, clip=own.clip, most=own.most,
                 kept=own.kept, share=own.share)


def collaboration(made: Prepared) -> Collaboration:
    """Its batches, with collaborators."""
    assert isinstance(made.batches, Collaboration)
    return made.batches


def apart(made: Table, *, epoch: int = 0) -> dict[str, float]:
    """The largest gap between umbel's meta-gradient on an epoch's first batch and each loop's, over the largest number in it."""
    ours = prepared(made, replace(SETTINGS, sketch=0))
    batches = collaboration(ours)
    places, *_ = next(iter(batches.training.drawn(batches.training.episodes(epoch), epoch, 0)))
    batch, learner = next(iter(batches(epoch, 0))), ours.learner.train()
    torch.autograd.backward(learner.losses(learner(batch.fields), batch, denominator=Denominator.SEEN).sum())
    expected = gradients(learner.model)
    found = {}
    for name, loop in loops(ours, epoch=epoch).items():
        loop.begin()
        torch.autograd.backward(loop.loss(places.tolist()))
        pairs = zip(loop.network.parameters(), expected, strict=True)
        gaps = [(one.grad - other).abs().max() for one, other in pairs if one.grad is not None]
        found[name] = float(max(gaps) / max(one.abs().max() for one in expected))
    return found


def loops(made: Prepared, *, epoch: int) -> dict[str, Loop]:
    """Both, at umbel's weights, with its users as an epoch divides them."""
    everyone = people(made, epoch=epoch)
    return {name: kind(network(made.learner.model), everyone, rules(made), rate=SLOW) for name, kind in LOOPS.items()}


def gradients(model: Recommender) -> list[Tensor]:
    """A model's gradients in the order of the network's parameters."""
    own = {name: one.grad for name, one in model.named_parameters()}
    tables = own["table"]
    assert tables is not None
    spans = [model.places.span(field.name) for field in model.schema.fields]
    found = [tables[span.start : span.stop] for span in spans]
    for bank, level in (("layers.0.bank", 0), ("layers.0.bank", 1), ("head.towers.banks.0", 0)):
        weight, bias = (own[f"{bank}.blocks.0.{kind}.{level}"] for kind in ("weights", "biases"))
        assert weight is not None
        assert bias is not None
        found += [weight[0].T if level else weight, bias.flatten()]
    return found


def raced(made: Table, *, rounds: int, some: int) -> dict[str, list[float]]:
    """Processor seconds of an epoch, side by side in every round after the first, which warms up; loops take `some` users of it."""
    ours = prepared(made, SETTINGS)
    step, batches, sides = Fast(ours.learner.train(), Plan(rate=SLOW)), collaboration(ours), loops(ours, epoch=0)
    users = len(batches.training.episodes(0))
    draw = np.random.default_rng(1)
    times: dict[str, list[float]] = {"umbel": [], **{name: [] for name in LOOPS}}
    for number in range(rounds + 1):
        taken = {"umbel": seconds(partial(epoch, step, batches, number))}
        places = draw.choice(users, some, replace=False).tolist()
        for name, loop in sides.items():
            taken[name] = seconds(loop.begin) + seconds(partial(through, loop, places)) * users / some
        for name, one in taken.items():
            times[name] += [one] if number else []
    return times


def epoch(step: Fast, batches: Collaboration, number: int) -> None:
    """Umbel's, from the first gradient to the last step."""
    for batch in batches(number, 0):
        step(batch)


def through(loop: Loop, places: Sequence[int]) -> None:
    """A loop's steps over some users."""
    for start in range(0, len(places), BATCH):
        loop(places[start : start + BATCH])


def seconds(run: Callable[[], object]) -> float:
    """Processor time."""
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> None:
    """Check, measure, print, and leave results/ccml_epoch.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--users", type=int, default=2749, help="who train (MovieLens-1M has %(default)s)")
    parser.add_argument("--some", type=int, default=BATCH, help="of them in a round of the loops")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()
    with TemporaryDirectory() as folder:
        gaps = apart(table(96, Path(folder) / "small"))
        assert max(gaps.values()) <= NEAR, gaps
        times = raced(table(given.users, Path(folder) / "whole"), rounds=given.rounds, some=given.some)
    ratios = [measured.ratio(f"loop over an epoch of ours, {name}", measured.over(times[name], times["umbel"]), goal=GOALS.get(name))
              for name in LOOPS]
    report = {"users": given.users, "users of a round of the loops": given.some, "what": "processor seconds of an epoch, quartiles",
              "an epoch takes": {name: measured.quartiles(one) for name, one in times.items()},
              "largest gap of the meta-gradient, relative": gaps}
    measured.write(given.o, report, ratios)
    for name, one in times.items():
        print(f"{name:45} {measured.quartiles(one)}")
    for ratio in ratios:
        print(f"{ratio.what:70} {ratio.value:6.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
    print(gaps)


if __name__ == "__main__":
    main()

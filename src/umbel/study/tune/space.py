"""What is searched: the keys that may be, the space of the run file checked before hours go into it, and the usual one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from umbel.balance.named import BALANCERS, takes_of
from umbel.errors import UserError, nearest
from umbel.nn import interact, sequence
from umbel.recipes import MANY, SIZES, taken, unsized
from umbel.run import resolve
from umbel.run.settings import Settings
from umbel.run.tuning import RangeSection, Searched
from umbel.study.tune.dimension import Choices, Dimension, Range
from umbel.study.tune.point import ABSENT, SECTIONS, placed, pointed

FIXED = ("fit.epochs", "fit.patience", "fit.seed", "fit.threads", "fit.device", "fit.minutes")  # of them the budget of a trial
OF_TASKS = ("weight", "loss", "negatives")  # what may differ on one table
Found = TypeVar("Found")


def dimensions(settings: Settings) -> tuple[Dimension, ...]:
    """What the run file searches, or the usual space, by key; each value is tried on the run file alone.

    :raises UserError: for a key that is no setting (with the nearest), or that may not be searched, and for whatever the run
        file refuses about a value.
    """
    asked = settings.tune.space or usual(settings)
    known = searchable(settings)
    for key in asked:
        if key in FIXED:
            raise UserError(f"tune.space: {key!r} is the same for every trial", mend="set it in [fit]")
        if key not in known:
            raise UserError(f"tune.space: {key!r} is no setting that can be searched", mend=nearest(key, known))
    found = tuple(_dimension(settings, key, one) for key, one in sorted(asked.items()))
    for one in found:
        _check(settings, one)
    _heard(settings, found)
    return found


def searchable(settings: Settings) -> frozenset[str]:
    """The dotted keys of all settings that decide a model and its training, and not its table or its budget."""
    inner = {"model.interact_sizes", "model.sequence_sizes", "model.options"}
    plain = {f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields}
    tasks = {f"tasks.{task}.{key}" for task in settings.tasks for key in OF_TASKS}
    weights = {f"balance.weights.{task}" for task in settings.tasks}
    return frozenset(plain | tasks | weights) - {*FIXED, *inner, "balance.weights"}


def usual(settings: Settings) -> dict[str, Searched]:
    """The space where none is given: architecture, sizes, training and regularisation, around the run file's own recipe."""
    recipes = dict.fromkeys((settings.model.recipe, "shared_bottom", "mmoe", "ple", "stem"))
    found: dict[str, Searched] = {
        "model.recipe": tuple(recipes),
        "model.interact": tuple(dict.fromkeys((settings.model.interact, "concatenate", "dcn"))),
        "model.dim": (4, 8, 16, 32),
        "model.expert": ((64, 32), (128, 64), (256, 128)),
        "model.shared": RangeSection(low=1, high=4),
        "model.specific": RangeSection(low=1, high=2),
        "model.layers": RangeSection(low=1, high=2),
        "model.dropout": RangeSection(low=0.0, high=0.4),
        "model.id_dropout": RangeSection(low=0.0, high=0.2),
        "fit.rate": RangeSection(low=2e-4, high=2e-2, log=True),
        "fit.l2": RangeSection(low=1e-8, high=1e-4, log=True),
    }
    if any(one.target for one in settings.fields.values()):
        found["model.sequence"] = tuple(dict.fromkeys((settings.model.sequence, "mean", "din")))
    if len(settings.tasks) > 1:
        below = any(task.kind.form.density for task in resolve.schema(settings).tasks)
        ratios = () if below else ("uncertainty",)  # which takes no loss below 0
        found["fit.balancer"] = tuple(dict.fromkeys((settings.fit.balancer or ABSENT, ABSENT, "static", *ratios, "pcgrad")))
        found |= {f"balance.weights.{name}": RangeSection(low=0.25, high=4.0, log=True) for name in list(settings.tasks)[1:]}
    return found


def _dimension(settings: Settings, key: str, asked: Searched) -> Dimension:
    if isinstance(asked, RangeSection):
        return Range(key, asked.low, asked.high, asked.log, whole=_whole(settings, key, asked))
    return Choices.of(key, asked)


def _whole(settings: Settings, key: str, asked: RangeSection) -> bool:
    """Whether a setting takes whole numbers only: what it makes of the low end tells."""
    one = Choices.of(key, (asked.low,))
    held: Any = _named(one, asked.low, lambda: placed(settings, (one,), {key: asked.low})).model_dump()
    for step in key.split("."):
        held = held[step]
    return isinstance(held, int)


def _check(settings: Settings, one: Dimension) -> None:
    for end in one.ends():
        _named(one, end, partial(_tried, settings, one, end))


def _tried(settings: Settings, one: Dimension, end: object) -> None:
    resolve.check(pointed(settings, (one,), {one.key: end}))


def _named(one: Dimension, value: object, does: Callable[[], Found]) -> Found:
    """What a value leads to; :raises UserError: the run file's own, with the place in the space before it."""
    try:
        return does()
    except UserError as error:
        raise UserError(f"tune.space.{one.key} = {value!r}: {error.what}", mend=error.mend) from None


def _heard(settings: Settings, among: Sequence[Dimension]) -> None:
    """:raises UserError: for a setting that nothing which is searched would take."""
    for key in (one.key for one in among):
        for taker in _takers(settings, among):
            if _under(key, taker.of) and not _under(key, taker.takes):
                raise UserError(f"tune.space: no {taker.what} that is searched takes {key!r}", mend=taker.mend)


@dataclass(frozen=True, slots=True)
class _Taker:
    """Whose settings those are that lie under `of`, and which of them somebody takes who is searched."""

    what: str
    of: Sequence[str]
    takes: Sequence[str]
    mend: str


def _under(key: str, above: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{one}.") for one in above)


def _takers(settings: Settings, among: Sequence[Dimension]) -> tuple[_Taker, ...]:
    model = settings.model
    recipes = _names(among, "model.recipe", model.recipe)
    balancers = [name for name in _names(among, "fit.balancer", settings.fit.balancer) if name in BALANCERS]
    own = MANY if any(one.key == "model.specific" for one in among) else model.specific
    options = [f"model.options.{name}" for recipe in recipes for name in taken(recipe)]
    sizes = [f"model.{name}" for recipe in recipes for name in SIZES - unsized(recipe, own)]
    weighed = [f"balance.{name}" for balancer in balancers for name in ("at", "scalar", *takes_of(balancer))]
    met = [f"model.interact_sizes.{key}" for one in _names(among, "model.interact", model.interact) for key in interact.READS[one]]
    read = [f"model.sequence_sizes.{key}" for one in _names(among, "model.sequence", model.sequence) for key in sequence.READS[one]]
    return (
        _Taker("recipe", ["model.options", *(f"model.{name}" for name in SIZES)], [*options, *sizes], f"they are {', '.join(recipes)}"),
        _Taker("balancer", ["balance"], weighed, "add one that does to 'fit.balancer'"),
        _Taker("interact", ["model.interact_sizes"], met, "add one that does to 'model.interact'"),
        _Taker("sequence", ["model.sequence_sizes"], read, "add one that does to 'model.sequence'"),
    )


def _names(among: Sequence[Dimension], key: str, otherwise: str | None) -> list[str]:
    found = next((one for one in among if one.key == key), None)
    names = [otherwise] if found is None else found.ends()
    return [str(name) for name in names if name is not None]

"""Settings that would change nothing, since nothing in the run reads them: they are refused, not passed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TypeVar

from umbel.chosen import choose
from umbel.coldstart.methods import METHODS
from umbel.errors import UserError, nearest
from umbel.nn import interact, sequence
from umbel.recipes import MANY, RECIPES, unsized
from umbel.run.comparing import CompareSection
from umbel.run.section import Section
from umbel.run.settings import FitSection, ModelSection, Settings

Held = TypeVar("Held", bound=Section)


@dataclass(frozen=True, slots=True)
class Unread:
    """A key, when something reads it, and why nothing does where that is not so; `{one}` in the reason are the settings."""

    key: str
    read: Callable[[Settings], bool]
    why: str
    mend: str = "leave it out"

    @property
    def default(self) -> object:
        """What it is where nobody says."""
        return attrgetter(self.key)(PLAIN)

    def idle(self, settings: Settings) -> bool:
        """Whether it is set, to anything but its default, and nothing reads it."""
        return bool(attrgetter(self.key)(settings) != self.default) and not self.read(settings)

    def refusal(self, settings: Settings, where: str = "") -> UserError:
        """The line that says so; `where` comes before the key."""
        return UserError(f"{where}{self.key}: {self.why.format(one=settings)}", mend=self.mend)


@dataclass(frozen=True, slots=True)
class _Plain:
    """The sections as they are where nobody says anything."""

    model: ModelSection = field(default_factory=lambda: ModelSection(recipe=""))
    fit: FitSection = field(default_factory=FitSection)
    compare: CompareSection = field(default_factory=CompareSection)


PLAIN = _Plain()


def _episodes(one: Settings) -> bool:
    return one.episodes is not None


def _rows(one: Settings) -> bool:
    return one.episodes is None


def _lists(one: Settings) -> bool:
    return any(field.kind in ("bag", "sequence") for field in one.fields.values())


def _recipe(key: str) -> Unread:
    return Unread(f"model.{key}", lambda one: key not in unsized(one.model.recipe, MANY), "recipe {one.model.recipe!r} has no use for it")


def _interact(key: str) -> Unread:
    why = "interact {one.model.interact!r} has no use for it"
    return Unread(f"model.interact_sizes.{key}", lambda one: key in interact.READS.get(one.model.interact, {key}), why)


def _sequence(key: str) -> Unread:
    why = "sequence {one.model.sequence!r} has no use for it"
    return Unread(f"model.sequence_sizes.{key}", lambda one: key in sequence.READS.get(one.model.sequence, {key}), why)


EITHER = "leave one of both out"
OF_MODELS = (
    *map(_recipe, ("specific", "shared", "gate")),
    Unread("model.gate", lambda one: "gate" not in unsized(one.model.recipe, one.model.specific),
           "a task of recipe {one.model.recipe!r} hears one expert, and needs none", "raise model.specific, or leave it out"),
    *map(_interact, ("layers", "rank", "hidden", "heads")),
    Unread("model.sequence", _lists, "no field is a bag or a sequence"),
    *map(_sequence, ("hidden", "layers", "heads")),
)
OF_RUNS = (
    Unread("fit.balancer", _rows, "[episodes] trains a copy of the model for each user, and compares no gradients of tasks", EITHER),
    Unread("fit.denominator", _rows, "rows of [episodes] are filled up, and those that do so would count", EITHER),
    Unread("fit.batch", _rows, "a step of [episodes] is of users", "set episodes.users instead"),
    Unread("fit.replay", _rows, "[episodes] draws from all rows of training users", EITHER),
    Unread("fit.replay", lambda one: one.fit.start is not None, "no bundle has seen rows before", "name it in fit.start, or leave it out"),
    Unread("compare.recipes", _rows, "with [episodes] methods are compared", "name compare.methods, or leave [episodes] out"),
    Unread("compare.variants", _rows, "with [episodes] methods are compared", "name compare.methods, or leave [episodes] out"),
    Unread("compare.methods", _episodes, "without [episodes] recipes are compared", "add the section, or name compare.recipes"),
    Unread("compare.against", _episodes, "without [episodes] recipes are compared", "add the section, or leave it out"),
)


def check_read(settings: Settings) -> None:
    """Refuse what is set and read by nothing, and names of a comparison that name nobody.

    :raises UserError: for the first such key.
    """
    _check_names(settings.compare)
    for rule in (*OF_RUNS, *OF_MODELS):
        if rule.idle(settings):
            raise rule.refusal(settings)


def as_read(settings: Settings) -> Settings:
    """The run without what its model does not read: where several models share a run file, what is meant for another of them."""
    for rule in OF_MODELS:
        if rule.idle(settings):
            settings = _put(settings, rule.key.split("."), rule.default)
    return settings


def _put(section: Held, path: Sequence[str], value: object) -> Held:
    key, *below = path
    return section.model_copy(update={key: _put(getattr(section, key), below, value) if below else value})


def _check_names(compare: CompareSection) -> None:
    """:raises UserError: for a recipe or method that does not exist, or one that others are held against and that takes no part."""
    for name in compare.recipes:
        if name not in RECIPES:
            raise UserError(f"compare.recipes: no {name!r}", mend=nearest(name, RECIPES))
    part = [choose("compare.methods", one, METHODS).name for one in compare.methods] or list(METHODS)
    for name in compare.against if compare.against != PLAIN.compare.against else ():
        if name not in part:
            raise UserError(f"compare.against: no {name!r} takes part", mend=nearest(name, part))

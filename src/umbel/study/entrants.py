"""Who takes part in a comparison: recipes, variants of the run file, width controls, boosted trees; and what each may choose from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from umbel.chosen import choose
from umbel.coldstart.methods import METHODS
from umbel.errors import UserError, nearest
from umbel.recipes import RECIPES, taken, views_of
from umbel.run import resolve
from umbel.run.coldstart import section_of
from umbel.run.comparing import Chosen
from umbel.run.settings import ModelSection, OptionSection, Settings
from umbel.run.unread import as_read
from umbel.study.variants import changed, check_names

# Who stands, with one shared view, for a recipe that cannot have one or is another then; every other recipe stands for itself.
CONTROLS = {
    "alone": "shared_bottom", "ame": "mmoe", "grouped": "mmoe", "me_mmoe": "mmoe", "me_ple": "ple", "stem": "ple", "stem_al": "ple",
    "stem_fields": "ple",
}  # fmt: skip
# Who takes part where nobody is named: the tables, from no sharing to the most; what stands beside them is asked for by name.
USUAL = ("alone", "shared_bottom", "omoe", "mmoe", "ple", "stem", "me_mmoe", "me_ple")
TREES = ("trees", "trees + target means")
APART = "alone"  # the separate models that others are held against


@dataclass(frozen=True, slots=True)
class Entrant:
    """One line of the comparison: a recipe, and how many times wider than asked its shared view is (1 unless a control).

    A `variant` is the run file changed as its name there says, recipe and all; a control is one `of` a variant where that has
    more than views of its own. `options` stand in place of the run file's.
    Separate models (`alone`) leave out the run file's views and head, by which tasks could still learn from each other.
    """

    name: str
    recipe: str
    wider: int = 1
    variant: bool = False
    options: OptionSection | None = None
    of: str = ""

    def grid(self, settings: Settings) -> tuple[Settings, ...]:
        """The settings it may choose among on validation: the same number for every entrant."""
        if self.variant or self.of:
            settings = changed(settings, self.of or self.name)
        compare, model, fit = settings.compare, settings.model, settings.fit
        pairs = itertools.product(dict.fromkeys(compare.rates or (fit.rate,)), dict.fromkeys(compare.dims or (model.dim,)))
        return tuple(self._with(settings, rate, dim) for rate, dim in pairs)

    def place(self, settings: Settings) -> str:
        """Where a run with these settings lies."""
        return f"{quote(self.name, safe=' ,+')}/{_numbers(settings)}"

    def _with(self, settings: Settings, rate: float, dim: int) -> Settings:
        asked = settings.model if self.options is None else settings.model.model_copy(update={"options": self.options})
        model = taken_by(self.recipe, asked)
        if self.recipe == APART and not self.variant:
            model = model.model_copy(update={"views": None, "head": "independent"})
        views = model.views if self.wider == 1 else None  # a control keeps its recipe's one view
        model = model.model_copy(update={"dim": dim * self.wider, "views": views})
        fit = settings.fit.model_copy(update={"rate": rate})
        return as_read(settings.model_copy(update={"model": model, "fit": fit}))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cold-start method that takes part, and its alternatives, one of which is chosen on validation users."""

    name: str
    choices: tuple[Chosen, ...]

    @property
    def recipe(self) -> str:
        """The method."""
        return self.name

    def grid(self, settings: Settings) -> tuple[Settings, ...]:
        """Its alternatives at every rate and width that all may choose from."""
        plain = Entrant(self.name, settings.model.recipe).grid(settings)
        section = section_of(settings)
        return tuple(one.model_copy(update={"episodes": section.model_copy(update={"method": choice})})
                     for choice in self.choices for one in plain)

    def place(self, settings: Settings) -> str:
        """Where a run with these settings lies."""
        chosen = section_of(settings).method
        told = [] if isinstance(chosen, str) else [f"{key}={value}" for key, value in chosen.items() if key != "name"]
        return f"{self.name}/{quote(' '.join([*told, _numbers(settings)]), safe=' =.,')}"


def candidates(settings: Settings) -> tuple[Candidate, ...]:
    """The methods that a run file compares, every one that exists where it names none; :raises UserError: for one that does not exist."""
    choices: dict[str, list[Chosen]] = {}
    for choice in settings.compare.methods or METHODS:
        method = choose("compare.methods", choice, METHODS)
        choices.setdefault(method.name, []).append(choice)
    return tuple(Candidate(name, tuple(own)) for name, own in choices.items())


def taken_by(recipe: str, model: ModelSection) -> ModelSection:
    """The section as that recipe takes it: in a comparison, what is meant for one recipe is not refused by another."""
    known = taken(recipe)
    options = model.options.model_copy(update={name: None for name in OptionSection.model_fields if name not in known})
    return model.model_copy(update={"recipe": recipe, "options": options, "views": model.views if "paradigm" in known else None})


def named(settings: Settings) -> tuple[str, ...]:
    """The recipes that take part as they are."""
    return tuple(dict.fromkeys(settings.compare.recipes)) or (() if settings.compare.variants else USUAL)


def entrants(settings: Settings) -> tuple[Entrant, ...]:
    """The recipes asked for (`USUAL` where nothing is), then the variants, then the control of each of them that keeps several views.

    :raises UserError: for a recipe that does not exist, or a variant that cannot be.
    """
    names = named(settings)
    for name in names:
        if name not in RECIPES:
            raise UserError(f"recipe: no {name!r}", mend=nearest(name, RECIPES))
    check_names(settings.compare, {**dict.fromkeys(RECIPES, "a recipe"), **dict.fromkeys(TREES, "boosted trees")})
    plain = [Entrant(name, name) for name in names]
    variants = [Entrant(name, changed(settings, name).model.recipe, variant=True) for name in settings.compare.variants]
    wide = set(controls((*plain, *variants), settings).values()) if settings.compare.controls else set()
    return (*plain, *variants, *sorted(wide, key=lambda one: (one.of, one.recipe, one.wider)))


def control(recipe: str, wider: int, of: str = "") -> Entrant:
    """A shared view as wide as so many views, with all else that a variant says, if it is `of` one."""
    return Entrant(f"{of}, {recipe} x{wider}" if of else f"{recipe} x{wider}", recipe, wider, of=of)


def controls(everyone: Iterable[Entrant], settings: Settings) -> dict[str, Entrant]:
    """The width control of each who keeps several views, by name: one and the same for those who would be trained alike with it."""
    found: dict[str, Entrant] = {}
    for one in everyone:
        views = kept(one.grid(settings)[0])
        if views > 1:
            recipe = CONTROLS.get(one.recipe, one.recipe)
            own = control(recipe, views, one.name if one.variant else "")
            alike = (other for other in (control(recipe, views), *found.values()) if other.grid(settings) == own.grid(settings))
            found[one.name] = next(alike, own)
    return found


def kept(settings: Settings) -> int:
    """How many views of a field that model keeps."""
    schema = resolve.schema(settings)
    return views_of(partial(resolve.built(settings, dict.fromkeys(schema.tables, 1)), schema))


def _numbers(settings: Settings) -> str:
    return f"rate={settings.fit.rate:g} dim={settings.model.dim} seed={settings.fit.seed}"


def seeded(settings: Settings, seed: int) -> Settings:
    """The same settings under another seed."""
    return settings.model_copy(update={"fit": settings.fit.model_copy(update={"seed": seed})})



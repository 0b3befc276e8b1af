"""Who takes part in a comparison: recipes, variants of the run file, width controls, boosted trees; and what each may choose from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from urllib.parse import quote

from umbel.chosen import choose
from umbel.coldstart.methods import METHODS
from umbel.errors import UserError, nearest
from umbel.recipes import RECIPES, taken
from umbel.run.coldstart import section_of
from umbel.run.comparing import Chosen
from umbel.run.settings import ModelSection, OptionSection, Settings
from umbel.study.variants import changed, check_names

# The shared-view recipe that stands for a recipe with several views when width alone is asked about.
CONTROLS = {"alone": "shared_bottom", "grouped": "mmoe", "me_mmoe": "mmoe", "me_ple": "ple", "stem": "ple", "stem_fields": "ple"}
# Who takes part where nobody is named: the tables, from no sharing to the most; what stands beside them is asked for by name.
USUAL = ("alone", "shared_bottom", "omoe", "mmoe", "ple", "stem", "me_mmoe", "me_ple")
TREES = ("trees", "trees + target means")
APART = "alone"  # the separate models that others are held against


@dataclass(frozen=True, slots=True)
class Entrant:
    """One line of the comparison: a recipe, and how many times wider than asked its shared view is (1 unless a control).

    A `variant` is the run file changed as its name there says, recipe and all. `options` stand in place of the run file's.
    Separate models (`alone`) leave out the run file's views and head, by which tasks could still learn from each other.
    """

    name: str
    recipe: str
    wider: int = 1
    variant: bool = False
    options: OptionSection | None = None

    def grid(self, settings: Settings) -> tuple[Settings, ...]:
        """The settings it may choose among on validation: the same number for every entrant."""
        if self.variant:
            settings = changed(settings, self.name)
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
        return settings.model_copy(update={"model": model, "fit": fit})


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


def entrants(settings: Settings, views: dict[str, int]) -> tuple[Entrant, ...]:
    """The recipes asked for (`USUAL` where nothing is), then the variants, then the control of each recipe that keeps several views.

    `views` says how many a recipe keeps: its control is a shared view of the same total width.

    :raises UserError: for a recipe that does not exist, or a variant that cannot be.
    """
    names = named(settings)
    for name in names:
        if name not in RECIPES:
            raise UserError(f"recipe: no {name!r}", mend=nearest(name, RECIPES))
    check_names(settings.compare, {**dict.fromkeys(RECIPES, "a recipe"), **dict.fromkeys(TREES, "boosted trees")})
    plain = [Entrant(name, name) for name in names]
    variants = [Entrant(name, changed(settings, name).model.recipe, variant=True) for name in settings.compare.variants]
    wide = {(CONTROLS[name], views[name]) for name in names if views[name] > 1 and name in CONTROLS} if settings.compare.controls else set()
    return (*plain, *variants, *(control(recipe, wider) for recipe, wider in sorted(wide)))


def control(recipe: str, wider: int) -> Entrant:
    """A shared view as wide as so many views."""
    return Entrant(f"{recipe} x{wider}", recipe, wider)


def _numbers(settings: Settings) -> str:
    return f"rate={settings.fit.rate:g} dim={settings.model.dim} seed={settings.fit.seed}"


def seeded(settings: Settings, seed: int) -> Settings:
    """The same settings under another seed."""
    return settings.model_copy(update={"fit": settings.fit.model_copy(update={"seed": seed})})



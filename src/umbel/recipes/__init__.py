"""The architectures by name: tables that say which expert may teach which task, and what stands beside them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import torch

from umbel.nn.recommender import Recommender
from umbel.recipes.beside import adatt, ame, cross_stitch, snr_aver, snr_trans
from umbel.recipes.chained import aitm, escm2, esmm
from umbel.recipes.gated import home, pepnet
from umbel.recipes.tables import alone, grouped, me_mmoe, me_ple, mmoe, omoe, ple, routed, shared_bottom, stem, stem_al, stem_fields

__all__ = [
    "MANY", "RECIPES", "SIZES", "adatt", "aitm", "alone", "ame", "cross_stitch", "escm2", "esmm", "grouped", "home", "me_mmoe", "me_ple",
    "mmoe", "omoe", "pepnet", "ple", "routed", "shared_bottom", "snr_aver", "snr_trans", "stem", "stem_al", "stem_fields", "taken",
    "unsized", "views_of",
]  # fmt: skip

RECIPES: Mapping[str, Callable[..., Recommender]] = {
    "alone": alone,
    "shared_bottom": shared_bottom,
    "omoe": omoe,
    "mmoe": mmoe,
    "ple": ple,
    "stem": stem,
    "stem_al": stem_al,
    "stem_fields": stem_fields,
    "grouped": grouped,
    "me_mmoe": me_mmoe,
    "me_ple": me_ple,
    "cross_stitch": cross_stitch,
    "snr_trans": snr_trans,
    "snr_aver": snr_aver,
    "adatt": adatt,
    "home": home,
    "pepnet": pepnet,
    "ame": ame,
    "esmm": esmm,
    "escm2": escm2,
    "aitm": aitm,
}

SIZES = frozenset({"specific", "shared", "gate"})  # that some recipes have no use for; every one has for `layers`
UNSIZED: Mapping[str, frozenset[str]] = {
    "alone": frozenset({"shared"}),
    "shared_bottom": SIZES,
    "cross_stitch": SIZES,
    "snr_trans": frozenset({"gate"}),
    "snr_aver": frozenset({"gate"}),
    "pepnet": frozenset({"specific", "shared"}),
    "esmm": frozenset({"shared"}),
    "escm2": frozenset({"shared"}),
    "aitm": frozenset({"shared"}),
}
APART = frozenset({"alone", "esmm", "escm2", "aitm"})  # gates weigh a task's own experts there, and one expert needs none
MANY = 2  # experts of a task from which on gates have a use in all these


def unsized(recipe: str, specific: int) -> frozenset[str]:
    """Which of `specific`, `shared` and `gate` a recipe has no use for, where a task has so many experts of its own.

    Example
    -------
    >>> sorted(unsized("alone", 1)), sorted(unsized("alone", 2)), sorted(unsized("mmoe", 1))
    (['gate', 'shared'], ['shared'], [])
    """
    return UNSIZED.get(recipe, frozenset()) | ({"gate"} if recipe in APART and specific == 1 else set())


def taken(recipe: str) -> frozenset[str]:
    """What a recipe takes beside schema, sizes and parts: `paradigm`, and options of its own.

    Example
    -------
    >>> sorted(taken("stem"))
    ['legacy', 'paradigm', 'taught']
    """
    return frozenset(inspect.signature(RECIPES[recipe]).parameters) - {"schema", "sizes", "parts"}


def views_of(make: Callable[[], Recommender]) -> int:
    """How many views a model keeps, without making its weights: a shared view of `dim * views_of(...)` is as wide in all.

    Example
    -------
    >>> from umbel.nn.recommender import Sizes
    >>> from umbel.schema import Field, FieldKind, Schema, Task
    >>> schema = Schema((Field("any", FieldKind.NUMBER),), (Task("a"), Task("b"), Task("c")))
    >>> views_of(lambda: stem(schema, Sizes({})))
    4
    """
    with torch.device("meta"):
        return make().views.views

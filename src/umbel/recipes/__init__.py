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
    "RECIPES", "adatt", "aitm", "alone", "ame", "cross_stitch", "escm2", "esmm", "grouped", "home", "me_mmoe", "me_ple", "mmoe", "omoe",
    "pepnet", "ple", "routed", "shared_bottom", "snr_aver", "snr_trans", "stem", "stem_al", "stem_fields", "taken", "views_of",
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

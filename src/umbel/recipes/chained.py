"""The published models of a chain of events: a network a task over one shared embedding, each with its own head."""

from __future__ import annotations

from dataclasses import replace

from umbel.nn.heads import MakeAitm, MakeEscm2Dr, MakeEsmm, MakeHead
from umbel.nn.heads.chain import chains
from umbel.nn.recommender import PLAIN, Parts, Recommender, Sizes
from umbel.nn.routing import Paradigm, one_view
from umbel.recipes.tables import alone
from umbel.schema import Schema


def esmm(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """ESMM (https://arxiv.org/abs/1804.07931): what follows a click is learned from all rows; see `umbel.nn.heads.esmm`.

    A task has `specific` experts of its own over one embedding that all share. Another head than the published one is taken if it is
    named; without a binary task that is given another there is no chain, and towers are independent.
    """
    return _chained(schema, sizes, MakeEsmm(), paradigm=paradigm, parts=parts)


def escm2(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """ESCM^2 (https://arxiv.org/abs/2204.05125), doubly robust: as `esmm`; see `umbel.nn.heads.escm2`."""
    return _chained(schema, sizes, MakeEscm2Dr(), paradigm=paradigm, parts=parts)


def aitm(schema: Schema, sizes: Sizes, *, paradigm: Paradigm = one_view, parts: Parts = PLAIN) -> Recommender:
    """AITM (https://arxiv.org/abs/2105.08489): as `esmm`, and each step hands on what it knows; see `umbel.nn.heads.aitm`."""
    return _chained(schema, sizes, MakeAitm(), paradigm=paradigm, parts=parts)


def _chained(schema: Schema, sizes: Sizes, head: MakeHead, *, paradigm: Paradigm, parts: Parts) -> Recommender:
    own = head if parts.head is None and chains(schema) else parts.head
    return alone(schema, sizes, paradigm=paradigm, parts=replace(parts, head=own))

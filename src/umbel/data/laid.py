"""A log that another engine lays out, row for row, so that only counting and encoding are left to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import polars as pl

from umbel.data.source import Source
from umbel.data.split import Split
from umbel.schema import Schema


@dataclass(frozen=True, slots=True)
class Laid:
    """Where the rows of a log lie, in its order, and what they stand for.

    `source` has no joins left and `schema` reads columns where the engine has computed the SQL; `like` has the columns, without rows,
    in the types that they have in the raw log (None: in those that they lie in).
    `asked` is the source as it was given, with its types, and `golden` its first raw rows, joined (None: told by reading).
    """

    source: Source
    schema: Schema
    like: pl.DataFrame | None = None
    asked: Source | None = None
    golden: pl.DataFrame | None = None


@runtime_checkable
class Lay(Protocol):
    """An engine that leaves the rows of a log in a folder that is not there yet."""

    def __call__(self, source: Source, schema: Schema, split: Split, *, folder: Path) -> Laid:
        """:raises UserError: for what the local path refuses, or the engine does not do alike."""
        ...


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A source that an engine lays out."""

    source: Source
    lay: Lay

    def laid(self, schema: Schema, split: Split, folder: Path) -> Laid:
        """The log, laid out in a folder."""
        return self.lay(self.source, schema, split, folder=folder)

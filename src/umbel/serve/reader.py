"""Predictions of a bundle for the items of one request: what they share is read once, and items met before are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import final

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.bundle import Bundle
from umbel.data.derive import field_values
from umbel.data.vocab import Encoded
from umbel.learn.ladder import UserState, beyond
from umbel.learn.predict import lowered
from umbel.nn.apart import Apart
from umbel.serve.records import Decision, Shown, Value
from umbel.serve.series import Typed, column_types

ROOM = 16_384    # items that a cut remembers
PART = 4         # one in so many of them are forgotten at a time, so that it is seldom done
CUTS = 8         # ways to cut the columns that are remembered
SAID = 32 << 20  # bytes of values of shared fields, and of what was read of them, that a cut remembers
ENTRY = 800      # of them, that a value takes beside its text and its numbers

Raw = Mapping[str, Value]
Key = tuple[object, ...]


@final
class Reader:
    """Raw fields in, calibrated predictions out, those of `Bundle.score` but for rounding.

    A column that stands in any item is the items'; of an item without it, it is missing. All other columns are shared, and
    missing where they are not given. Columns that the model does not read are left alone.

    Example
    -------
    ``Reader(bundle).predict({"user": "u1", "hour": 12}, [{"item": "i1"}, {"item": "i2"}])``
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        schema, source = bundle.schema, bundle.source
        self.reads = {field.name: frozenset(name for one in field_values(schema, field) for name in one.reads) for field in schema.fields}
        self.columns = frozenset().union(*self.reads.values())
        self._typed = Typed(column_types(source), [name for name in (source.user, source.item) if name is not None])
        self._cuts: dict[frozenset[str], _Cut] = {}

    def predict(self, shared: Raw, items: Sequence[Raw], state: UserState | None = None) -> Float[np.ndarray, "items columns"]:
        """Predictions, in the bundle's `columns`, by the `state` of the one user who is shared, if it is given.

        :raises UserError: for a value that is not what its column was in training.
        """
        owned = self.columns & names(items)
        cut = self._cuts.get(owned)
        if cut is None:
            if len(self._cuts) >= CUTS:
                self._cuts.pop(next(iter(self._cuts)))
            cut = self._cuts[owned] = _Cut(self.bundle, self.reads, owned, typed=self._typed)
        logits = cut.logits(shared, items, state)
        return self.bundle.calibrated(lowered(self.bundle.schema, logits))

    def frame(self, rows: Sequence[Raw]) -> pl.DataFrame:
        """Whole rows as raw columns, every one that the model reads; :raises UserError: as `predict` does."""
        return self._typed.frame({name: [row.get(name) for row in rows] for name in sorted(self.columns)})

    def whose(self, items: Iterable[Raw]) -> bool:
        """Whether items say themselves whose they are, so that they are not one user's."""
        return self.bundle.source.user in names(items)

    def ignored(self, given: Iterable[Raw]) -> list[str]:
        """The columns among some fields that the model does not read."""
        return sorted(names(given) - self.columns)

    def missing(self, shared: Raw, items: Sequence[Raw]) -> list[str]:
        """The columns that the model reads and that stand neither among the shared ones nor in any item."""
        return sorted(name for name in self.columns - shared.keys() if not any(name in one for one in items))


@final
class _Cut:
    """A bundle whose columns are cut into the items' own and the shared: fields of either, and those that read both."""

    def __init__(self, bundle: Bundle, reads: Mapping[str, frozenset[str]], owned: frozenset[str], *, typed: Typed) -> None:
        self._encoder, self._typed, self._ladder = bundle.encoder, typed, bundle.ladder
        self._own = [name for name, columns in reads.items() if columns and columns <= owned]
        self._once = [name for name, columns in reads.items() if not columns & owned]
        self._rest = [name for name in reads if name not in (*self._own, *self._once)]
        self._owned = sorted(owned)
        self._columns = {name: sorted(reads[name]) for name in self._once}
        every = {name: columns - owned for name, columns in reads.items()}
        self._shared = sorted(frozenset().union(*every.values())) or self._owned[:1]  # a frame without columns would have no row
        self._mixed = sorted(frozenset().union(*(every[name] for name in self._rest)))
        self._loose = [name for name in self._owned if not typed.knows(name)]
        self._plain = itemgetter(*self._owned) if len(self._owned) > 1 and not self._loose else None
        self._model, self._apart = bundle.model, Apart(bundle.model, once=self._once, own=self._own)
        self._numbers: dict[Key, int] = {}
        self._said: dict[Key, Tensor] = {}
        self._held = 0  # bytes of those

    def logits(self, shared: Raw, items: Sequence[Raw], state: UserState | None) -> Float[np.ndarray, "items outputs"]:
        """The model's logits for each item, or the user's own, by the state."""
        numbers = self._find(items)
        rest: dict[str, Tensor] = {}
        if self._rest:
            common = self._typed.frame({name: [shared.get(name)] for name in self._mixed})
            own = self._typed.frame({name: [item.get(name) for item in items] for name in self._owned})
            both = own.hstack([common[name].new_from_index(0, own.height) for name in self._mixed])
            rest = self._tensors(self._encoder.some(both, self._rest))
        asked: Mapping[str, Tensor] = self._common(shared)
        if state is not None and self._ladder is not None:
            asked = self._ladder.read(asked, state)
        above = None if state is None or state.shared else partial(beyond, self._model, state=state)
        found: Float[np.ndarray, "items outputs"] = self._apart.logits(numbers, asked, rest, beyond=above).float().numpy()
        return found

    def _common(self, shared: Raw) -> dict[str, Tensor]:
        """What all items have in common, a row a field; a field whose columns have said the same before is not read again."""
        keys = {name: self._heard(name, shared) for name in self._once}
        new = [name for name, key in keys.items() if key not in self._said]
        if new and self._held > SAID:
            self._said.clear()
            self._held, new = 0, self._once
        if new:
            columns = dict.fromkeys(column for name in new for column in self._columns[name]) or dict.fromkeys(self._shared)
            frame = self._typed.frame({column: [shared.get(column)] for column in columns})
            for name, one in self._tensors(self._encoder.some(frame, new)).items():
                self._said[keys[name]] = one
                self._held += ENTRY + one.nbytes + _characters(keys[name])
        return {name: self._said[key] for name, key in keys.items()}

    def _heard(self, name: str, shared: Raw) -> Key:
        values = [shared.get(column) for column in self._columns[name]]
        return (name, *[(repr(value),) if isinstance(value, list) else value for value in values], *map(type, values))

    def _find(self, items: Sequence[Raw]) -> Int[Tensor, "items"]:
        """The number of each item among those remembered; new ones are remembered first."""
        keys = self._keys(items)
        found = list(map(self._numbers.get, keys))
        if self._own and None in found:
            self._remember(keys, items)
            found = list(map(self._numbers.get, keys))
        return torch.tensor([0] * len(keys) if not self._own else found)

    def _keys(self, items: Sequence[Raw]) -> list[Key]:
        """What items are remembered by; where all have single values for all columns, Python's own loop is ten times as fast."""
        if self._plain is not None:
            try:
                keys = list(map(self._plain, items))
                hash(tuple(keys))
                return keys
            except (KeyError, TypeError):  # one has not all columns, or a list
                pass
        return [self._key(item) for item in items]

    def _remember(self, keys: Sequence[Key], items: Sequence[Raw]) -> None:
        new = self._new(keys, items)
        if self._apart.kept + len(new) > ROOM:
            self._forget(len(set(keys)))
            new = self._new(keys, items)
        frame = self._typed.frame({name: [item.get(name) for item in new.values()] for name in self._owned})
        numbers = self._apart.keep(self._tensors(self._encoder.some(frame, self._own)))
        self._numbers.update(zip(new, numbers.tolist(), strict=True))

    def _new(self, keys: Sequence[Key], items: Sequence[Raw]) -> dict[Key, Raw]:
        return {key: item for key, item in zip(keys, items, strict=True) if key not in self._numbers}

    def _forget(self, asked: int) -> None:
        """Make room for so many items: those that came first go, also of the ones that are asked for, which are then new again."""
        kept = self._apart.kept
        gone = kept - max(0, min(kept - kept // PART, ROOM - asked))
        self._apart.forget(gone)
        self._numbers = {key: number - gone for key, number in self._numbers.items() if number >= gone}

    def _key(self, item: Raw) -> Key:
        """What an item is remembered by: all that the model reads of it."""
        key: list[object] = [(repr(value),) if isinstance(value := item.get(name), list) else value for name in self._owned]
        return (*key, *[type(item.get(name)) for name in self._loose])

    def _tensors(self, found: Mapping[str, Encoded]) -> dict[str, Tensor]:
        schema = self._encoder.schema
        flat = {name: not (schema.field(name).many or schema.field(name).wide) for name in found}
        return {name: torch.from_numpy(one[:, 0] if flat[name] else one) for name, one in found.items()}


def _characters(key: Key) -> int:
    """Those of all texts that a key holds: a list in it is a tuple of one."""
    return sum(len(one[0]) if isinstance(one, tuple) else len(one) if isinstance(one, str) else 0 for one in key)


def names(given: Iterable[Raw]) -> frozenset[str]:
    """All the keys of some fields, of which most have the same ones."""
    return frozenset().union(*set(map(tuple, given)))


def logged_rows(decision: Decision, items: Iterable[Shown]) -> list[Raw]:
    """The raw row of each of the items shown, as the model was given it: a column that stands in any of them is the items' own."""
    owned = names(one.fields for one in decision.shown)
    shared = {name: value for name, value in decision.fields.items() if name not in owned}
    return [{**shared, **one.fields} for one in items]

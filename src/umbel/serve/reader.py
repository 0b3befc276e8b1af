"""Predictions of a bundle for the items of one request: what they share is read once, and items met before are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.bundle import Bundle
from umbel.data.derive import field_values
from umbel.data.vocab import Encoded
from umbel.learn.predict import lowered
from umbel.nn.apart import Apart
from umbel.serve.records import Value
from umbel.serve.series import Typed, column_types

ROOM = 16_384  # items that a cut remembers
CUTS = 8       # ways to cut the columns that are remembered

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

    def predict(self, shared: Raw, items: Sequence[Raw]) -> Float[np.ndarray, "items columns"]:
        """Predictions, in the bundle's `columns`; :raises UserError: for a value that is not what its column was in training."""
        owned = self.columns & frozenset().union(*items)
        cut = self._cuts.get(owned)
        if cut is None:
            if len(self._cuts) >= CUTS:
                self._cuts.pop(next(iter(self._cuts)))
            cut = self._cuts[owned] = _Cut(self.bundle, self.reads, owned, typed=self._typed)
        logits = cut.logits(shared, items)
        return self.bundle.calibrated(lowered(self.bundle.schema, logits))

    def ignored(self, given: Iterable[Raw]) -> list[str]:
        """The columns among some fields that the model does not read."""
        return sorted(frozenset().union(*given) - self.columns)


@final
class _Cut:
    """A bundle whose columns are cut into the items' own and the shared: fields of either, and those that read both."""

    def __init__(self, bundle: Bundle, reads: Mapping[str, frozenset[str]], owned: frozenset[str], *, typed: Typed) -> None:
        self._encoder, self._typed = bundle.encoder, typed
        self._own = [name for name, columns in reads.items() if columns and columns <= owned]
        self._once = [name for name, columns in reads.items() if not columns & owned]
        self._rest = [name for name in reads if name not in (*self._own, *self._once)]
        self._owned = sorted(owned)
        every = {name: columns - owned for name, columns in reads.items()}
        self._shared = sorted(frozenset().union(*every.values())) or self._owned[:1]  # a frame without columns would have no row
        self._mixed = sorted(frozenset().union(*(every[name] for name in self._rest)))
        self._loose = [name for name in self._owned if not typed.knows(name)]
        self._apart = Apart(bundle.model, once=self._once, own=self._own)
        self._numbers: dict[Key, int] = {}

    def logits(self, shared: Raw, items: Sequence[Raw]) -> Float[np.ndarray, "items outputs"]:
        """The model's logits for each item."""
        common = self._typed.frame({name: [shared.get(name)] for name in self._shared})
        numbers = self._find(items)
        rest: dict[str, Tensor] = {}
        if self._rest:
            own = self._typed.frame({name: [item.get(name) for item in items] for name in self._owned})
            both = own.hstack([common[name].new_from_index(0, own.height) for name in self._mixed])
            rest = self._tensors(self._encoder.some(both, self._rest))
        once = self._tensors(self._encoder.some(common, self._once))
        found: Float[np.ndarray, "items outputs"] = self._apart.logits(numbers, once, rest).float().numpy()
        return found

    def _find(self, items: Sequence[Raw]) -> Int[Tensor, "items"]:
        """The number of each item among those remembered; new ones are remembered first, all others forgotten if there is no room."""
        keys = [self._key(item) for item in items]
        found = [self._numbers.get(key, -1) for key in keys]
        if self._own and min(found) < 0:
            self._remember(keys, items)
            found = [self._numbers[key] for key in keys]
        return torch.tensor(found).clamp_(min=0)

    def _remember(self, keys: Sequence[Key], items: Sequence[Raw]) -> None:
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in self._numbers}
        if self._apart.kept + len(new) > max(ROOM, len(set(keys))):
            self._apart.forget()
            self._numbers.clear()
            new = dict(zip(keys, items, strict=True))
        frame = self._typed.frame({name: [item.get(name) for item in new.values()] for name in self._owned})
        numbers = self._apart.keep(self._tensors(self._encoder.some(frame, self._own)))
        self._numbers.update(zip(new, numbers.tolist(), strict=True))

    def _key(self, item: Raw) -> Key:
        """What an item is remembered by: all that the model reads of it."""
        key: list[object] = [(repr(value),) if isinstance(value := item.get(name), list) else value for name in self._owned]
        return (*key, *[type(item.get(name)) for name in self._loose])

    def _tensors(self, found: Mapping[str, Encoded]) -> dict[str, Tensor]:
        schema = self._encoder.schema
        flat = {name: not (schema.field(name).many or schema.field(name).wide) for name in found}
        return {name: torch.from_numpy(one[:, 0] if flat[name] else one) for name, one in found.items()}


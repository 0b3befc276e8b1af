"""Methods that train nothing: what is known of an item, and of the user by a handful of labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

from umbel.coldstart.method import Method, Prepared, Setup
from umbel.coldstart.prior import ItemMeans
from umbel.learn.episode import Adapter
from umbel.learn.offset import SHRINK, Centred, PriorAlone


@final
@dataclass(frozen=True, slots=True)
class Popularity(Method):
    """`popularity`: an item's shrunk mean label among training rows, the same for every user; the mean of all for a new item."""

    name: ClassVar[str] = "popularity"

    def prepare(self, setup: Setup) -> Prepared:
        """The item means."""
        return _untrained(setup, PriorAlone())


@final
@dataclass(frozen=True, slots=True)
class Bias(Method):
    """`bias`: an item's shrunk mean label plus the user's shrunk mean residual, `m_i + sum (y - m) / (n + shrink)`.

    Of an event both are log-odds (`umbel.learn.offset`). The plainest of recommenders, and on MovieLens-1M ahead of several
    meta-learned ones: every comparison holds it.
    """

    name: ClassVar[str] = "bias"
    shrink: float = SHRINK

    def prepare(self, setup: Setup) -> Prepared:
        """Item means and the user's offset."""
        return _untrained(setup, Centred(PriorAlone(), shrink=self.shrink))


def _untrained(setup: Setup, adapter: Adapter) -> Prepared:
    """Item means always, whether or not other methods of the run start from them."""
    reader = replace(setup.reader, means=ItemMeans.of(setup.reader.table))
    return Prepared(setup.new_user(setup.build(setup.schema), adapter), None, reader.batch)

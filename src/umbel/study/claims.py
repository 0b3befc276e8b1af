"""What a demonstration may claim: rules from differences with intervals to sentences that hold or do not."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.evaluate.intervals import Interval

MARGIN = 0.005  # AUC; the design's .002 asks for more rows than a demonstration has time for


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference of mean AUC over tasks: its mean over seeds with the interval over users, and each seed's."""

    mean: Interval
    seeds: tuple[float, ...]

    @property
    def above(self) -> bool:
        """Whether it is more than noise, and above 0 in every seed."""
        return self.mean.low is not None and self.mean.low > 0 and min(self.seeds) > 0

    def within(self, margin: float) -> bool:
        """Whether it is not below -margin."""
        return self.mean.low is not None and self.mean.low > -margin

    def __str__(self) -> str:
        bounds = "" if self.mean.low is None or self.mean.high is None else f" ({self.mean.low:+.4f} to {self.mean.high:+.4f})"
        return f"{self.mean.value:+.4f}{bounds}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence with its figures, and whether it was found to hold."""

    says: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """The differences that a log of conflicting tasks is judged by.

    `lost` is separate models minus one narrow shared view, `regained` STEM minus that view, `left` STEM minus
    separate models, `width` STEM minus the best shared view of STEM's total width, `widened` that view minus the narrow one.
    """

    lost: Gap
    regained: Gap
    left: Gap
    width: Gap
    widened: Gap


@dataclass(frozen=True, slots=True)
class Agreement:
    """The differences that a log of agreeing tasks is judged by.

    `gained` is one shared view minus separate models, `kept` STEM minus that view.
    """

    gained: Gap
    kept: Gap


def conflict_claims(found: Conflict, *, margin: float = MARGIN) -> tuple[Claim, ...]:
    """The paper's message in three sentences, each with its own verdict.

    1. A narrow shared view loses: `lost` is above 0.
    2. Views of one's own win it back: `regained` is above 0 and `left` not below -margin.
    3. It was not capacity: `width` is above 0. If it is not, the sentence says that it was.
    """
    lost = _said(f"separate models against one shared view: {found.lost}", found.lost.above, yes="sharing loses", no="no loss was found")
    back = found.regained.above and found.left.within(margin)
    figures = f"stem against the shared view: {found.regained}, against separate models: {found.left}, margin {margin:g}"
    regained = _said(figures, back, yes="views of one's own win it back", no="it was not won back")
    return lost, regained, _width_claim(found)


def agreement_claims(found: Agreement, *, margin: float = MARGIN) -> tuple[Claim, ...]:
    """Sharing helps where tasks agree, and STEM keeps it: `gained` is above 0, `kept` not below -margin."""
    figures = f"one shared view against separate models: {found.gained}"
    gained = _said(figures, found.gained.above, yes="sharing helps", no="no gain was found")
    figures = f"stem against the shared view: {found.kept}, margin {margin:g}"
    return gained, _said(figures, found.kept.within(margin), yes="stem keeps the gain", no="stem does not keep the gain")


def _width_claim(found: Conflict) -> Claim:
    figures = f"stem against the best shared view of its total width: {found.width}"
    if not found.width.above:
        return Claim(f"it was capacity, not the views: {figures}", holds=False)
    whole, by_width = found.regained.mean.value, found.widened.mean.value
    if whole > 0 and by_width > 0:
        figures += f"; of the {whole:.4f} won back, width alone wins {by_width:.4f}"
    return Claim(f"it was not capacity alone: {figures}", holds=True)


def _said(figures: str, holds: bool, *, yes: str, no: str) -> Claim:
    return Claim(f"{yes if holds else no}: {figures}", holds)

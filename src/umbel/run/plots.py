"""Pictures as inline SVG: training curves, reliability diagrams, whiskers; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from umbel.evaluate.figures import Point
from umbel.evaluate.intervals import Interval

WIDTH, HEIGHT = 300, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 30
Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: which stretch of numbers it shows and its caption; logarithmic or not, ticks on whole numbers only or not."""

    low: float
    high: float
    name: str
    log: bool = False
    whole: bool = False

    def at(self, value: float) -> float:
        """Where a value stands: 0 at the low end, 1 at the high end; values beyond are drawn at the end."""
        low, high, here = (math.log10(max(x, 1e-12)) if self.log else x for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / (high - low)))

    def ticks(self) -> list[float]:
        """A few round numbers inside the axis."""
        if self.log:
            return self._powers()
        rough = (self.high - self.low) / 5
        unit = max(10.0 ** math.floor(math.log10(rough)), 1.0 if self.whole else 0.0)
        factors = (1, 2, 5, 10) if self.whole else (1, 2, 2.5, 5, 10)
        step = next(unit * factor for factor in factors if unit * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * place for place in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _powers(self) -> list[float]:
        """Powers of ten; multiples between them too where those alone would be fewer than three."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            found = [factor * 10.0**power for power in powers for factor in factors if self.low <= factor * 10.0**power <= self.high]
            if len(found) >= 3:
                break
        return found


def curves(values: Sequence[float | None], *, name: str, colour: int, best: int | None = None, reading: str = "lower is better") -> str:
    """One number an epoch as a line; the epoch whose weights were kept is ringed."""
    known = [(epoch, value) for epoch, value in enumerate(values, start=1) if value is not None]
    if not known:
        return '<p class="mute">no epoch</p>'
    low, high = min(value for _, value in known), max(value for _, value in known)
    room = (high - low) * 0.08 or max(abs(high), 1e-9) * 0.05
    x, y = Axis(1.0, float(max(2, len(values))), "epoch", whole=True), Axis(low - room, high + room, name)
    places = [_place(x, y, epoch, value) for epoch, value in known]
    line = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    dots = [_epoch(place, epoch, value, colour, kept=epoch == best) for place, (epoch, value) in zip(places, known, strict=True)]
    drawn = f'<polyline points="{line}" fill="none" stroke="var(--c{colour})" stroke-width="2" stroke-linejoin="round"/>{"".join(dots)}'
    return _frame(x, y, drawn, f"{name} by epoch, {reading}")


def reliability(points: Sequence[Point], *, name: str, colour: int) -> str:
    """Mean prediction against mean label, a dot a bin; on the dashed line the model means what it says.

    Axes are logarithmic where the bins span more than a factor of 20 and hold no label mean of 0 but the lowest.
    """
    if not points:
        return '<p class="mute">no row</p>'
    values = [value for point in points for value in (point.predicted, point.observed)]
    low, high, positive = min(values), max(values), [value for value in values if value > 0]
    log = low >= 0 and bool(positive) and high > 20 * min(point.predicted for point in points) > 0
    start = min(positive) / 1.4 if log else min(low, 0.0) if low > -1e-9 else low - (high - low) * 0.05
    x, y = (Axis(start, _end(high, start, log=log), caption, log) for caption in ("predicted", "observed"))
    left, bottom, right, top = *_place(x, y, x.low, y.low), *_place(x, y, x.high, y.high)
    dots = [_dot(x, y, point, colour) for point in points]
    diagonal = f'<line class="guide" x1="{left}" y1="{bottom}" x2="{right}" y2="{top}"/>'
    return _frame(x, y, diagonal + "".join(dots), f"{name}: observed against predicted, {len(points)} bins of equal mass")


def whisker(measured: Interval, *, low: float, high: float, colour: int = 0, guide: float | None = None) -> str:
    """A small interval on a scale that the whole table shares; `guide` is marked across it."""
    if not high > low:
        return ""
    x = Axis(low, high, "")
    ends = measured.low if measured.low is not None else measured.value, measured.high if measured.high is not None else measured.value
    left, right, middle, across = (4 + 102 * x.at(value) for value in (*ends, measured.value, low if guide is None else guide))
    mark = "" if guide is None else f'<line class="guide" x1="{across:.1f}" x2="{across:.1f}" y1="0" y2="16"/>'
    line = f'<line x1="{left:.1f}" x2="{right:.1f}" y1="8" y2="8" stroke="var(--c{colour})" stroke-width="2.5" stroke-linecap="round"/>'
    dot = f'<circle cx="{middle:.1f}" cy="8" r="3.6" fill="var(--c{colour})"/>'
    return f'<svg class="whisker" viewBox="0 0 110 16" aria-hidden="true">{mark}{line}{dot}</svg>'


def _end(high: float, start: float, *, log: bool) -> float:
    if log:
        return min(high * 1.4, max(1.0, high))
    return high + (high - start) * 0.06 if high > start else start + 1.0


def _epoch(place: tuple[float, float], epoch: int, value: float, colour: int, *, kept: bool) -> str:
    radius, fill, note = (4.5, "var(--card)", " (kept)") if kept else (2, f"var(--c{colour})", "")
    shape = f'cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius}" fill="{fill}" stroke="var(--c{colour})" stroke-width="2"'
    return f"<circle {shape}><title>epoch {epoch}: {value:.5f}{note}</title></circle>"


def _dot(x: Axis, y: Axis, point: Point, colour: int) -> str:
    left, top = _place(x, y, point.predicted, point.observed)
    title = f"predicted {point.predicted:.5f}, observed {point.observed:.5f}, {point.rows:,} rows"
    return f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4" fill="var(--c{colour})" fill-opacity=".8"><title>{title}</title></circle>'


def _place(x: Axis, y: Axis, across: float, up: float) -> tuple[float, float]:
    return _LEFT + x.at(across) * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - y.at(up) * (HEIGHT - _TOP - _BOTTOM)


def _frame(x: Axis, y: Axis, drawn: str, title: str) -> str:
    """Axes with ticks and captions around what is drawn."""
    parts = []
    for value in y.ticks():
        _, top = _place(x, y, x.low, value)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{top + 3.5:.1f}" text-anchor="end">{_label(value)}</text>')
    for value in x.ticks():
        left, _ = _place(x, y, value, y.low)
        parts.append(f'<text x="{left:.1f}" y="{HEIGHT - _BOTTOM + 13}" text-anchor="middle">{_label(value)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{HEIGHT - _BOTTOM}" y2="{HEIGHT - _BOTTOM}"/>')
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x.name)}</text>')
    named = f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" {named}{"".join(parts)}{drawn}</svg>'


def _label(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}".replace("e-0", "e-")

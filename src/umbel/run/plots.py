"""Pictures as inline SVG: training curves, reliability diagrams, whiskers; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from umbel.evaluate.figures import Point
from umbel.evaluate.intervals import Interval

WIDTH, HEIGHT = 300, 190
BROAD = (480, 300)
COLOURS, SHAPES = 6, 3
_TINY = 1e-12
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 30


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: which stretch of numbers it shows and its caption; logarithmic or not, ticks on whole numbers only or not.

    With `places` it shows those, named, at 0, 1, 2 and so on instead.
    """

    low: float
    high: float
    name: str
    log: bool = False
    whole: bool = False
    places: Sequence[str] = ()

    def at(self, value: float) -> float:
        """Where a value stands: 0 at the low end, 1 at the high end; values beyond are drawn at the end."""
        low, high, here = (math.log10(max(x, _TINY)) if self.log else x for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (here - low) / (high - low)))

    def ticks(self) -> list[float]:
        """A few round numbers inside the axis, or every place."""
        if self.places:
            return [*map(float, range(len(self.places)))]
        if self.log:
            return self._powers()
        rough = (self.high - self.low) / 5
        unit = max(10.0 ** math.floor(math.log10(rough)), 1.0 if self.whole else 0.0)
        factors = (1, 2, 5, 10) if self.whole else (1, 2, 2.5, 5, 10)
        step = next(unit * factor for factor in factors if unit * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * place for place in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def label(self, tick: float) -> str:
        """What stands at a tick."""
        return self.places[int(tick)] if self.places else _label(tick)

    def _powers(self) -> list[float]:
        """Powers of ten; multiples between them too where those alone would be fewer than three."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            found = [factor * 10.0**power for power in powers for factor in factors if self.low <= factor * 10.0**power <= self.high]
            if len(found) >= 3:
                break
        return found


@dataclass(frozen=True, slots=True)
class Frame:
    """Two axes and the room between them, in a picture of some width and height."""

    x: Axis
    y: Axis
    size: tuple[int, int] = (WIDTH, HEIGHT)

    def place(self, across: float, up: float) -> tuple[float, float]:
        """Where a point stands in the picture, from its left and top."""
        width, height = self.size
        return _LEFT + self.x.at(across) * (width - _LEFT - _RIGHT), height - _BOTTOM - self.y.at(up) * (height - _TOP - _BOTTOM)

    def picture(self, drawn: str, title: str, *, kind: str = "") -> str:
        """The whole picture: ticks, captions, and what is drawn on top of them; `kind` is its class in the style sheet."""
        width, height = self.size
        foot = height - _BOTTOM
        parts = [self._level(value) for value in self.y.ticks()]
        for value in self.x.ticks():
            left, _ = self.place(value, self.y.low)
            parts.append(f'<text x="{left:.1f}" y="{foot + 13}" text-anchor="middle">{escape(self.x.label(value))}</text>')
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{foot}" y2="{foot}"/>')
        parts.append(f'<text x="{width - _RIGHT}" y="{height - 3}" text-anchor="end">{escape(self.x.name)}</text>')
        drawn_as = f'class="{kind}" ' if kind else ""
        named = f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        return f'<svg {drawn_as}viewBox="0 0 {width} {height}" {named}{"".join(parts)}{drawn}</svg>'

    def _level(self, value: float) -> str:
        _, top = self.place(self.x.low, value)
        line = f'<line class="axis" x1="{_LEFT}" x2="{self.size[0] - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>'
        return f'{line}<text x="{_LEFT - 5}" y="{top + 3.5:.1f}" text-anchor="end">{self.y.label(value)}</text>'


def curves(values: Sequence[float | None], *, name: str, colour: int, best: int | None = None, reading: str = "lower is better") -> str:
    """One number an epoch as a line; the epoch whose weights were kept is ringed."""
    known = [(epoch, value) for epoch, value in enumerate(values, start=1) if value is not None]
    if not known:
        return '<p class="mute">no epoch</p>'
    low, high = min(value for _, value in known), max(value for _, value in known)
    room = max((high - low) * 0.08, max(abs(high), abs(low), _TINY) * 1e-6) if high > low else max(abs(high), 1e-9) * 0.05
    frame = Frame(Axis(1, max(2, len(values)), "epoch", whole=True), Axis(low - room, high + room, name))
    places = [frame.place(epoch, value) for epoch, value in known]
    line = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    dots = []
    for (left, top), (epoch, value) in zip(places, known, strict=True):
        radius, fill, note = (4.5, "var(--card)", " (kept)") if epoch == best else (2, f"var(--c{colour})", "")
        shape = f'cx="{left:.1f}" cy="{top:.1f}" r="{radius}" fill="{fill}" stroke="var(--c{colour})" stroke-width="2"'
        dots.append(f"<circle {shape}><title>epoch {epoch}: {value:.5f}{note}</title></circle>")
    drawn = f'<polyline points="{line}" fill="none" stroke="var(--c{colour})" stroke-width="2" stroke-linejoin="round"/>{"".join(dots)}'
    return frame.picture(drawn, f"{name} by epoch, {reading}")


@dataclass(frozen=True, slots=True)
class Line:
    """Figures against a number, by rising number."""

    name: str
    points: Sequence[tuple[float, Interval]]


def grown(lines: Sequence[Line], *, name: str, across: str) -> str:
    """Figures against a number: lines through the values, each with a band between its bounds; those after the first are dashed."""
    points = [point for line in lines for point in line.points]
    if not points:
        return '<p class="mute">no figure</p>'
    ends = min(at for at, _ in points), max(at for at, _ in points)
    frame = Frame(Axis(ends[0], max(ends[1], ends[0] + 1), across, whole=True), _upright(lines, name))
    return frame.picture("".join(_line(frame, line, colour) for colour, line in enumerate(lines)), f"{name} by {across}")


def key(lines: Sequence[Line]) -> str:
    """Which line is which; nothing for a single one."""
    marks = ["─", *["╌"] * len(lines)]
    named = [f'<span style="color:var(--c{colour})">{marks[colour]} {escape(line.name)}</span>' for colour, line in enumerate(lines)]
    return f"<p>{' '.join(named)}</p>" if len(lines) > 1 else ""


def _across(frame: Frame, value: float) -> str:
    (left, top), (right, _) = frame.place(frame.x.low, value), frame.place(frame.x.high, value)
    return f'<line class="guide" x1="{left:.1f}" x2="{right:.1f}" y1="{top:.1f}" y2="{top:.1f}"/>'


def _upright(lines: Sequence[Line], name: str, beside: Sequence[float] = ()) -> Axis:
    """An axis that holds all figures and their bounds, and numbers beside them."""
    figures = [one for line in lines for _, one in line.points]
    values = [*beside, *(value for one in figures for value in (one.value, one.low, one.high) if value is not None)]
    room = max((max(values) - min(values)) * 0.08, abs(max(values)) * 1e-3, _TINY)
    return Axis(min(values) - room, max(values) + room, name)


def _line(frame: Frame, line: Line, colour: int) -> str:
    """The band, the line, and a dot a figure that says it in words."""
    bound = [(at, one.low, one.high) for at, one in line.points if one.low is not None and one.high is not None]
    round_ = [*((at, high) for at, _, high in bound), *((at, low) for at, low, _ in reversed(bound))]
    parts = [f'<polygon points="{_path(frame, round_)}" fill="var(--c{colour})" fill-opacity=".13"/>'] if len(bound) > 1 else []
    dashes = ' stroke-dasharray="5 3"' if colour else ""
    path = _path(frame, [(at, one.value) for at, one in line.points])
    parts.append(f'<polyline points="{path}" fill="none" stroke="var(--c{colour})" stroke-width="2"{dashes}/>')
    for at, one in line.points:
        left, top = frame.place(at, one.value)
        mark = f'cx="{left:.1f}" cy="{top:.1f}" r="3" fill="var(--c{colour})"'
        parts.append(f"<circle {mark}><title>{escape(line.name)}, {at:g}: {one.value:.4f}</title></circle>")
    return "".join(parts)


def side_by_side(lines: Sequence[Line], *, name: str, across: str, guide: float | None = None) -> str:
    """Figures of several at the same few numbers, evenly spaced: at each a mark and its interval a line, beside each other.

    `guide` is marked across the picture.
    """
    numbers = sorted({at for line in lines for at, _ in line.points})
    if not numbers:
        return '<p class="mute">no figure</p>'
    places = {at: place for place, at in enumerate(numbers)}
    x = Axis(-0.5, len(numbers) - 0.5, across, places=[f"{at:g}" for at in numbers])
    frame = Frame(x, _upright(lines, name, () if guide is None else (guide,)), BROAD)
    drawn = [] if guide is None else [_across(frame, guide)]
    for at, line in enumerate(lines):
        aside = 0.8 * ((at + 0.5) / len(lines) - 0.5)
        drawn.append(_apart(frame, line, [(places[number] + aside, number, one) for number, one in line.points], at=at))
    return frame.picture("".join(drawn), f"{name} by {across}", kind="broad")


def swatch(at: int) -> str:
    """How the line of that number is marked in `side_by_side`."""
    return f'<svg class="swatch" viewBox="0 0 16 16" aria-hidden="true">{_mark(at, 8, 8)}</svg>'


def _apart(frame: Frame, line: Line, points: Sequence[tuple[float, float, Interval]], *, at: int) -> str:
    """A thin line through the marks, each with its interval and its figure in words."""
    stroke = f'stroke="var(--c{at % COLOURS})"'
    path = _path(frame, [(place, one.value) for place, _, one in points])
    parts = [f'<polyline points="{path}" fill="none" {stroke} stroke-opacity=".45"/>']
    for place, number, one in points:
        left, top = frame.place(place, one.value)
        said = f"{line.name}, {number:g}: {one.value:.4f}"
        if one.low is not None and one.high is not None:
            (_, low), (_, high) = frame.place(place, one.low), frame.place(place, one.high)
            parts.append(f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{high:.1f}" y2="{low:.1f}" {stroke} stroke-width="1.5"/>')
            said += f" ({one.low:.4f} to {one.high:.4f})"
        parts.append(f"<g>{_mark(at, left, top)}<title>{escape(said)}</title></g>")
    return "".join(parts)


def _mark(at: int, left: float, top: float) -> str:
    """A disc, a square or a diamond: colours are fewer than lines may be."""
    fill, shape = f'fill="var(--c{at % COLOURS})"', at // COLOURS % SHAPES
    if not shape:
        return f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3.5" {fill}/>'
    turned = f' transform="rotate(45 {left:.1f} {top:.1f})"' if shape == 2 else ""
    return f'<rect x="{left - 3:.1f}" y="{top - 3:.1f}" width="6" height="6" {fill}{turned}/>'


def reliability(points: Sequence[Point], *, name: str, colour: int) -> str:
    """Mean prediction against mean label, a dot a bin; on the dashed line the model means what it says.

    Axes are logarithmic where the highest bin is more than 20 times the lowest prediction.
    """
    if not points:
        return '<p class="mute">no row</p>'
    frame = _square(points)
    ends = *frame.place(frame.x.low, frame.y.low), *frame.place(frame.x.high, frame.y.high)
    drawn = ['<line class="guide" x1="{}" y1="{}" x2="{}" y2="{}"/>'.format(*ends)]
    for point in points:
        left, top = frame.place(point.predicted, point.observed)
        title = f"predicted {point.predicted:.5f}, observed {point.observed:.5f}, {point.rows:,} rows"
        shape = f'cx="{left:.1f}" cy="{top:.1f}" r="4" fill="var(--c{colour})" fill-opacity=".8"'
        drawn.append(f"<circle {shape}><title>{title}</title></circle>")
    return frame.picture("".join(drawn), f"{name}: observed against predicted, {len(points)} bins of equal mass")


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


def _path(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    return " ".join("{:.1f},{:.1f}".format(*frame.place(at, value)) for at, value in points)


def _square(points: Sequence[Point]) -> Frame:
    """The same stretch on both axes, around all points; from 0 on where they come near it."""
    values = [value for point in points for value in (point.predicted, point.observed)]
    low, high = min(values), max(values)
    if low >= 0 and high > 20 * min(point.predicted for point in points) > 20 * _TINY:
        start, end, log = min(value for value in values if value > _TINY) / 1.4, min(high * 1.4, max(1.0, high)), True
    else:
        start, log = 0.0 if 0 <= low <= high / 2 or low == high >= 0 else low - (high - low) * 0.05, False
        end = high + (high - start) * 0.06 if high - start > _TINY * max(1.0, abs(high)) else start + 1.0
    return Frame(Axis(start, end, "predicted", log), Axis(start, end, "observed", log))


def _label(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}".replace("e-0", "e-")

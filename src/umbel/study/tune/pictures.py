"""Pictures of a search: the best so far, trial by trial, and what one objective costs in another."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.run.plots import Axis, Frame
from umbel.study.tune.result import Tuned

ROOM = 0.08  # of an axis, around what is drawn


def progress(found: Tuned) -> str:
    """The first objective of every finished trial as a dot, and the best of them so far as a line."""
    known = [(one.number, one.values[0]) for one in found.trials if one.values]
    x = Axis(0, max(1, len(found.trials) - 1), "trial", whole=True)
    frame = Frame(x, _axis([value for _, value in known], found.objectives[0]))
    best = found.chosen.number
    dots = [_dot(frame, number, value, note=f"trial {number}: {value:.5g}", chosen=number == best) for number, value in known]
    bests = [(number, value) for number, value in enumerate(found.bests()) if value is not None]
    return frame.picture(_steps(frame, bests) + "".join(dots), f"best {found.objectives[0]} so far, by trial")


def front(found: Tuned, other: int) -> str:
    """The first objective against another: those that none beats are joined and filled, the chosen one is ringed."""
    done = [one for one in found.trials if one.values]
    x = _axis([one.values[other] for one in done], found.objectives[other])
    frame = Frame(x, _axis([one.values[0] for one in done], found.objectives[0]))
    best = [one for one in done if one.number in found.front]
    drawn = [_line(frame, sorted((one.values[other], one.values[0]) for one in best))] if len(found.objectives) == 2 else []
    for one in done:
        note = f"trial {one.number}: " + ", ".join(f"{name} {value:.5g}" for name, value in zip(found.objectives, one.values, strict=True))
        colour = "c0" if one.number in found.front else "line"
        drawn.append(_dot(frame, one.values[other], one.values[0], note=note, chosen=one.number == found.chosen.number, colour=colour))
    return frame.picture("".join(drawn), f"{found.objectives[0]} against {found.objectives[other]}")


def _axis(values: Sequence[float], name: str) -> Axis:
    low, high = min(values), max(values)
    room = (high - low) * ROOM if high > low else max(abs(high), 1e-9) * ROOM
    return Axis(low - room, high + room, name)


def _steps(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    """A line that stays until a better one comes."""
    corners: list[tuple[float, float]] = []
    for across, up in points:
        corners += [(across, corners[-1][1])] if corners else []
        corners.append((across, up))
    return _line(frame, corners)


def _line(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    places = " ".join("{:.1f},{:.1f}".format(*frame.place(across, up)) for across, up in points)
    return f'<polyline points="{places}" fill="none" stroke="var(--c0)" stroke-width="2" stroke-linejoin="round"/>'


def _dot(frame: Frame, across: float, up: float, *, note: str, chosen: bool, colour: str = "c0") -> str:
    left, top = frame.place(across, up)
    radius, fill = (5, "var(--card)") if chosen else (3, f"var(--{colour})")
    shape = f'cx="{left:.1f}" cy="{top:.1f}" r="{radius}" fill="{fill}" stroke="var(--{colour})" stroke-width="2"'
    return f"<circle {shape}><title>{note}{' (chosen)' if chosen else ''}</title></circle>"

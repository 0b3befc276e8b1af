"""Points in a picture: axes with some room around them, dots with their notes, lines through them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from umbel.run.plots import Axis, Frame

ROOM = 0.08  # of an axis, around what is drawn


def around(values: Sequence[float], name: str) -> Axis:
    """An axis over these values."""
    low, high = min(values), max(values)
    room = (high - low) * ROOM if high > low else max(abs(high), 1e-9) * ROOM
    return Axis(low - room, high + room, name)


def line(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    """A line through points."""
    places = " ".join("{:.1f},{:.1f}".format(*frame.place(across, up)) for across, up in points)
    return f'<polyline points="{places}" fill="none" stroke="var(--c0)" stroke-width="2" stroke-linejoin="round"/>'


def dot(frame: Frame, across: float, up: float, *, note: str, chosen: bool, colour: str = "c0") -> str:
    """A point, ringed if it is the chosen one; the note is read when it is pointed at."""
    left, top = frame.place(across, up)
    radius, fill = (5, "var(--card)") if chosen else (3, f"var(--{colour})")
    shape = f'cx="{left:.1f}" cy="{top:.1f}" r="{radius}" fill="{fill}" stroke="var(--{colour})" stroke-width="2"'
    return f"<circle {shape}><title>{escape(note)}{' (chosen)' if chosen else ''}</title></circle>"

"""Pictures of a search: the best so far, trial by trial, and what one objective costs in another."""

from __future__ import annotations

from collections.abc import Sequence

from umbel.run.plots import Axis, Frame
from umbel.run.points import around, dot, line
from umbel.study.tune.result import Tuned


def progress(found: Tuned) -> str:
    """The first objective of every finished trial as a dot, and the best of them so far as a line."""
    known = [(one.number, one.values[0]) for one in found.trials if one.values]
    x = Axis(0, max(1, len(found.trials) - 1), "trial", whole=True)
    frame = Frame(x, around([value for _, value in known], found.objectives[0]))
    best = found.chosen.number
    dots = [dot(frame, number, value, note=f"trial {number}: {value:.5g}", chosen=number == best) for number, value in known]
    bests = [(number, value) for number, value in enumerate(found.bests()) if value is not None]
    return frame.picture(_steps(frame, bests) + "".join(dots), f"best {found.objectives[0]} so far, by trial")


def front(found: Tuned, other: int) -> str:
    """The first objective against another: those that none beats are joined and filled, the chosen one is ringed."""
    done = [one for one in found.trials if one.values]
    x = around([one.values[other] for one in done], found.objectives[other])
    frame = Frame(x, around([one.values[0] for one in done], found.objectives[0]))
    best = [one for one in done if one.number in found.front]
    drawn = [line(frame, sorted((one.values[other], one.values[0]) for one in best))] if len(found.objectives) == 2 else []
    for one in done:
        note = f"trial {one.number}: " + ", ".join(f"{name} {value:.5g}" for name, value in zip(found.objectives, one.values, strict=True))
        colour = "c0" if one.number in found.front else "line"
        drawn.append(dot(frame, one.values[other], one.values[0], note=note, chosen=one.number == found.chosen.number, colour=colour))
    return frame.picture("".join(drawn), f"{found.objectives[0]} against {found.objectives[other]}")


def _steps(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    """A line that stays until a better one comes."""
    corners: list[tuple[float, float]] = []
    for across, up in points:
        corners += [(across, corners[-1][1])] if corners else []
        corners.append((across, up))
    return line(frame, corners)

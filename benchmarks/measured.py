"""What a benchmark of speed leaves: its ratios with their spread and goal, and a file that says how and where they were had."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from umbel import durable

BEGAN, LOAD = time.time(), os.getloadavg()[0]  # a benchmark imports this before it works the machine itself
PACKAGES = ("umbel", "torch", "numpy", "polars", "pyarrow", "starlette", "uvicorn", "sqlalchemy", "faiss-cpu")
RESULTS = Path(__file__).parent / "results"
Figures = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure over another, or over its unit: the median of the rounds, the lowest and the highest.

    `goal` is the least that it should be, or the most if `most`; None where nobody has set one.
    """

    what: str
    value: float
    low: float
    high: float
    goal: float | None
    most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the median is on the right side of the goal; None without one."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal


def ratio(what: str, rounds: Sequence[float], *, goal: float | None = None, most: bool = False) -> Ratio:
    """A ratio of what every round gave.

    Example
    -------
    >>> ratio("ours over theirs", [2.0, 3.0, 2.5], goal=2).value
    2.5
    """
    return Ratio(what, statistics.median(rounds), min(rounds), max(rounds), goal, most)


def over(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """One by the other, round by round."""
    return [above / below for above, below in zip(one, other, strict=True)]


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, as a file of figures has them."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def parser(script: str, about: str | None) -> argparse.ArgumentParser:
    """A command line with `-o`, where the figures go: into results/, by the name of the script, unless told otherwise."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("-o", type=Path, default=RESULTS / f"{Path(script).stem}.json", help="the file of figures (%(default)s)")
    return made


def command(words: Sequence[str]) -> str:
    """How to measure this again, called from the root of a checkout: without `-o`, and without what a URL says (it may hold a password)."""
    script, *rest = words
    asked = zip(words, rest, strict=False)
    kept = ["URL" if "://" in word else word for before, word in asked if "-o" not in (before, word)]
    return " ".join(["python", f"benchmarks/{Path(script).name}", *kept])


def machine() -> dict[str, object]:
    """Where this is measured, and how busy that was before it began."""
    return {"processor": _processor(), "cores": os.cpu_count(), "load_at_start": round(LOAD, 2)}


def versions() -> dict[str, str]:
    """Python, and what is installed of the packages that do the work."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path, figures: Figures, ratios: Sequence[Ratio], *, threads: int = 1, absent: Mapping[str, str] | None = None) -> None:
    """Leave figures and ratios with command, machine and versions; all of the file or nothing.

    `absent` says of each side that could not be measured why it could not.
    """
    where = {**machine(), "threads": threads}
    about = {"command": command(sys.argv), "machine": where, "versions": versions(), "seconds": round(time.time() - BEGAN, 1)}
    told = {**about, "ratios": [asdict(one) for one in ratios], "absent": dict(absent or {}), **figures}
    durable.write(path, json.dumps(told, indent=1) + "\n")


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())

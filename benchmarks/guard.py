"""Is the guard of a canary quiet where it should be, and in time where it should not? And drift: quiet windows, shifts, wrong scales.

`python benchmarks/guard.py`: a thousand simulated canaries of each kind, whose users have rates of their own (Beta of four pseudo-visits)
and are shown ten items in their first session; two tasks, the rungs and the sample ratio are tested together, after every user.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import log

import measured
import numpy as np
from jaxtyping import Bool, Float

from umbel.evaluate.drift import Shares, moved
from umbel.evaluate.sequential import mismatch, worse
from umbel.serve.monitor.guard import LEVEL

RUNS, SHOWN, VISITS = 1_000, 10, 4.0
BOUND = log(4 / LEVEL)     # two tasks, the rungs, the ratio
DEGRADED = 0.02            # of answers
Users = Float[np.ndarray, "users"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A canary: its share, the rate of clicks (likes are a fifth of it), and what it does to both, to rungs and to its own users."""

    share: float
    rate: float
    users: int
    factor: float = 1.0
    degraded: float = DEGRADED
    shown: float | None = None

    def tests(self, rng: np.random.Generator) -> dict[str, Users]:
        """The log evidence of every test after every user."""
        arm = rng.random(self.users) < (self.share if self.shown is None else self.shown)
        clicks, likes = (self._clicked(rng, arm, rate) for rate in (self.rate, self.rate / 5))
        late = (rng.random(self.users) < np.where(arm, self.degraded, DEGRADED)).astype(float)
        return {
            "click": worse(arm, clicks, share=self.share), "like": worse(arm, likes, share=self.share),
            "degraded": worse(~arm, late, share=1 - self.share), "sample ratio": mismatch(arm, self.share),
        }  # fmt: skip

    def _clicked(self, rng: np.random.Generator, arm: Bool[np.ndarray, "users"], rate: float) -> Users:
        own = rng.beta(VISITS * rate, VISITS * (1 - rate), self.users) * np.where(arm, self.factor, 1.0)
        return rng.binomial(SHOWN, own) / SHOWN


KINDS = {
    "A/A, 5 %, rate .1": Kind(share=0.05, rate=0.1, users=10_000),
    "A/A, 50 %, rate .1": Kind(share=0.5, rate=0.1, users=10_000),
    "A/A, 50 %, rate .02": Kind(share=0.5, rate=0.02, users=10_000),
    "30 % worse, 5 %, rate .1": Kind(share=0.05, rate=0.1, users=20_000, factor=0.7),
    "30 % worse, 20 %, rate .1": Kind(share=0.2, rate=0.1, users=10_000, factor=0.7),
    "30 % worse, 50 %, rate .1": Kind(share=0.5, rate=0.1, users=5_000, factor=0.7),
    "30 % worse, 50 %, rate .02": Kind(share=0.5, rate=0.02, users=20_000, factor=0.7),
    "10 % worse, 50 %, rate .1": Kind(share=0.5, rate=0.1, users=20_000, factor=0.9),
    "degraded 6 % of answers, 5 %": Kind(share=0.05, rate=0.1, users=10_000, degraded=0.06),
    "52 % where 50 % are to be": Kind(share=0.5, rate=0.1, users=20_000, shown=0.52),
    "6 % where 5 % are to be": Kind(share=0.05, rate=0.1, users=20_000, shown=0.06),
}


def watched(kind: Kind) -> dict[str, object]:
    """How many of the canaries are dropped, by which test, and after how many users; None: after more than there are."""
    rng, dropped, by = np.random.default_rng(1), np.full(RUNS, np.inf), dict.fromkeys(("click", "like", "degraded", "sample ratio"), 0)
    for run in range(RUNS):
        first = {name: int(np.argmax(one >= BOUND)) for name, one in kind.tests(rng).items() if (one >= BOUND).any()}
        if first:
            name = min(first, key=lambda one: first[one])
            by[name] += 1
            dropped[run] = first[name] + 1
    half, most = (_users(np.quantile(dropped, level, method="higher")) for level in (0.5, 0.95))
    share = float(np.isfinite(dropped).mean())
    return {"share dropped": share, "by": by, "users": kind.users, "users at half": half, "users at 95 %": most}


def _users(number: float) -> int | None:
    return int(number) if np.isfinite(number) else None


def drifting() -> dict[str, dict[str, float]]:
    """Of 1,000 windows of 1,000 rows, how many are alarms."""
    rng = np.random.default_rng(2)
    amounts = rng.lognormal(3, 1, 60_000)
    numbers, codes = Shares.of_numbers(amounts), Shares.of_codes(rng.zipf(1.3, 60_000).clip(0, 500))
    gate = Shares.of_votes(rng.dirichlet([1.0, 2.0, 0.5], 16_384).sum(0))

    def share(window: Callable[[], tuple[Shares, Shares]]) -> float:
        return float(np.mean([moved(*window()).drifted for _ in range(RUNS)]))

    def number(change: Callable[[Users], Users]) -> float:
        return share(lambda: (numbers, numbers.again(change(rng.lognormal(3, 1, 1_000)))))

    def code(unknown: float) -> float:
        drawn = lambda: np.where(rng.random(1_000) < unknown, 0, rng.zipf(1.3, 1_000).clip(0, 500))  # noqa: E731
        return share(lambda: (codes, codes.again(drawn())))

    def heard(*weights: float) -> float:
        return share(lambda: (gate, Shares.of_votes(rng.dirichlet(weights, 1_000).sum(0))))

    quiet = {"number": number(lambda x: x), "category": code(0.0), "gate": heard(1.0, 2.0, 0.5)}
    planted = {
        "number 100 times as large": number(lambda x: 100 * x), "number 1.5 times as large": number(lambda x: 1.5 * x),
        "a tenth of a number missing": number(lambda x: np.where(rng.random(len(x)) < 0.1, np.nan, x)),
        "15 % unknown ids": code(0.15), "a gate turned to its second expert": heard(1.0, 4.0, 0.5),
    }  # fmt: skip
    return {"quiet": quiet, "planted": planted}


def main() -> None:
    """Simulate, print, and leave the figures."""
    options = measured.parser(__file__, __doc__).parse_args()
    canaries = {}
    for name, kind in KINDS.items():
        canaries[name] = watched(kind)
        print(name, json.dumps(canaries[name]), flush=True)
    windows = drifting()
    print(json.dumps(windows))
    result = {
        "command": "python benchmarks/guard.py", "runs": RUNS, "level": LEVEL, "canaries": canaries, "windows of 1,000 rows": windows,
    }  # fmt: skip
    options.o.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

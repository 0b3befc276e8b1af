"""How often do 95 % intervals of off-policy estimates hold the truth? 500 simulated logs of users with tastes of their own.

`PYTHONPATH=. python benchmarks/offpolicy.py` draws 60 and 240 users of 6 decisions each from a population whose value under the target is
known, estimates it by every estimator that uses weights, and counts.
"""

from __future__ import annotations

import json

import measured
from tests.bandits import simulated, truth

from umbel.evaluate.intervals import Interval
from umbel.evaluate.offpolicy import estimate

RUNS, USERS, EACH = 500, (60, 240), 6


def counted(users: int, expected: float) -> dict[str, float]:
    """The share of intervals that hold the truth, of logs of so many users; and the share of logs that are refused."""
    names = ("ips", "clipped_ips", "snips", "dr")
    inside, refused = dict.fromkeys(names, 0), 0
    for seed in range(RUNS):
        found = estimate(simulated(seed, users=users, each=EACH)[0], seed=seed).estimates
        held = {name: one for name in names if isinstance(one := found[name], Interval)}
        refused += len(held) < len(names)
        for name, one in held.items():
            inside[name] += (one.low or 0) <= expected <= (one.high or 0)
    return {**{name: count / (RUNS - refused) for name, count in inside.items()}, "refused": refused / RUNS}


def main() -> None:
    """Count, print, and leave the counts."""
    options = measured.parser(__file__, __doc__).parse_args()
    expected = truth(users=1_000_000)
    result = {
        "command": "PYTHONPATH=. python benchmarks/offpolicy.py", "runs": RUNS, "decisions a user": EACH, "truth": expected,
        "inside": {f"{users} users": counted(users, expected) for users in USERS},
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    options.o.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

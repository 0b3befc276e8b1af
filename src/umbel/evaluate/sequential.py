"""Two tests that may be looked at after every user: is one arm worse than the other, and do arms have the shares they should?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

BOLDEST = 0.5   # of what could be lost at one user, a bet risks at most this
SURE = 100.0    # users that the prior of the sample ratio is worth
Evidence = Float[np.ndarray, "users"]


def worse(arm: Bool[np.ndarray, "users"], value: Float[np.ndarray, "users"], *, share: float, keep: float = 1.0) -> Evidence:
    """The log evidence, after each user, that users of the arm have a mean below `keep` times that of the others.

    Each user comes once, with a value in [0, 1], and is of the arm with chance `share` (0 < share < 1). The payoff

        f_i = A_i (Y_i - c_i) / s - (1 - A_i) (keep Y_i - c_i) / (1 - s)

    has the mean `mu_1 - keep mu_0` whatever `c_i` is that was known before user i; here it is the mean value so far, which takes most of
    the spread away. Somebody who owns 1 and bets a share `lambda_i` of it against each payoff has

        K_n = prod_i (1 - lambda_i f_i),   0 <= lambda_i <= 1 / (2 max f_i),   lambda_i = - sum_{j<i} f_j / (max f_i^2 + sum_{j<i} f_j^2)

    Where the arm is not worse, K is a nonnegative supermartingale: the chance that it ever reaches `1 / alpha` is at most `alpha` (Ville),
    for any distribution, any share and any number of looks. This is the capital process of bounded means with the bets aGRAPA, the mean
    over the mean square of what came before, truncated at one half (Waudby-Smith and Ramdas, 2024, https://arxiv.org/abs/2010.09686), on
    the payoff of an experiment with known chances (Waudby-Smith et al., https://arxiv.org/abs/2210.10768). Ours are the centre c, one user
    of the greatest payoff as the bets' prior, and one side of a ratio as what is tested. The result is `log K_n`.

    Example
    -------
    >>> worse(np.array([False, True, False]), np.array([1.0, 0.0, 1.0]), share=0.5).round(4).tolist()
    [0.0, 0.3795, 0.785]
    """
    before = np.arange(len(value))
    centre = (0.5 + _before(value)) / (1.0 + before)
    payoff = np.where(arm, (value - centre) / share, (centre - keep * value) / (1 - share))
    most = np.maximum((1 - centre) / share, centre / (1 - share))
    bet = np.clip(-_before(payoff) / (most**2 + _before(payoff**2)), 0.0, BOLDEST / most)
    evidence: Evidence = np.cumsum(np.log1p(-bet * payoff))
    return evidence


def mismatch(arm: Bool[np.ndarray, "users"], share: float) -> Evidence:
    """The log evidence, after each user, that the chance of being of the arm is not `share`.

    `E_n = B(a + k, b + n - k) / B(a, b) / (share^k (1 - share)^(n - k))` with k users of the arm among n: the Bayes factor of a Beta prior
    against the stated share, a martingale under it (Lindon and Malek, 2022, https://arxiv.org/abs/2011.03567, their Dirichlet prior for two
    arms). The prior is free; here a and b are 100 users in the stated shares, since mismatches are small.

    Example
    -------
    >>> mismatch(np.ones(60, bool), 0.5)[[9, 59]].round(2).tolist()
    [0.41, 11.37]
    """
    from scipy.special import betaln  # most who serve never ask this

    users = np.arange(1, len(arm) + 1)
    own = np.cumsum(arm)
    one, other = SURE * share, SURE * (1 - share)
    chance = own * np.log(share) + (users - own) * np.log1p(-share)
    evidence: Evidence = betaln(one + own, other + users - own) - betaln(one, other) - chance
    return evidence


def _before(values: Float[np.ndarray, "users"]) -> Float[np.ndarray, "users"]:
    """The sum of those before each."""
    summed: Float[np.ndarray, "users"] = np.cumsum(values) - values
    return summed

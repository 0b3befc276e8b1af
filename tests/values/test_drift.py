"""Drift of shares: bins, both measures by hand, quiet windows that stay quiet, and shifts that are seen."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from umbel.evaluate.drift import FEWEST, Moved, Profile, Shares, moved


def test_numbers_lie_in_bins_of_equal_mass() -> None:
    shares = Shares.of_numbers(np.arange(100, dtype=float), bins=4)
    assert shares.counts == (25, 25, 25, 25, 0)
    assert len(shares.edges) == 3


def test_a_missing_number_has_a_bin_of_its_own() -> None:
    shares = Shares.of_numbers(np.array([1.0, 2.0, 3.0, 4.0, np.nan]), bins=2)
    assert shares.counts[-1] == 1
    assert shares.missing == pytest.approx(0.2)
    assert shares.again(np.array([np.nan, np.nan, 9.0])).counts == (0, 1, 2)


def test_equal_quantiles_make_fewer_bins() -> None:
    shares = Shares.of_numbers(np.array([0.0] * 91 + [5.0] * 9))
    assert shares.edges == (0.0,)
    assert shares.counts == (91, 9, 0)


def test_numbers_that_are_all_missing_have_one_empty_bin() -> None:
    shares = Shares.of_numbers(np.full(5, np.nan))
    assert shares.counts == (0, 5)
    assert shares.again(np.array([1.0])).counts == (1, 0)


def test_codes_have_the_most_frequent_a_bin_each() -> None:
    shares = Shares.of_codes(np.array([3, 3, 3, 1, 1, 2, 0, 0]), bins=3)
    assert shares.codes == (3, 1)
    assert shares.counts == (3, 2, 1, 2), "3, 1, all others, unknown"
    assert shares.again(np.array([7, 7, 0])).counts == (0, 0, 2, 1)


def test_a_field_that_was_all_unknown_is_still_a_coded_one() -> None:
    shares = Shares.of_codes(np.zeros(4, np.int64))
    assert shares.counts == (0, 4)
    assert shares.again(np.array([5, 0])).counts == (1, 1)


def test_both_measures_by_hand() -> None:
    """Shares .25 / .75 and .5 / .5, half a row added to each of two bins."""
    before, now = Shares((249, 749, 0), edges=(0.0,)), Shares((499, 499, 0), edges=(0.0,))
    found = moved(before, now)
    p, q = np.array([249.5, 749.5]) / 999, np.array([0.5, 0.5])
    assert found.psi == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert found.shift == pytest.approx(0.5 - 249.5 / 999)
    assert found.rows == 998


def test_bounds_are_those_of_few_rows_until_there_are_many() -> None:
    few = moved(Shares((100, 100, 0), edges=(0.0,)), Shares((20, 20, 0), edges=(0.0,)))
    many = moved(Shares((10**6, 10**6, 0), edges=(0.0,)), Shares((10**6, 10**6, 0), edges=(0.0,)))
    assert few.psi_bound == pytest.approx(6.6349 * (1 / 200 + 1 / 40), rel=1e-4), "chi-square of one degree, 99 %"
    assert few.shift_bound == pytest.approx(1.628 * math.sqrt(1 / 200 + 1 / 40))
    assert (many.psi_bound, many.shift_bound) == (0.1, 0.05)


def test_too_few_rows_are_never_drift() -> None:
    found = moved(Shares((5000, 5000, 0), edges=(0.0,)), Shares((FEWEST - 1, 0, 0), edges=(0.0,)))
    assert not found.enough
    assert not found.drifted
    assert moved(Shares((5000, 5000, 0), edges=(0.0,)), Shares((FEWEST, 0, 0), edges=(0.0,))).drifted


def test_nothing_before_and_nothing_now_is_no_drift() -> None:
    found = moved(Shares((0, 0), edges=()), Shares((0, 0), edges=()))
    assert (found.psi, found.shift, found.drifted) == (0.0, 0.0, False)


def test_one_measure_is_enough() -> None:
    assert Moved(0.2, 0.1, 0.01, 0.05, 1000).drifted
    assert Moved(0.01, 0.1, 0.06, 0.05, 1000).drifted
    assert not Moved(0.1, 0.1, 0.05, 0.05, 1000).drifted


@pytest.mark.parametrize("rows", [200, 1000, 5000])
def test_a_thousand_quiet_windows_raise_few_alarms(rows: int) -> None:
    rng = np.random.default_rng(rows)
    numbers, codes = Shares.of_numbers(rng.normal(size=60_000)), Shares.of_codes(rng.zipf(1.3, 60_000).clip(0, 500))
    alarms = [
        [moved(numbers, numbers.again(rng.normal(size=rows))).drifted, moved(codes, codes.again(rng.zipf(1.3, rows).clip(0, 500))).drifted]
        for _ in range(1000)
    ]
    assert np.mean(alarms, axis=0).max() <= 0.02


@pytest.mark.parametrize("change", [lambda x: x + 0.3, lambda x: x * 1.5, lambda x: np.where(np.arange(len(x)) % 10 == 0, np.nan, x)])
def test_a_shift_a_scale_and_missing_values_are_seen(change: object) -> None:
    assert callable(change)
    rng = np.random.default_rng(1)
    before = Shares.of_numbers(rng.normal(size=60_000))
    assert np.mean([moved(before, before.again(change(rng.normal(size=5000)))).drifted for _ in range(100)]) >= 0.95


def test_a_new_value_of_a_category_is_seen() -> None:
    rng = np.random.default_rng(2)
    before = Shares.of_codes(rng.integers(1, 4, 10_000))
    now = np.where(rng.random(2000) < 0.15, 0, rng.integers(1, 4, 2000))
    assert moved(before, before.again(now)).drifted


def test_a_profile_comes_back_from_json() -> None:
    fields = {"price": Shares.of_numbers(np.arange(50.0)), "item": Shares.of_codes(np.array([1, 1, 2, 0]))}
    profile = Profile(fields, {"click": Shares((1, 2), (0.5,))})
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile

"""Drift for any values: counts add up, identity is no drift, order and unit change nothing, both measures have their bounds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umbel.evaluate.drift import FEWEST, PSI, SHIFT, Profile, Shares, moved

EXAMPLES = settings(max_examples=40, deadline=None)

NUMBERS = hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6) | st.just(np.nan))
CODES = hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 30))
BINS = st.integers(2, 12)


@EXAMPLES
@given(NUMBERS, BINS)
def test_every_number_has_one_bin(values: np.ndarray, bins: int) -> None:
    shares = Shares.of_numbers(values, bins)
    assert shares.rows == len(values)
    assert shares.counts[-1] == np.isnan(values).sum()
    assert len(shares.counts) == len(shares.edges) + 2
    assert list(shares.edges) == sorted(set(shares.edges))


@EXAMPLES
@given(CODES, BINS)
def test_every_code_has_one_bin(values: np.ndarray, bins: int) -> None:
    shares = Shares.of_codes(values, bins)
    assert shares.rows == len(values)
    assert shares.counts[-1] == (values == 0).sum()
    assert len(shares.codes) <= bins - 1
    assert 0 not in shares.codes
    counts = [int((values == code).sum()) for code in shares.codes]
    assert counts == sorted(counts, reverse=True)
    assert list(shares.counts[: len(counts)]) == counts


@EXAMPLES
@given(NUMBERS, BINS)
def test_the_same_rows_have_not_moved(values: np.ndarray, bins: int) -> None:
    shares = Shares.of_numbers(values, bins)
    found = moved(shares, shares.again(values))
    assert found.psi == pytest.approx(0.0, abs=1e-12)
    assert found.shift == pytest.approx(0.0, abs=1e-12)
    assert not found.drifted


@EXAMPLES
@given(CODES, CODES)
def test_order_of_rows_changes_nothing(before: np.ndarray, now: np.ndarray) -> None:
    shares = Shares.of_codes(before)
    assert shares.again(now[::-1]) == shares.again(now)
    assert Shares.of_codes(before[::-1]).counts == shares.counts


@EXAMPLES
@given(hnp.arrays(np.float64, st.integers(5, 100), elements=st.integers(-1000, 1000).map(float)), st.sampled_from([0.5, 2.0, 1024.0]))
def test_the_unit_of_a_number_changes_nothing(values: np.ndarray, unit: float) -> None:
    """Powers of two keep every value exact."""
    plain, scaled = Shares.of_numbers(values), Shares.of_numbers(values * unit)
    assert plain.counts == scaled.counts
    other = np.roll(values, 1) + 1
    assert moved(plain, plain.again(other)) == moved(scaled, scaled.again(other * unit))


@EXAMPLES
@given(CODES, CODES)
def test_both_measures_are_at_least_nothing_and_the_shift_at_most_one(before: np.ndarray, now: np.ndarray) -> None:
    shares = Shares.of_codes(before)
    found = moved(shares, shares.again(now))
    assert found.psi >= 0
    assert 0 <= found.shift <= 1
    assert found.psi_bound >= PSI
    assert found.shift_bound >= SHIFT
    assert found.rows == len(now)
    assert found.enough is (len(now) >= FEWEST)


@EXAMPLES
@given(st.lists(st.integers(0, 500), min_size=3, max_size=8), st.lists(st.integers(0, 500), min_size=3, max_size=8))
def test_psi_is_the_same_both_ways(one: list[int], other: list[int]) -> None:
    """It is a sum of two divergences, one in each direction."""
    size = min(len(one), len(other))
    codes = tuple(range(1, size - 1))
    a, b = Shares(tuple(one[:size]), codes=codes), Shares(tuple(other[:size]), codes=codes)
    assert moved(a, b).psi == pytest.approx(moved(b, a).psi)
    assert moved(a, b).shift == pytest.approx(moved(b, a).shift)


@EXAMPLES
@given(NUMBERS, NUMBERS)
def test_two_windows_add_up_to_one(first: np.ndarray, second: np.ndarray) -> None:
    """Monitoring reads a log in pieces and adds counts."""
    shares = Shares.of_numbers(first)
    whole = shares.again(np.concatenate([first, second]))
    parts = np.array(shares.again(first).counts) + np.array(shares.again(second).counts)
    assert tuple(parts.tolist()) == whole.counts


@EXAMPLES
@given(NUMBERS, CODES)
def test_a_profile_is_plain_json(numbers: np.ndarray, codes: np.ndarray) -> None:
    profile = Profile({"n": Shares.of_numbers(numbers), "c": Shares.of_codes(codes)}, {"click": Shares.of_numbers(numbers)})
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 2.0, 5.0]))
def test_what_lies_far_away_is_always_seen(seed: int, distance: float) -> None:
    rng = np.random.default_rng(seed)
    shares = Shares.of_numbers(rng.normal(size=5000))
    assert moved(shares, shares.again(rng.normal(size=1000) + distance)).drifted


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_values_that_were_never_seen_fall_at_the_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = Shares.of_numbers(rng.random(1000))
    far = shares.again(np.array([-1e300, 1e300, np.inf, -np.inf]))
    assert far.counts[0] == 2
    assert far.counts[-2] == 2
    assert far.missing == 0

"""Properties of explanations on random functions, rankings and logs: the axioms of integrated gradients, and what no order may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import logs
from torch import Tensor

from umbel.data.lookup import mixed
from umbel.data.raw import some
from umbel.data.table import Table
from umbel.evaluate.intervals import resample
from umbel.study.explain.integrate import Scores, integrate
from umbel.study.explain.ranking import mean_intervals, ranking

EXAMPLES = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 10_000)
FIELDS = 5


def drawn(seed: int, rows: int = 4) -> tuple[Tensor, Tensor]:
    """Rows and a baseline of one view."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows + 1, 1, FIELDS, 2, generator=draw, dtype=torch.float64)
    return x[1:], x[0]


def net(seed: int, *, without: int | None = None) -> Scores:
    """A net of one hidden layer and one output, which does not read the field `without`."""
    draw = torch.Generator().manual_seed(seed)
    first = torch.randn(FIELDS, 2, 12, generator=draw, dtype=torch.float64)
    last = torch.randn(12, 1, generator=draw, dtype=torch.float64)
    if without is not None:
        first[without] = 0

    def f(x: Tensor) -> Tensor:
        return torch.einsum("rvfd,fdh->rh", x, first).tanh() @ last

    return f


@EXAMPLES
@given(SEEDS, st.floats(-3, 3), st.floats(-3, 3))
def test_linearity(seed: int, a: float, b: float) -> None:
    """Of `a f + b g` a field's contribution is `a` times that of f and `b` times that of g."""
    x, base = drawn(seed)
    f, g = net(seed), net(seed + 1)
    both = integrate(lambda x: a * f(x) + b * g(x), x, base).contributions
    parts = a * integrate(f, x, base).contributions + b * integrate(g, x, base).contributions
    torch.testing.assert_close(both, parts, atol=0.02, rtol=0)


@EXAMPLES
@given(SEEDS, st.integers(0, FIELDS - 1))
def test_dummy(seed: int, field: int) -> None:
    """A field that f does not read adds nothing."""
    x, base = drawn(seed)
    found = integrate(net(seed, without=field), x, base).contributions[:, 0]
    assert not found[:, field].any()
    assert found.any()


@EXAMPLES
@given(SEEDS)
def test_symmetry(seed: int) -> None:
    """Two fields that f treats alike, with the same values and baselines, add the same."""
    x, base = drawn(seed)
    f = net(seed)

    def alike(x: Tensor) -> Tensor:
        swapped = x[:, :, [1, 0, 2, 3, 4]]
        return f(x) + f(swapped)

    x[:, :, 1], base[:, 1] = x[:, :, 0], base[:, 0]
    found = integrate(alike, x, base).contributions[:, 0]
    torch.testing.assert_close(found[:, 0], found[:, 1], atol=1e-9, rtol=1e-9)


@EXAMPLES
@given(SEEDS, st.permutations(range(FIELDS)))
def test_fields_in_another_order(seed: int, order: list[int]) -> None:
    """Fields may come in any order: each keeps its contribution."""
    x, base = drawn(seed)
    f = net(seed)
    back = [order.index(field) for field in range(FIELDS)]
    found = integrate(lambda x: f(x[:, :, back]), x[:, :, order], base[:, order]).contributions
    torch.testing.assert_close(found, integrate(f, x, base).contributions[:, :, order], atol=1e-9, rtol=1e-9)


@EXAMPLES
@given(SEEDS)
def test_the_way_back_is_the_way_there(seed: int) -> None:
    """From the row to the baseline, contributions are the same with the other sign."""
    x, base = drawn(seed, rows=1)
    there, back = integrate(net(seed), x, base), integrate(net(seed), base.unsqueeze(0), x[0])
    torch.testing.assert_close(there.contributions, -back.contributions, atol=5e-3 * float(there.contributions.abs().sum()), rtol=0)


@EXAMPLES
@given(SEEDS)
def test_columns_do_not_disturb_each_other(seed: int) -> None:
    """A function explained beside others has the same contributions as alone, to what is promised of each."""
    x, base = drawn(seed)
    f, g = net(seed), net(seed + 1)
    both = integrate(lambda x: torch.cat([f(x), g(x)], 1), x, base)
    for at, one in enumerate((f, g)):
        alone = integrate(one, x, base)
        near = 5e-3 * alone.contributions.abs().sum(2)
        assert ((both.contributions[:, at] - alone.contributions[:, 0]).abs() <= near).all()
        torch.testing.assert_close(both.change[:, at], alone.change[:, 0])


def contributions(seed: int, rows: int = 60) -> np.ndarray:
    drawn: np.ndarray = np.random.default_rng(seed).normal(size=(rows, 1, 3)) * np.array([3.0, 1.0, 0.3])
    return drawn


NAMES = ["a", "b", "c"]


def values(rows: int = 60) -> pl.DataFrame:
    return pl.DataFrame({name: [f"{name}{row % 2}" for row in range(rows)] for name in NAMES})


@EXAMPLES
@given(SEEDS, st.floats(0.01, 100))
def test_rankings_scale(seed: int, factor: float) -> None:
    """Contributions times a factor: weights and bounds times it, shares, order and pushes as they were."""
    by = resample(np.arange(60) // 3)
    one, other = (ranking(scaled * contributions(seed), NAMES, raw=values(), by=by) for scaled in (1.0, factor))
    for a, b in zip(one, other, strict=True):
        assert (a.field, a.push) == (b.field, b.push)
        assert b.share == pytest.approx(a.share)
        for bound in ("value", "low", "high"):
            assert getattr(b.moves, bound) == pytest.approx(factor * getattr(a.moves, bound))


@EXAMPLES
@given(SEEDS)
def test_rankings_sum_to_one_and_fall(seed: int) -> None:
    found = ranking(contributions(seed), NAMES, raw=values(), by=resample(np.arange(60) // 3))
    assert sum(one.share for one in found) == pytest.approx(1.0)
    sizes = [one.moves.value for one in found]
    assert sizes == sorted(sizes, reverse=True)
    for one in found:
        assert one.moves.low is not None
        assert one.moves.high is not None
        assert one.moves.low <= one.moves.value <= one.moves.high


@EXAMPLES
@given(SEEDS)
def test_signs_push_and_sizes_rank(seed: int) -> None:
    """Turned round, contributions weigh the same and push the other way."""
    by = resample(np.arange(60) // 3)
    one = {each.field: each for each in ranking(contributions(seed), NAMES, raw=values(), by=by)}
    other = {each.field: each for each in ranking(-contributions(seed), NAMES, raw=values(), by=by)}
    for name in NAMES:
        assert one[name].moves == other[name].moves
        assert (one[name].push.up, one[name].push.down) == (other[name].push.down, other[name].push.up)


@EXAMPLES
@given(SEEDS)
def test_means_of_columns_are_means(seed: int) -> None:
    columns = np.random.default_rng(seed).normal(size=(40, 4))
    found = mean_intervals(columns, resample(np.arange(40) // 2))
    assert [one.value for one in found] == pytest.approx(columns.mean(axis=0).tolist())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return logs.table(tmp_path_factory.mktemp("sampled"))


def long_log(folder: Path, rows: int) -> logs.Rows:
    return {name: [column[row % 10] for row in range(rows)] for name, column in logs.ROWS.items()}


def test_samples_are_nested_and_even(tmp_path: Path, table: Table) -> None:
    """Fewer rows are some of the more; every part of a log has its share; a longer log keeps what is least of it."""
    source = logs.source(tmp_path, long_log(tmp_path, 1000))
    few, more = (set(some(source, table.encoder, count, seed=0)[1].index.tolist()) for count in (50, 200))
    assert few < more
    thirds = np.bincount(np.array(sorted(more)) * 3 // 1000, minlength=3)
    assert (np.abs(thirds - 200 / 3) < 4 * np.sqrt(200 / 3)).all()
    shorter = logs.source(tmp_path / "shorter", long_log(tmp_path, 700))
    kept = set(some(shorter, table.encoder, 200, seed=0)[1].index.tolist())
    assert {row for row in more if row < 700} <= kept


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_how_a_log_is_read_draws_nothing_else(size: int, tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    source = logs.source(tmp_path, long_log(tmp_path, 300))
    whole = some(source, table.encoder, 20, seed=0)
    monkeypatch.setattr("umbel.data.raw.SIZE", size)
    frame, batch = some(source, table.encoder, 20, seed=0)
    assert frame.equals(whole[0])
    assert torch.equal(batch.index, whole[1].index)
    assert all(torch.equal(column.nan_to_num(), whole[1].fields[name].nan_to_num()) for name, column in batch.fields.items())


def test_the_rows_are_those_with_the_least_hashes(tmp_path: Path, table: Table) -> None:
    source = logs.source(tmp_path, long_log(tmp_path, 100))
    expected = np.sort(np.argsort(mixed(np.arange(100), 3))[:9])
    assert some(source, table.encoder, 9, seed=3)[1].index.tolist() == expected.tolist()

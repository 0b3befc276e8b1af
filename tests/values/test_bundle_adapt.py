"""A user's own state from raw rows: the shared model without any, small, the same each time, and one line for rows it cannot read."""

from __future__ import annotations

import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import rated

from umbel.bundle import Bundle
from umbel.data.raw import encoded
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.ladder import Ladder, Rung, UserState

HEAD = Ladder(head=1, user="user", strength=2.0)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def bundle(table: Table) -> Bundle:
    return rated.bundle(table, HEAD)


def stepping(bundle: Bundle) -> Bundle:
    """The same with gradient steps from one row on."""
    rates = {name: torch.tensor(0.1) for name, _ in bundle.model.named_parameters() if name.startswith(("layers.", "head."))}
    return replace(bundle, ladder=replace(HEAD, head=None, steps_from=1, steps=2, rates=rates))


def rows(user: int = 3, count: int = 6) -> pl.DataFrame:
    return rated.log().filter(pl.col("user") == user).head(count)


def asked(bundle: Bundle) -> tuple[pl.DataFrame, np.ndarray]:
    frame = rows(3, 15).tail(8)
    return frame, bundle.predict(encoded(frame.with_columns(user=pl.lit(None, pl.Int64)), bundle.encoder))


@pytest.mark.parametrize("count", [0, 6])
def test_no_row_is_the_shared_model_bit_for_bit(bundle: Bundle, count: int) -> None:
    """With an empty frame, and with rows whose labels nobody saw."""
    frame, shared = asked(bundle)
    support = rows().head(count).with_columns(rating=pl.lit(None, pl.Float64), click=pl.lit(None, pl.Int64))
    state = bundle.adapt(support)
    assert (state.rung, state.rows) == (Rung.CONTENT, 0)
    assert np.array_equal(bundle.predict(encoded(frame, bundle.encoder), state), shared)
    stepped = stepping(bundle)
    assert np.array_equal(stepped.predict(encoded(frame, bundle.encoder), stepped.adapt(support)), shared)


def test_rows_change_the_answer_and_the_same_rows_the_same_way(bundle: Bundle) -> None:
    frame, shared = asked(bundle)
    for one in (bundle, stepping(bundle)):
        first, second = (one.predict(encoded(frame, one.encoder), one.adapt(rows())) for _ in range(2))
        assert np.array_equal(first, second)
        assert np.abs(first - shared).max() > 1e-3
        other = one.predict(encoded(frame, one.encoder), one.adapt(rows().with_columns(rating=6 - pl.col("rating"))))
        assert np.abs(first - other).max() > 1e-3


def test_answers_without_a_state_are_the_models(table: Table, bundle: Bundle) -> None:
    batch = table.batch(np.arange(5))
    assert np.array_equal(bundle.predict(batch), bundle.predict(batch, None))
    none = replace(bundle, ladder=None)
    assert np.array_equal(none.predict(batch, UserState(Rung.HEAD, 1, torch.ones(2, 6))), bundle.predict(batch))


def test_the_answer_is_calibrated_as_every_other(bundle: Bundle) -> None:
    """A state of the model itself answers what the bundle says of an unknown user."""
    frame, shared = asked(bundle)
    nothing = UserState(Rung.HEAD, 1, torch.zeros(2, 6))
    assert bundle.predict(encoded(frame, bundle.encoder), nothing) == pytest.approx(shared, abs=1e-6)


def test_only_the_rows_count_not_their_order_nor_who_is_said_to_be_the_user(bundle: Bundle) -> None:
    one = bundle.adapt(rows())
    for other in (rows().reverse(), rows().with_columns(user=pl.lit(77)), rows().with_columns(time=pl.lit(0), part=pl.lit("x"))):
        state = bundle.adapt(other)
        assert state.rows == one.rows == 6
        assert one.lean is not None
        assert state.lean is not None
        torch.testing.assert_close(state.lean, one.lean, rtol=1e-4, atol=1e-5)


def test_rows_of_several_users_are_refused(bundle: Bundle) -> None:
    """Nobody's state is made of another's rows; who is not named is nobody else."""
    both = pl.concat([rows(3), rows(7)])
    with pytest.raises(UserError, match="rows of 2 users in column 'user'; adapt one user at a time"):
        bundle.adapt(both)
    assert bundle.adapt(rows().with_columns(user=pl.when(pl.int_range(pl.len()) > 2).then("user"))).rows == 6
    assert bundle.adapt(both.with_columns(user=pl.lit(None, pl.Int64))).rows == 12
    assert bundle.adapt(rows().with_columns(user=pl.when(pl.int_range(pl.len()) > 2).then(7.0).otherwise(float("nan")))).rows == 6


def test_a_state_is_under_a_kilobyte_and_comes_back(bundle: Bundle) -> None:
    frame, _ = asked(bundle)
    state = bundle.adapt(rows())
    assert len(state.to_bytes()) <= 1024
    back = UserState.from_bytes(state.to_bytes())
    batch = encoded(frame, bundle.encoder)
    assert np.array_equal(bundle.predict(batch, back), bundle.predict(batch, state))


def test_the_rung_is_by_rows_with_a_label(bundle: Bundle) -> None:
    laddered = replace(bundle, ladder=replace(HEAD, head=3))
    holes = rows().with_columns(rating=pl.when(pl.int_range(pl.len()) < 2).then("rating"), click=pl.lit(None, pl.Int64))
    assert laddered.adapt(rows(count=2)).rung is Rung.CONTENT
    assert laddered.adapt(rows(count=3)).rung is Rung.HEAD
    assert laddered.adapt(holes).rows == 2
    assert laddered.adapt(holes).rung is Rung.CONTENT


def test_a_known_user_is_read_by_id(bundle: Bundle) -> None:
    """By how many training rows the user had: user 0 trained on eight, user 3 on none."""
    known = replace(bundle, ladder=replace(HEAD, known=8))
    assert known.adapt(rows(0)).rung is Rung.ID
    assert known.adapt(rows(3)).rung is Rung.HEAD
    assert replace(bundle, ladder=replace(HEAD, known=9)).adapt(rows(0)).rung is Rung.HEAD
    frame = rows(0)
    batch = encoded(frame, known.encoder)
    assert np.array_equal(known.predict(batch, known.adapt(frame)), known.predict(batch))


@pytest.mark.parametrize("known", [None, 8])
def test_without_rows_a_user_who_trained_is_answered_as_without_a_state(bundle: Bundle, known: int | None) -> None:
    """Bit for bit, whether the id would answer or not: also of a ladder whose steps begin at no row."""
    batch = encoded(rows(0), bundle.encoder)
    plain = bundle.predict(batch)
    assert not np.array_equal(plain, bundle.predict(encoded(rows(0).with_columns(user=pl.lit(None, pl.Int64)), bundle.encoder)))
    rates = {name: torch.tensor(0.1) for name, _ in bundle.model.named_parameters() if name.startswith(("layers.", "head."))}
    for ladder in (replace(HEAD, known=known), replace(HEAD, known=known, head=None, steps_from=0, steps=2, rates=rates)):
        one = replace(bundle, ladder=ladder)
        for none in (rows(0).head(0), rows(0).with_columns(rating=pl.lit(None, pl.Float64), click=pl.lit(None, pl.Int64))):
            state = one.adapt(none)
            assert state.rows == 0
            assert state.shared
            assert np.array_equal(one.predict(batch, state), plain)


def test_a_user_whom_no_episode_read_by_id_is_unknown(bundle: Bundle) -> None:
    """However many training rows there were: the id's row is the unknown one's, so the rows speak."""
    model = copy.deepcopy(bundle.model)
    rows_of_users = model.places.span("user")
    with torch.no_grad():
        model.table[rows_of_users.start : rows_of_users.stop] = model.table[rows_of_users.start].clone()
    untaught = replace(bundle, model=model, ladder=replace(HEAD, known=8))
    assert untaught.adapt(rows(0)).rung is Rung.HEAD


def test_labels_that_nobody_gave_are_unseen(bundle: Bundle) -> None:
    """One task's column may be missing: its layer stays the shared one."""
    state = bundle.adapt(rows().drop("click"))
    assert state.lean is not None
    assert state.lean[1].abs().max() == 0
    assert state.lean[0].abs().max() > 0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda frame: frame.drop("genres"), "genres"),
        (lambda frame: frame.drop("item"), "item"),
        (lambda frame: frame.with_columns(click=pl.lit(2)), "tasks.click: label 2 in row 1"),
        (lambda frame: frame.with_columns(click=pl.Series([0, 0, 0, -1, 0, 0])), "tasks.click: label -1 in row 4"),
        (lambda frame: frame.with_columns(rating=pl.lit("five")), "tasks.rating"),
        (lambda frame: frame.with_columns(rating=pl.lit(float("inf"))), "tasks.rating: label inf in row 1"),
        (lambda frame: frame.with_columns(year=pl.lit("soon")), "year"),
    ],
    ids=["no genres", "no item", "click of 2", "click of -1", "rating in words", "endless rating", "year in words"],
)
def test_rows_it_cannot_read_are_one_line(bundle: Bundle, change: object, what: str) -> None:
    assert callable(change)
    with pytest.raises(UserError) as told:
        bundle.adapt(change(rows()))
    assert what in str(told.value)
    assert "\n" not in str(told.value)


def test_a_bundle_without_a_ladder_says_so(bundle: Bundle) -> None:
    with pytest.raises(UserError, match=r"bundle: has no ladder; train it with \[episodes\]"):
        replace(bundle, ladder=None).adapt(rows())


def test_odd_rows_are_defined(bundle: Bundle) -> None:
    """Ratings far off, rows twice, items and values nobody knows, no attributes: numbers all the same, and a row twice counts twice."""
    frame, _ = asked(bundle)
    batch = encoded(frame, bundle.encoder)
    odd = {
        "loud": rows().with_columns(rating=pl.lit(1e30)),
        "twice": pl.concat([rows(), rows()]),
        "unknown": rows().with_columns(item=pl.lit("new"), age=pl.lit("new"), genres=pl.lit(["new"])),
        "bare": rows().with_columns(age=pl.lit(None, pl.String), genres=pl.lit(None, pl.List(pl.String)), year=pl.lit(None, pl.Float64)),
    }
    for one in (bundle, stepping(bundle)):
        for name, support in odd.items():
            state = one.adapt(support)
            assert state.rows == support.height, name
            assert np.isfinite(one.predict(batch, state)).all(), name
    single, double = bundle.adapt(rows(count=1)).lean, bundle.adapt(pl.concat([rows(count=1)] * 2)).lean
    assert single is not None
    assert double is not None
    assert not torch.allclose(single, double)


def test_it_is_saved_and_loaded_with_its_ladder(table: Table, bundle: Bundle, tmp_path: Path) -> None:
    frame, _ = asked(bundle)
    for name, one in {"head": bundle, "steps": stepping(bundle)}.items():
        one.save(tmp_path / name, golden=table.golden())
        back = Bundle.load(tmp_path / name)
        assert back.ladder is not None
        batch = encoded(frame, back.encoder)
        assert np.array_equal(back.predict(batch, back.adapt(rows())), one.predict(batch, one.adapt(rows()))), name
    replace(bundle, ladder=None).save(tmp_path / "none", golden=table.golden())
    assert Bundle.load(tmp_path / "none").ladder is None


def test_a_ladder_that_was_changed_is_refused(table: Table, bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "bundle", golden=table.golden())
    path = tmp_path / "bundle" / "ladder.json"
    path.write_text(path.read_text().replace('"head": 1', '"head": 0'))
    with pytest.raises(UserError, match=r"ladder\.json: is truncated or changed"):
        Bundle.load(tmp_path / "bundle")


def test_64_threads_leave_everything_as_it_was(table: Table, bundle: Bundle, tmp_path: Path) -> None:
    """The files, the weights, and what each user gets, whichever rung the threads are on."""
    bundle.save(tmp_path / "bundle", golden=table.golden())
    before = digest(tmp_path / "bundle")
    back = Bundle.load(tmp_path / "bundle")
    weights = {name: one.clone() for name, one in back.model.state_dict().items()}
    bundles = (back, stepping(back))
    frame, _ = asked(back)
    batch = encoded(frame, back.encoder)
    alone = [[one.predict(batch, one.adapt(rows(user))) for user in range(12)] for one in bundles]

    def same(number: int) -> bool:
        kind, user = number % 2, number % 12
        return np.array_equal(bundles[kind].predict(batch, bundles[kind].adapt(rows(user))), alone[kind][user])

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(same, range(192)))
    assert digest(tmp_path / "bundle") == before
    assert all(torch.equal(one, weights[name]) for name, one in back.model.state_dict().items())
    assert all(one.grad is None for one in back.model.parameters())


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_rows_without_labels_asked_for_are_unseen(bundle: Bundle) -> None:
    assert not encoded(rows(), bundle.encoder).seen.any()
    batch = encoded(rows(), bundle.encoder, labels=True)
    assert batch.seen.all()
    assert batch.labels[:, 0].tolist() == rows()["rating"].to_list()
    assert batch.labels[:, 1].tolist() == rows()["click"].to_list()

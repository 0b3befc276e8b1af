"""What converters of public logs share, by hand: text of `::`, tables, whole numbers, ratings, keys, scenarios, and the command."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from umbel.data.sources import convert
from umbel.data.sources.scenarios import BOTH_COLD, ITEM_COLD, NEW_SEED, NEW_USERS, SCENARIOS, TRAIN, USER_COLD, WARM, drawn, part, scenario
from umbel.errors import UserError

AGAIN = "unpack the owners' file again"
LAYOUT = pl.DataFrame(schema={"user": pl.Int64, "rating": pl.Float64})
HERE = Path("log.dat")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"", []),
        (b"1::a", [("1", "a")]),
        (b"1::a\n", [("1", "a")]),
        (b"1::a\r\n2::b\r\n", [("1", "a"), ("2", "b")]),
        (b"1::\n::b\n", [("1", ""), ("", "b")]),
        (b"1::a:b\n", [("1", "a:b")]),
        (b"\xef\xbb\xbf1::a\n", [("1", "a")]),
        ("1::é\n".encode(), [("1", "é")]),
        ("1::é\n".encode("latin-1"), [("1", "é")]),
        ("1::東京\n".encode(), [("1", "東京")]),
    ],
)
def test_lines_are_text_between_colons(tmp_path: Path, content: bytes, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / "users.dat"
    path.write_bytes(content)
    found = convert.lines(path, ["id", "name"])
    assert found.schema == {"id": pl.String, "name": pl.String}
    assert found.rows() == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n", "line 1: 1 values, not 2"),
        ("1::a\n2::b::c\n", "line 2: 3 values, not 2"),
        ("1::a\n\n2::b\n", "line 2: 1 values, not 2"),
        ("1::a\n2::b\n\n", "line 3: 1 values, not 2"),
        ("1::a\n2;b\n3\n", "line 2: 1 values, not 2"),
    ],
)
def test_a_line_with_more_or_fewer_values_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "users.dat"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        convert.lines(path, ["id", "name"])
    assert str(caught.value) == f"{path}, {said}; {AGAIN}"


def test_a_table_has_the_columns_of_its_layout_in_its_order_and_types(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"more": ["x"], "rating": [4], "user": ["7"]}).write_parquet(path)
    assert_frame_equal(convert.table(path, LAYOUT), pl.DataFrame({"user": [7], "rating": [4.0]}))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pl.DataFrame({"user": [1]}), "no column 'rating'; known: user"),
        (pl.DataFrame({"user": [1], "ratings": [1.0]}), "no column 'rating'; did you mean 'ratings'?"),
        (pl.DataFrame({"user": ["u1"], "rating": [1.0]}), "u1"),
    ],
)
def test_a_table_that_lacks_something_is_named(tmp_path: Path, frame: pl.DataFrame, said: str) -> None:
    path = tmp_path / "log.parquet"
    frame.write_parquet(path)
    with pytest.raises(UserError) as caught:
        convert.table(path, LAYOUT)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="no such file; name the folder of the owners' files"):
            convert.lines(path, ["id"])
        with pytest.raises(UserError, match="no such file; name the folder of the owners' files"):
            convert.table(path, LAYOUT)


def test_text_becomes_whole_numbers_and_others_stay() -> None:
    frame = pl.DataFrame({"a": ["7", "-3", None], "b": ["x", "y", "z"]})
    assert_frame_equal(convert.whole(frame, HERE, ["a"]), pl.DataFrame({"a": [7, -3, None], "b": ["x", "y", "z"]}))


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (["1", "x"], ["1", "1"], "row 2: 'x' in 'a' is no whole number"),
        (["1", "2"], ["", "1"], "row 1: '' in 'b' is no whole number"),
        (["1", "2.5"], ["1", "y"], "row 2: '2.5' in 'a' is no whole number"),
        ([None, "99999999999999999999"], ["1", "1"], "row 2: '99999999999999999999' in 'a' is no whole number"),
    ],
)
def test_text_that_is_no_whole_number_is_named_with_its_row(a: list[str | None], b: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        convert.whole(pl.DataFrame({"a": a, "b": b}), HERE, ["a", "b"])
    assert str(caught.value) == f"log.dat, {said}; {AGAIN}"


def test_ratings_of_the_scale_are_small_whole_numbers() -> None:
    found = convert.rated(pl.DataFrame({"user": [1, 2], "rating": [1.0, 5.0]}), HERE, low=1, high=5)
    assert_frame_equal(found, pl.DataFrame({"user": [1, 2], "rating": pl.Series([1, 5], dtype=pl.Int8)}))


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        ([3.0, 0.0], "log.dat, row 2: a rating of 0.0; ratings are whole, from 1 to 5"),
        ([6.0, 0.0], "log.dat, row 1: a rating of 6.0; ratings are whole, from 1 to 5"),
        ([3.0, 3.5], "log.dat, row 2: a rating of 3.5; ratings are whole, from 1 to 5"),
        ([3.0, float("nan")], "log.dat, row 2: a rating of nan; ratings are whole, from 1 to 5"),
        ([None, 3.0], f"log.dat, row 1: no rating; {AGAIN}"),
    ],
)
def test_a_rating_off_the_scale_is_named_with_its_row(ratings: list[float | None], said: str) -> None:
    with pytest.raises(UserError) as caught:
        convert.rated(pl.DataFrame({"user": [1, 2], "rating": ratings}), HERE, low=1, high=5)
    assert str(caught.value) == said


def test_a_row_without_a_user_has_no_rating() -> None:
    with pytest.raises(UserError, match=r"log\.dat, row 2: no user"):
        convert.rated(pl.DataFrame({"user": [1, None], "rating": [9.0, 3.0]}), HERE, low=1, high=5)


@pytest.mark.parametrize(("keys", "order"), [([3, 1, 2], [1, 2, 3]), ([5], [5]), ([], [])])
def test_a_key_orders_its_rows(keys: list[int], order: list[int]) -> None:
    assert convert.keyed(pl.DataFrame({"id": pl.Series(keys, dtype=pl.Int64)}), HERE, "id")["id"].to_list() == order


@pytest.mark.parametrize(("keys", "row", "key"), [([1, 2, 2], 2, 2), ([4, 1, 4], 1, 4), ([1, None], 2, None)])
def test_a_key_that_two_share_or_one_lacks_is_named(keys: list[int | None], row: int, key: int | None) -> None:
    with pytest.raises(UserError) as caught:
        convert.keyed(pl.DataFrame({"id": keys}), HERE, "id")
    assert str(caught.value) == f"log.dat, row {row}: id {key!r} is missing or stands twice; keep one row of each"


# the command


def good(folder: Path, out: Path) -> None:
    """Say nothing of it. Convert one table."""
    out.mkdir()
    convert.leave({"b": pl.DataFrame({"x": [1]}), "a": pl.DataFrame({"x": [2]})}, out)
    (out / "note.txt").write_text(folder.name)


def bad(folder: Path, out: Path) -> None:
    """Refuse."""
    raise UserError(f"{folder}: empty, {out} too", mend="fill it")


def test_a_converter_names_what_it_left_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert convert.door(good, ["raw", "-o", str(out)]) == 0
    assert capsys.readouterr() == (f"{out / 'a.parquet'}\n{out / 'b.parquet'}\n", "")
    assert pl.read_parquet(out / "a.parquet")["x"].to_list() == [2]
    assert (out / "note.txt").read_text() == "raw"


def test_a_converter_says_in_one_line_what_can_be_mended(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.door(bad, ["raw", "-o", "made"]) == 2
    assert capsys.readouterr() == ("", "umbel: raw: empty, made too; fill it\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "FOLDER"),
        (["raw"], 2, "-o"),
        (["raw", "-o"], 2, "-o"),
        (["raw", "more", "-o", "made"], 2, "more"),
        (["--help"], 0, "Refuse."),
    ],
)
def test_a_converter_told_wrong(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        convert.door(bad, words)
    assert ended.value.code == code
    told = capsys.readouterr()
    assert said in told.out + told.err


# scenarios


@pytest.mark.parametrize(("share", "all_of"), [(0.0, False), (1.0, True)])
def test_a_share_of_none_or_all(share: float, all_of: bool) -> None:
    assert set(drawn(pl.Series("u", range(200)), share, seed=3)) == {all_of}


def test_a_draw_keeps_its_name_and_its_seeds_apart() -> None:
    users = pl.Series("user", range(2_000))
    first, other = drawn(users, 0.5, seed=1), drawn(users, 0.5, seed=2)
    assert first.name == "user"
    assert first.dtype == pl.Boolean
    assert 850 < (first == other).sum() < 1_150  # two fair coins agree half of the time
    assert_series_equal(first.filter(users < 100), drawn(users.head(100), 0.5, seed=1))


def test_the_two_that_may_be_new_make_four_corners() -> None:
    users = pl.Series(range(400))
    stranger = drawn(users, NEW_USERS, seed=NEW_SEED)
    for new, fresh, known in ((True, BOTH_COLD, {ITEM_COLD}), (False, USER_COLD, {TRAIN, WARM})):
        found = scenario(users, users, pl.Series([new] * 400))
        assert set(found.filter(stranger)) == {fresh}
        assert set(found.filter(~stranger)) == known


def test_parts_follow_scenarios() -> None:
    users = pl.Series([1] * len(SCENARIOS))
    found = part(pl.Series(SCENARIOS), users).to_list()
    assert found[0] in ("train", "valid")
    assert found[1:] == ["test"] * 4

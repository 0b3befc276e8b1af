"""The run file: what it says comes back, and what is wrong with it is said in one line."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from umbel.data.episodes import FIRST_TEN, LAST_TEN, Protocol
from umbel.errors import UserError
from umbel.run.episodic import EpisodeSection
from umbel.run.settings import ColumnSplit, Settings, TimeSplit, UserSplit, read

WHOLE = """
[data]
log = "log.parquet"
user = "user_id"
time = "time_ms"
[[data.join]]
table = "users.parquet"
on = "user_id"
[fields.user_id]
kind = "id"
[fields.hour]
kind = "category"
sql = "FLOOR(hourmin / 100)"
[tasks.click]
label = "is_click"
[split]
by = "time"
valid = 2022-05-03
test = 2022-05-04
[model]
recipe = "stem"
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(WHOLE)
    return path


def edited(path: Path, before: str, after: str) -> Path:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return path


def test_what_it_says(run_file: Path) -> None:
    settings = read(run_file)
    assert settings.data.user == "user_id"
    assert settings.data.join[0].on == "user_id"
    assert isinstance(settings.split, TimeSplit)
    assert settings.split.valid == date(2022, 5, 3)
    assert list(settings.fields) == ["user_id", "hour"]
    assert settings.fit.epochs == 15


def test_the_resolved_file_reads_back_the_same(run_file: Path, tmp_path: Path) -> None:
    settings = read(run_file, ["fit.rate=0.01", "model.expert=[32, 16]"])
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(settings.to_toml())
    assert read(resolved) == settings
    assert read(resolved).to_toml() == settings.to_toml()


def test_set_overrides_one_key(run_file: Path) -> None:
    settings = read(run_file, ["fit.epochs=3", "model.recipe=mmoe", "data.log=other file.csv", "tasks.like.label=is_like"])
    assert settings.fit.epochs == 3
    assert settings.model.recipe == "mmoe"
    assert settings.data.log == "other file.csv"
    assert settings.tasks["like"].label == "is_like"


def test_the_other_splits(run_file: Path) -> None:
    split = 'by = "time"\nvalid = 2022-05-03\ntest = 2022-05-04'
    edited(run_file, split, 'by = "user"\nvalid = 0.1\ntest = 0.2')
    assert read(run_file).split == UserSplit(by="user", valid=0.1, test=0.2)
    edited(run_file, 'by = "user"\nvalid = 0.1\ntest = 0.2', 'by = "column"\ncolumn = "part"')
    assert read(run_file).split == ColumnSplit(by="column", column="part")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('user = "user_id"', 'usr = "user_id"', "unknown key 'data.usr'; did you mean 'user'?"),
        ("[split]", "[splitt]", "unknown key 'splitt'; did you mean 'split'?"),
        ('recipe = "stem"', 'recipe = "stem"\ndims = 3', "unknown key 'model.dims'; did you mean 'dim'?"),
        ('kind = "id"', 'kind = "id"\nmincount = 3', "unknown key 'fields.user_id.mincount'; did you mean 'min_count'?"),
        ('label = "is_click"', 'lable = "is_click"', "unknown key 'tasks.click.lable'; did you mean 'label'?"),
        ("test = 2022-05-04", "tset = 2022-05-04", "unknown key 'split.tset'; did you mean 'test'?"),
        ("test = 2022-05-04\n", "", "'split.test' is missing; add test to [split]"),
        ('on = "user_id"', 'on = "user_id"\ntme = "t"', "unknown key 'data.join.0.tme'; did you mean 'time'?"),
        ('log = "log.parquet"\n', "", "'data.log' is missing; add log to [data]"),
        ('kind = "id"', 'kind = "idd"', "fields.user_id.kind = 'idd'"),
        ('recipe = "stem"', 'recipe = "stem"\ndim = 0', "model.dim = 0"),
        ('by = "time"', 'by = "tiem"', "split"),
    ],
)
def test_what_is_wrong(run_file: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(edited(run_file, before, after))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_file(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"PAR1\x84")
    with pytest.raises(UserError, match=r"log\.parquet: is no text; a run file is TOML in UTF-8$"):
        read(tmp_path / "log.parquet")
    with pytest.raises(UserError, match="no such run file"):
        read(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[data\n")
    with pytest.raises(UserError, match="a run file is TOML"):
        read(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        read(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("fit.epochs", "not section.key=value"),
        ("=3", "not section.key=value"),
        ("data.log.x=3", "'log' is not a section"),
        ("fit.epochz=3", "unknown key 'fit.epochz'; did you mean 'epochs'?"),
        ("fit.epochs=many", "fit.epochs = 'many'"),
    ],
)
def test_a_wrong_change(run_file: Path, change: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(run_file, [change])
    assert message in str(caught.value)


NUMBERS = [
    "fit.rate", "fit.l2", "fit.clip", "fit.minutes", "tasks.click.weight", "compare.margin", "compare.rates", "model.dropout",
]  # fmt: skip


@pytest.mark.parametrize("number", ["inf", "nan", "-inf"])
@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_that_is_not_finite_is_refused(run_file: Path, key: str, number: str) -> None:
    with pytest.raises(UserError) as caught:
        read(run_file, [f"{key}=[1e-3, {number}]" if key == "compare.rates" else f"{key}={number}"])
    assert f"{key}.1 = {number}" in str(caught.value) if key == "compare.rates" else f"{key} = {number}" in str(caught.value)
    assert "input should be a finite number" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_expert_has_a_layer(run_file: Path) -> None:
    """Without one a recipe has nothing to mix; a tower and a gate may have none of their own."""
    with pytest.raises(UserError, match=r"model\.expert = \[\]; tuple should have at least 1 item") as caught:
        read(run_file, ["model.expert=[]"])
    assert "\n" not in str(caught.value)
    assert read(run_file, ["model.tower=[]", "model.gate=[]", "model.expert=[1]"]).model.expert == (1,)


@pytest.mark.parametrize("share", ["inf", "nan"])
def test_a_share_of_users_is_finite_too(run_file: Path, share: str) -> None:
    split = 'by = "time"\nvalid = 2022-05-03\ntest = 2022-05-04'
    with pytest.raises(UserError, match=rf"split\.valid = {share}; input should be a finite number"):
        read(edited(run_file, split, f'by = "user"\nvalid = {share}\ntest = 0.2'))


def test_settings_are_frozen(run_file: Path) -> None:
    settings = read(run_file)
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, "fit", settings.fit)  # noqa: B010
    assert isinstance(settings, Settings)


@pytest.mark.parametrize(("given", "protocol"), [
    ({}, FIRST_TEN), ({"query": 10}, LAST_TEN), ({"query": None}, FIRST_TEN), ({"support": None, "query": 10}, LAST_TEN),
    ({"support": 3, "query": 4}, Protocol(3, 4)), ({"support": 3}, Protocol(3, None)),
])
def test_what_is_left_out_of_an_episode_is_the_rest(run_file: Path, tmp_path: Path, given: dict[str, Any], protocol: Protocol) -> None:
    """Both of the literature's protocols can be said, and come back from the resolved file."""
    made = EpisodeSection(**given)
    assert made.protocol() == protocol
    whole = read(run_file).model_copy(update={"episodes": made})
    (tmp_path / "resolved.toml").write_text(whole.to_toml())
    again = read(tmp_path / "resolved.toml").episodes
    assert again == made
    assert again is not None
    assert again.protocol() == protocol


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_examples_of_ratings_tell_their_scale() -> None:
    """The scales of the owners' ratings, so that a label outside is refused and a service knows what a rating is."""
    files = {path.stem: read(path) for path in EXAMPLES.glob("*.toml")}
    rated = {name: [task.range for task in one.tasks.values()] for name, one in files.items() if one.episodes is not None}
    assert rated == {"movielens": [(1, 5)], "book-crossing": [(1, 10)]}

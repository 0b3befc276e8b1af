"""Whose folder it is: a run claims a new one, finds its own again, and leaves every other alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from umbel import durable
from umbel.errors import UserError
from umbel.run import run
from umbel.run.run import LIBRARIES, claim, peak_memory
from umbel.run.settings import Settings, parse, read


def settings(*, rate: float = 0.01, seed: int = 1, **task: object) -> Settings:
    tree: dict[str, object] = {
        "data": {"log": "log.parquet", "join": [{"table": "users.parquet", "on": "user"}]},
        "fields": {"user": {"kind": "id"}},
        "tasks": {"click": task},
        "split": {"by": "user", "valid": 0.1, "test": 0.1},
        "model": {"recipe": "stem"},
        "fit": {"rate": rate, "seed": seed},
    }
    return parse(tree, where="here")


def start(bundle: str) -> Settings:
    made = settings()
    return made.model_copy(update={"fit": made.fit.model_copy(update={"start": bundle})})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("empty", [False, True])
def test_a_new_folder_is_claimed(tmp_path: Path, *, empty: bool) -> None:
    folder = tmp_path / "deep" / "run"
    if empty:
        folder.mkdir(parents=True)
    claim(settings(seed=4), folder)
    assert names(folder) == {"run.toml", "made.json"}
    assert read(folder / "run.toml") == settings(seed=4)
    made = json.loads((folder / "made.json").read_text())
    assert made["seed"] == 4
    assert set(made["versions"]) == {"python", *LIBRARIES}


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    claim(settings(), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "made.json").read_text())["commit"] is None


def test_where_git_is_not_installed_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    claim(settings(), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "made.json").read_text())["commit"] is None


def test_a_run_that_made_nothing_may_be_mended(tmp_path: Path) -> None:
    claim(settings(rate=0.01), tmp_path)
    claim(settings(rate=0.02), tmp_path)
    assert read(tmp_path / "run.toml").fit.rate == 0.02


def test_a_table_that_was_made_beforehand_is_taken(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "run.toml").write_text(settings(rate=0.5).to_toml())
    claim(settings(), tmp_path)
    assert names(tmp_path) == {"run.toml", "made.json", "table"}
    assert read(tmp_path / "run.toml") == settings()


def test_the_table_of_another_log_is_not(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "run.toml").write_text(settings(label="is_click").to_toml())
    with pytest.raises(UserError, match="label = 'is_click' there"):
        claim(settings(), tmp_path)
    assert names(tmp_path) == {"table"}


def failed(folder: Path, own: Settings) -> None:
    """A run that was refused after it had made its table."""
    claim(own, folder)
    (folder / "table").mkdir()
    (folder / "table" / "run.toml").write_text(own.to_toml())


@pytest.mark.parametrize("mended", [settings(label="is_click"), settings(given="like"), start("runs/a/bundle")])
def test_a_run_that_trained_nothing_makes_the_table_of_its_mended_file(tmp_path: Path, mended: Settings) -> None:
    failed(tmp_path, settings())
    claim(mended, tmp_path)
    assert names(tmp_path) == {"run.toml", "made.json"}, "nothing is left of the table, beside it neither"
    assert read(tmp_path / "run.toml") == mended


def test_a_run_that_trained_nothing_keeps_a_table_that_it_would_make_again(tmp_path: Path) -> None:
    failed(tmp_path, settings())
    claim(settings(rate=0.5), tmp_path)
    assert names(tmp_path) == {"run.toml", "made.json", "table"}
    assert read(tmp_path / "run.toml") == settings(rate=0.5)


def test_a_table_goes_before_the_run_file_is_the_mended_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between, it is still the run of that table."""
    failed(tmp_path, settings())

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(durable, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            claim(settings(label="is_click"), tmp_path)
    assert read(tmp_path / "run.toml") == settings()
    assert names(tmp_path) == {"run.toml", "made.json"}


@pytest.mark.parametrize("trained", ["checkpoint", "log.jsonl", "bundle", "letter.txt"])
def test_a_table_of_a_run_that_trained_something_stays(tmp_path: Path, trained: str) -> None:
    failed(tmp_path, settings())
    (tmp_path / trained).touch()
    with pytest.raises(UserError, match="holds a run of other settings"):
        claim(settings(label="is_click"), tmp_path)
    assert names(tmp_path) == {"run.toml", "made.json", "table", trained}


@pytest.mark.parametrize("beside", ["run.toml", "table"])
def test_a_table_among_other_things_is_no_run(tmp_path: Path, beside: str) -> None:
    """Neither is a folder with a table of which nobody knows what it was made from."""
    (tmp_path / "table").mkdir()
    if beside == "run.toml":
        (tmp_path / "table" / "run.toml").write_text(settings().to_toml())
        (tmp_path / "letter.txt").touch()
    with pytest.raises(UserError, match="exists and is not a run"):
        claim(settings(), tmp_path)


def test_a_run_finds_itself_and_rewrites_nothing(tmp_path: Path) -> None:
    claim(settings(), tmp_path)
    (tmp_path / "checkpoint").mkdir()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    claim(settings(), tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (settings(rate=0.5), "fit.rate = 0.01 there, 0.5 here"),
        (settings(seed=2), "fit.seed = 1 there, 2 here"),
        (settings(label="is_click"), "tasks.click.label = not set there, 'is_click' here"),
        (settings(weight=2.0), "tasks.click.weight = 1.0 there, 2.0 here"),
    ],
)
def test_another_run_is_told_its_first_difference(tmp_path: Path, other: Settings, said: str) -> None:
    claim(settings(), tmp_path)
    (tmp_path / "log.jsonl").touch()
    before = (tmp_path / "run.toml").read_bytes()
    with pytest.raises(UserError) as caught:
        claim(other, tmp_path)
    assert str(caught.value) == f"{tmp_path}: holds a run of other settings ({said}); name another folder with -o"
    assert (tmp_path / "run.toml").read_bytes() == before


def test_a_key_that_only_one_of_them_has_is_a_difference() -> None:
    one = settings()
    more = one.model_copy(update={"tasks": {**one.tasks, "like": one.tasks["click"]}})
    assert run._difference(one, more) == "tasks.like.kind = not set there, 'binary' here"
    assert run._difference(more, one) == "tasks.like.kind = 'binary' there, not set here"


@pytest.mark.parametrize("name", ["letter.txt", "report.json", "made.jsonx", "table"])
def test_what_is_no_run_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="exists and is not a run; name another folder with -o"):
        claim(settings(), tmp_path)
    assert names(tmp_path) == {name}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="run: is a file; name a folder with -o"):
        claim(settings(), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("half", [".run.toml.abcd1234.umbel-part", ".made.json.0f_9zzzz.umbel-part"])
def test_a_claim_killed_in_the_middle_may_be_made_again(tmp_path: Path, half: str) -> None:
    (tmp_path / half).write_text("[da")
    claim(settings(), tmp_path)
    assert read(tmp_path / "run.toml") == settings()


def test_a_broken_run_file_in_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[data\n")
    (tmp_path / "table").mkdir()
    with pytest.raises(UserError, match=r"run\.toml: .*a run file is TOML"):
        claim(settings(), tmp_path)


def test_flat_trees() -> None:
    assert run._flat({}) == {}
    assert run._flat({"a": {"b": {"c": 1}, "d": (2,)}, "e": None}) == {"a.b.c": 1, "a.d": (2,), "e": None}


def test_peak_memory_is_in_bytes() -> None:
    """As the kernel tells it, in kilobytes."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert peak_memory() == pytest.approx(1024 * int(status["VmHWM"].split()[0]), rel=0.05)

"""The [tune] section: choices and ranges under dotted keys, however they are written, and what is said of those that are neither."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from umbel.errors import UserError
from umbel.run.settings import Settings, parse, read
from umbel.run.tuning import RangeSection, TuneSection

BASE: dict[str, Any] = {
    "data": {"log": "log.parquet"},
    "fields": {"user": {"kind": "id"}},
    "tasks": {"click": {}},
    "split": {"by": "user", "valid": 0.1, "test": 0.1},
    "model": {"recipe": "stem"},
}


def section(text: str) -> TuneSection:
    return parse({**BASE, **tomllib.loads(text)}, where="run.toml").tune


def refused(text: str) -> str:
    with pytest.raises(UserError) as caught:
        section(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_section_the_mean_is_sought_in_the_usual_space() -> None:
    assert section("") == TuneSection()
    assert TuneSection().objectives == ("mean",)
    assert TuneSection().prune
    assert TuneSection().space == {}


def test_a_range_and_choices() -> None:
    found = section("""
        [tune.space]
        "fit.rate" = { low = 1e-4, high = 1e-2, log = true }
        "model.recipe" = ["mmoe", "stem"]
    """)
    assert found.space == {"fit.rate": RangeSection(low=1e-4, high=1e-2, log=True), "model.recipe": ("mmoe", "stem")}


@pytest.mark.parametrize(
    "text",
    [
        '[tune.space]\n"fit.rate" = { low = 1, high = 2 }',
        "[tune.space]\nfit.rate = { low = 1, high = 2 }",
        "[tune.space.fit]\nrate = { low = 1, high = 2 }",
        "[tune.space.fit.rate]\nlow = 1\nhigh = 2",
        '[tune.space."fit.rate"]\nlow = 1\nhigh = 2',
    ],
)
def test_a_dotted_key_may_be_quoted_or_not(text: str) -> None:
    assert section(text).space == {"fit.rate": RangeSection(low=1, high=2)}


def test_keys_of_three_steps() -> None:
    found = section("[tune.space]\nbalance.weights.click = [1, 2]\ntasks.click.loss = ['likelihood']")
    assert found.space == {"balance.weights.click": (1, 2), "tasks.click.loss": ("likelihood",)}


def test_choices_keep_their_types() -> None:
    found = section("[tune.space]\nx = [1, 1.5, true, 'a', [64, 32], { name = 'focal', gamma = 2.0 }]")
    values = found.space["x"]
    assert isinstance(values, tuple)
    assert list(map(type, values)) == [int, float, bool, str, tuple, dict]
    assert values[4] == (64, 32)


def test_a_change_on_the_command_line_sets_a_range(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(parse(BASE, where="here").to_toml())
    found = read(path, ["tune.space.fit.rate={ low = 1e-4, high = 1e-2 }", "tune.space.model.dim=[4, 8]", "tune.objectives=['click']"])
    assert found.tune.space == {"fit.rate": RangeSection(low=1e-4, high=1e-2), "model.dim": (4, 8)}
    assert found.tune.objectives == ("click",)


def test_it_comes_back_from_its_toml() -> None:
    before = parse({**BASE, "tune": {"space": {"fit.rate": {"low": 1, "high": 2.5}, "model.expert": [[4], [8, 4]]}}}, where="here")
    after = parse(tomllib.loads(before.to_toml()), where="there")
    assert after == before
    assert isinstance(after, Settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tune.space]\nfit.rate = { low = 2, high = 1 }", "tune.space.fit.rate = {'low': 2, 'high': 1}; value error, low must be below"),
        ("[tune.space]\nfit.rate = { low = 1, high = 1 }", "low must be below high"),
        ("[tune.space]\nfit.rate = { low = 0, high = 1, log = true }", "a logarithmic range starts above 0"),
        ("[tune.space]\nfit.rate = { low = 1, hihg = 2 }", "unknown key 'tune.space.fit.rate.hihg'; did you mean 'high'?"),
        ("[tune.space]\nfit.rate = { low = 1 }", "'tune.space.fit.rate.high' is missing; add high to [tune.space.fit.rate]"),
        ("[tune.space]\nfit.rate = { low = 1, high = inf }", "tune.space.fit.rate.high"),
        ("[tune.space]\nfit.rate = []", "tune.space.fit.rate = []"),
        ("[tune.space]\nfit.rate = 3", "tune.space.fit.rate = 3"),
        ("[tune.space]\nfit.rate = { low = 'a', high = 'b' }", "tune.space.fit.rate.low"),
        ("[tune]\nspace = 3", "tune.space = 3"),
        ("[tune]\nspaec = {}", "unknown key 'tune.spaec'; did you mean 'space'?"),
        ("[tune]\nobjectives = []", "tune.objectives = []"),
        ("[tune]\nobjectives = 'mean'", "tune.objectives = 'mean'"),
        ("[tune]\nprune = 'no, thanks'", "tune.prune"),
    ],
)
def test_what_is_neither_is_named_with_its_place(text: str, said: str) -> None:
    message = refused(text)
    assert said in message
    assert message.startswith("run.toml: ")


def test_no_other_verb_minds_a_space() -> None:
    found = parse({**BASE, "tune": {"space": {"no.such.key": [1]}}}, where="here")
    assert found.tune.space == {"no.such.key": (1,)}

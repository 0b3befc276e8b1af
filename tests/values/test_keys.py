"""docs/keys.md has every key of a run file with its default and its choices, and docs/service.md everything that serving takes."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from umbel.balance.named import BALANCERS, takes_of
from umbel.chosen import choose
from umbel.coldstart.methods import METHODS
from umbel.expression import FUNCTIONS, OPERATORS, TYPES, WORDS
from umbel.kinds import TASK_KINDS
from umbel.learn.schedules import SCHEDULES
from umbel.nn.interact import INTERACTS
from umbel.nn.routing import PARADIGMS
from umbel.nn.sequence import SEQUENCES
from umbel.objectives import OBJECTIVES
from umbel.recipes import RECIPES, taken
from umbel.run import settings
from umbel.run.feeding import RuleSection
from umbel.run.section import Section
from umbel.run.settings import Settings
from umbel.serve.http.keys import Scope
from umbel.serve.http.told import Told

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "keys.md").read_text(encoding="utf-8")
CHAPTERS = dict(re.findall(r"^## `(\[+[\w.]+\]+)`[^\n]*\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
SPLITS = (settings.TimeSplit, settings.UserSplit, settings.ColumnSplit)
SECTIONS: Mapping[str, tuple[type[Section], ...]] = {
    "[[data.join]]": (settings.JoinSection,), "[fields.NAME]": (settings.FieldSection,), "[tasks.NAME]": (settings.TaskSection,),
    "[tasks.NAME.feedback]": (RuleSection,), "[split]": SPLITS, "[model.interact_sizes]": (settings.InteractSection,),
    "[model.sequence_sizes]": (settings.SequenceSection,), "[model.options]": (settings.OptionSection,),
}  # fmt: skip


def rows(chapter: str, header: str = "| key |") -> Iterator[list[str]]:
    """The cells of each row of the table that is headed so."""
    body = CHAPTERS[chapter].split(header)[1].split("\n\n")[0]
    for line in body.splitlines()[2:]:
        yield re.split(r" *\| *", line.strip(" |"))


def told(chapter: str) -> dict[str, str]:
    """What the page says of each key's default."""
    return {row[0].strip("` "): row[1].strip() for row in rows(chapter)}


def sections() -> Iterator[tuple[str, Mapping[str, FieldInfo]]]:
    for chapter, kinds in SECTIONS.items():
        yield chapter, {name: one for kind in kinds for name, one in kind.model_fields.items()}
    for name, one in Settings.model_fields.items():
        for kind in (one.annotation, *get_args(one.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section) and name not in ("fields", "tasks", "split"):
                yield f"[{name}]", kind.model_fields


ALL = dict(sections())


@pytest.mark.parametrize("chapter", ALL)
def test_every_key_is_told_and_no_other(chapter: str) -> None:
    assert sorted(told(chapter)) == sorted(ALL[chapter])


def test_there_is_no_other_chapter() -> None:
    assert set(CHAPTERS) == set(ALL)


def default(one: FieldInfo) -> Any:  # noqa: ANN401  (whatever a key holds)
    found = one.get_default(call_default_factory=True) if not one.is_required() else None
    return list(found) if isinstance(found, tuple) else found


@pytest.mark.parametrize("chapter", sorted(set(ALL) - {"[split]"}))
def test_defaults_are_those_of_the_code(chapter: str) -> None:
    """Where the page shows a value, it is the default; where the default is a value, the page shows it or words for it."""
    fields = ALL[chapter]
    for key, shown in told(chapter).items():
        try:
            value = json.loads(shown.strip("`"))
        except json.JSONDecodeError:
            continue
        # What a statistic takes by default stands with the statistic.
        assert default(fields[key]) == value or (chapter == "[fields.NAME]" and default(fields[key]) is None), key
    valued = {key for key, one in fields.items() if isinstance(default(one), bool | int | float | str) or default(one)}
    assert not [key for key in valued if not told(chapter)[key] and not isinstance(default(fields[key]), Section)]


def test_statistics_begin_as_told() -> None:
    statistic = settings.FieldSection(kind="statistic", by=("user",)).statistic("past", ("click",))
    assert statistic is not None
    shown = told("[fields.NAME]")
    assert {key: float(shown[key]) for key in ("prior", "window", "folds", "seed")} == {
        key: getattr(statistic, key) for key in ("prior", "window", "folds", "seed")
    }


@pytest.mark.parametrize(("header", "known"), [("| kind |", TASK_KINDS), ("| loss |", OBJECTIVES)])
def test_choices_of_a_task_are_all_there_with_their_parameters(header: str, known: Mapping[str, type[object]]) -> None:
    shown = {row[0].strip("`"): row[-1] if len(row) > 2 else "" for row in rows("[tasks.NAME]", header)}
    assert list(shown) == list(known)
    for name, parameters in shown.items():
        given = {key: json.loads(value) if value else 3 for key, value in re.findall(r"`(\w+)`(?: = (\[[^]]*\]|[\d.]+))?", parameters)}
        chosen = choose("here", {"name": name, **given}, known)
        assert {*given} == {one.name for one in dataclasses.fields(chosen)}  # type: ignore[arg-type]
        if all(" = " in one for one in parameters.split(", ") if one.startswith("`")):
            assert chosen == choose("here", name, known)


def test_schedules_are_told_with_all_they_take() -> None:
    """In the page of training; the examples there are as they must be written."""
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    part = page.split("## How the rate falls")[1].split("\n## ")[0]
    shown = re.findall(r'`(\{ name = "\w+"[^`]*\})`', part)
    examples = [tomllib.loads(f"it = {one}")["it"] for one in shown]
    assert {one["name"] for one in examples} == set(SCHEDULES)
    for one in examples:
        chosen = choose("here", one, SCHEDULES)
        assert {*one} - {"name"} == {each.name for each in dataclasses.fields(chosen)}  # type: ignore[arg-type]


def test_sql_is_told_word_by_word() -> None:
    shown = [set(re.findall(r"`([^`]+)`", cells[1])) for cells in rows("[fields.NAME]", "| of SQL |")]
    assert shown == [OPERATORS, WORDS, FUNCTIONS, TYPES]


def test_names_that_keys_may_have_are_all_there() -> None:
    model, balance = CHAPTERS["[model]"], CHAPTERS["[balance]"]
    places = (INTERACTS, model), (SEQUENCES, model), (PARADIGMS, model), (BALANCERS, balance), (METHODS, CHAPTERS["[episodes]"]), \
        (SCHEDULES, CHAPTERS["[fit]"])
    for known, text in places:
        assert [name for name in known if f"`{name}`" not in text and f'`"{name}"`' not in text] == []


def test_who_takes_a_setting_takes_it() -> None:
    """Balancers and recipes that are named beside a setting, and no others."""
    for key, _, text in rows("[balance]"):
        name = key.strip("`")
        takers = {one for one in BALANCERS if name in takes_of(one)}
        assert set(re.findall(r"`(\w+)`", text)) & set(BALANCERS) == takers or name in ("at", "scalar"), name
    for key, _, text in rows("[model.options]"):
        assert all(key.strip("`") in taken(one) for one in set(re.findall(r"`(\w+)`", text)) & set(RECIPES)), key


def told_as(value: object) -> str:
    """A default as a page has it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def test_every_scope_of_a_key_is_told() -> None:
    section = (DOCS / "service.md").read_text(encoding="utf-8").partition("## Keys, retention, pseudonyms\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [one.value for one in Scope]
    assert set(re.findall(r"--scope (\w+)", section)) <= set(Scope)


def test_everything_that_serve_takes_is_told() -> None:
    """Its settings with their defaults; two stand for those of the bundle."""
    page = (DOCS / "service.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `--(?:set )?(\w+)=?` \| (.*?) \|", page, re.MULTILINE))
    own = {one.name: told_as(one.default) for one in dataclasses.fields(Told) if one.name != "bundle"}
    assert shown == own | {"fusion": "the bundle's", "root": "of the bundle's run"}

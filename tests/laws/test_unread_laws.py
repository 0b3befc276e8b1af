"""Laws of settings that nothing reads: a key is refused if and only if it would change nothing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from umbel.errors import UserError
from umbel.nn import interact, sequence
from umbel.nn.recommender import Sizes
from umbel.recipes import MANY, RECIPES, SIZES, unsized
from umbel.run import ready, resolve
from umbel.run.settings import Settings, parse, read
from umbel.run.unread import OF_MODELS, OF_RUNS, as_read, check_read
from umbel.schema import REGRESSION, Field, FieldKind, Schema, Task
from umbel.study.entrants import entrants

ROOT = Path(__file__).parents[2]
RUN_FILES = [*sorted((ROOT / "examples").glob("*.toml")), *sorted((ROOT / "benchmarks").glob("*.toml"))]
FIELDS = (Field("user", FieldKind.ID), Field("item", FieldKind.ID), Field("tab", FieldKind.CATEGORY), Field("age", FieldKind.NUMBER))
TASKS = (Task("click"), Task("buy", given="click"), Task("spent", REGRESSION))
BASE: dict[str, Any] = {
    "data": {"log": "log.parquet", "user": "user", "item": "item", "time": "at"},
    "fields": {"user": {"kind": "id"}, "item": {"kind": "id"}, "age": {"kind": "number"}},
    "tasks": {"click": {}, "buy": {"given": "click"}},
    "split": {"by": "user", "valid": 0.1, "test": 0.1},
    "model": {"recipe": "mmoe"},
}
LIST: dict[str, Any] = {**BASE["fields"], "seen": {"kind": "sequence", "like": "item", "target": "item"}}


def told(**sections: Any) -> Settings:  # noqa: ANN401
    return parse({**BASE, **sections}, where="here")


def refused(**sections: Any) -> str:  # noqa: ANN401
    with pytest.raises(UserError) as caught:
        resolve.check(told(**sections))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# the table of sizes, held to the models


def shapes(recipe: str, sizes: Sizes) -> list[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        model = RECIPES[recipe](Schema(FIELDS, TASKS), sizes)
    return [(name, tuple(one.shape)) for name, one in model.named_parameters()]


@pytest.mark.parametrize("specific", [1, MANY])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_size_has_no_use_if_and_only_if_the_model_is_the_same_whatever_it_is(recipe: str, specific: int) -> None:
    """Of every recipe there is: one that is added later is held to its line, or to having a use for all."""
    small = Sizes({"user": 5, "item": 9, "tab": 3}, dim=4, expert=(8, 4), tower=(3,), specific=specific, shared=1)
    other: dict[str, Any] = {"specific": specific + 3, "shared": 4, "gate": (5,), "layers": 2}
    changes = {key for key, value in other.items() if shapes(recipe, replace(small, **{key: value})) != shapes(recipe, small)}
    assert changes == {*SIZES, "layers"} - unsized(recipe, specific)


class Asked:
    """Sizes that remember which of them were looked at."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def __getattr__(self, key: str) -> int:
        self.keys.add(key)
        return 2


@pytest.mark.parametrize(("made", "reads"), [(interact.INTERACTS, interact.READS), (sequence.SEQUENCES, sequence.READS)])
def test_pieces_look_at_the_sizes_that_they_are_said_to(made: Mapping[str, Any], reads: Mapping[str, frozenset[str]]) -> None:
    assert reads.keys() == made.keys()
    for name, make in made.items():
        asked = Asked()
        make(asked)
        assert asked.keys == reads[name], name


# what is refused, and what is taken

EPISODES: dict[str, Any] = {"episodes": {}}
CASES: dict[str, list[tuple[dict[str, Any], dict[str, Any], str]]] = {
    "model.specific": [({"model": {"recipe": "shared_bottom", "specific": 2}}, {"model": {"recipe": "alone", "specific": 2}},
                        "recipe 'shared_bottom' has no use for it; leave it out")],
    "model.shared": [({"model": {"recipe": "esmm", "shared": 0}}, {"model": {"recipe": "ple", "shared": 0}},
                      "recipe 'esmm' has no use for it; leave it out")],
    "model.gate": [
        ({"model": {"recipe": "snr_trans", "gate": [8]}}, {"model": {"recipe": "mmoe", "gate": [8]}}, "recipe 'snr_trans' has no use"),
        ({"model": {"recipe": "alone", "gate": [8]}}, {"model": {"recipe": "alone", "gate": [8], "specific": 2}},
         "a task of recipe 'alone' hears one expert, and needs none; raise model.specific, or leave it out"),
    ],
    "model.interact_sizes.layers": [({"model": {"recipe": "mmoe", "interact": "fm", "interact_sizes": {"layers": 3}}},
                                     {"model": {"recipe": "mmoe", "interact": "dcn", "interact_sizes": {"layers": 3}}},
                                     "interact 'fm' has no use for it; leave it out")],
    "model.interact_sizes.rank": [({"model": {"recipe": "mmoe", "interact_sizes": {"rank": 3}}},
                                   {"model": {"recipe": "mmoe", "interact": "dcn", "interact_sizes": {"rank": 3}}},
                                   "interact 'concatenate' has no use for it; leave it out")],
    "model.interact_sizes.hidden": [({"model": {"recipe": "mmoe", "interact": "dcn", "interact_sizes": {"hidden": 8}}},
                                     {"model": {"recipe": "mmoe", "interact": "masknet", "interact_sizes": {"hidden": 8}}},
                                     "interact 'dcn' has no use for it; leave it out")],
    "model.interact_sizes.heads": [({"model": {"recipe": "mmoe", "interact": "dcn", "interact_sizes": {"heads": 2}}},
                                    {"model": {"recipe": "mmoe", "interact": "autoint", "interact_sizes": {"heads": 2}}},
                                    "interact 'dcn' has no use for it; leave it out")],
    "model.sequence": [({"model": {"recipe": "mmoe", "sequence": "din"}}, {"fields": LIST, "model": {"recipe": "mmoe", "sequence": "din"}},
                        "no field is a bag or a sequence; leave it out")],
    "model.sequence_sizes.hidden": [({"fields": LIST, "model": {"recipe": "mmoe", "sequence_sizes": {"hidden": 8}}},
                                     {"fields": LIST, "model": {"recipe": "mmoe", "sequence": "din", "sequence_sizes": {"hidden": 8}}},
                                     "sequence 'mean' has no use for it; leave it out")],
    "model.sequence_sizes.layers": [({"model": {"recipe": "mmoe", "sequence_sizes": {"layers": 4}}},
                                     {"fields": LIST, "model": {"recipe": "mmoe", "sequence": "sasrec", "sequence_sizes": {"layers": 4}}},
                                     "sequence 'mean' has no use for it; leave it out")],
    "model.sequence_sizes.heads": [({"fields": LIST, "model": {"recipe": "mmoe", "sequence": "din", "sequence_sizes": {"heads": 2}}},
                                    {"fields": LIST, "model": {"recipe": "mmoe", "sequence": "sasrec", "sequence_sizes": {"heads": 2}}},
                                    "sequence 'din' has no use for it; leave it out")],
    "fit.balancer": [({**EPISODES, "fit": {"balancer": "pcgrad"}}, {"fit": {"balancer": "pcgrad"}}, "[episodes] trains a copy of the")],
    "fit.denominator": [({**EPISODES, "fit": {"denominator": "rows"}}, {"fit": {"denominator": "rows"}}, "rows of [episodes] are filled")],
    "fit.batch": [({**EPISODES, "fit": {"batch": 64}}, {"fit": {"batch": 64}}, "a step of [episodes] is of users; set episodes.users")],
    "fit.replay": [
        ({"fit": {"replay": 0.2}}, {"fit": {"replay": 0.2, "start": "bundle"}}, "no bundle has seen rows before; name it"),
        ({**EPISODES, "fit": {"replay": 0.2, "start": "bundle"}}, {**EPISODES, "fit": {"start": "bundle"}}, "[episodes] draws from all"),
    ],
    "compare.recipes": [({**EPISODES, "compare": {"recipes": ["stem"]}}, {"compare": {"recipes": ["stem"]}},
                         "with [episodes] methods are compared; name compare.methods, or leave [episodes] out")],
    "compare.variants": [({**EPISODES, "compare": {"variants": {"a": {"model": {"recipe": "stem"}}}}},
                          {"compare": {"variants": {"a": {"model": {"recipe": "stem"}}}}}, "with [episodes] methods are compared")],
    "compare.methods": [({"compare": {"methods": ["melu"]}}, {**EPISODES, "compare": {"methods": ["melu"]}},
                         "without [episodes] recipes are compared; add the section, or name compare.recipes")],
    "compare.against": [({"compare": {"against": ["melu"]}}, {**EPISODES, "compare": {"against": ["melu"]}},
                         "without [episodes] recipes are compared; add the section, or leave it out")],
}
EACH = [(key, *case) for key, cases in CASES.items() for case in cases]


def test_every_rule_is_tried() -> None:
    assert CASES.keys() == {rule.key for rule in (*OF_RUNS, *OF_MODELS)}
    assert len(EACH) == len((*OF_RUNS, *OF_MODELS))


@pytest.mark.parametrize(("key", "idle", "used", "why"), EACH)
def test_a_key_that_nothing_reads_is_refused_and_one_that_something_reads_is_not(
    key: str, idle: dict[str, Any], used: dict[str, Any], why: str
) -> None:
    assert refused(**idle).startswith(f"{key}: {why}")
    resolve.check(told(**used))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("sections", [{}, EPISODES])
def test_a_resolved_run_file_which_says_every_key_is_taken(recipe: str, sections: dict[str, Any]) -> None:
    """What says no more than its default is meant for nobody."""
    plain = told(model={"recipe": recipe}, **sections)
    written = parse(tomllib.loads(plain.to_toml()), where="there")
    assert len(written.model.model_fields_set) > len(plain.model.model_fields_set)
    check_read(written)
    resolve.check(written)


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.name)
def test_run_files_of_this_repository_are_taken(path: Path) -> None:
    settings = read(path)
    resolve.check(settings)
    if settings.episodes is not None:
        ready.check(settings)


def test_the_run_file_of_the_readme_is_taken() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    whole = [tree for tree in map(tomllib.loads, blocks) if {"data", "fields", "tasks", "split", "model"} <= tree.keys()]
    assert whole
    for tree in whole:
        resolve.check(parse(tree, where="README.md"))


# where several models share one run file

WIDE: dict[str, Any] = {"recipe": "mmoe", "specific": 2, "shared": 3, "gate": [4], "interact": "dcn", "interact_sizes": {"rank": 2}}


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_left_out_for_a_recipe_makes_no_other_model(recipe: str) -> None:
    sections = told(model={**WIDE, "recipe": recipe})
    found = as_read(sections)
    sizes = dict.fromkeys(("user", "item"), 5)
    with torch.device("meta"):
        one, other = (resolve.built(each, sizes)(resolve.schema(each)) for each in (sections, found))
    assert [(name, part.shape) for name, part in one.named_parameters()] == [(name, part.shape) for name, part in other.named_parameters()]
    check_read(found)
    assert found.model_copy(update={"model": sections.model}) == sections
    assert as_read(found) == found


def test_every_entrant_of_a_comparison_is_a_run_that_training_takes() -> None:
    """With sizes, gates and cross layers that some of them have no use for."""
    settings = told(model=WIDE, compare={"recipes": [*RECIPES], "variants": {"plain": {"model": {"interact": "concatenate"}}}})
    resolve.check(settings)
    everyone = entrants(settings)
    assert {one.name for one in everyone} >= {*RECIPES, "plain"}
    for entrant in everyone:
        for one in entrant.grid(settings):
            resolve.check(one)


# names of a comparison

@pytest.mark.parametrize(("sections", "says"), [
    ({"compare": {"recipes": ["stem", "stemm"]}}, "compare.recipes: no 'stemm'; did you mean 'stem'?"),
    ({**EPISODES, "compare": {"recipes": ["stemm"]}}, "compare.recipes: no 'stemm'; did you mean 'stem'?"),
    ({"compare": {"methods": ["meluu"]}}, "compare.methods: no 'meluu'; did you mean 'melu'?"),
    ({**EPISODES, "compare": {"methods": ["melu", {"name": "anil", "ratee": 1}]}}, "compare.methods: 'anil' has no parameter 'ratee'"),
    ({**EPISODES, "compare": {"against": ["bais"]}}, "compare.against: no 'bais' takes part; did you mean 'bias'?"),
    ({**EPISODES, "compare": {"methods": ["melu", "base"], "against": ["bias"]}}, "compare.against: no 'bias' takes part; did you mean"),
    ({"compare": {"against": ["nobody"]}}, "compare.against: no 'nobody' takes part; known: "),
])  # fmt: skip
def test_a_name_that_is_nobody_s_is_refused_always(sections: dict[str, Any], says: str) -> None:
    assert refused(**sections).startswith(says)


def test_those_whom_others_are_usually_held_against_may_be_absent() -> None:
    resolve.check(told(**EPISODES, compare={"methods": ["melu", {"name": "melu", "rate": 0.1}]}))
    resolve.check(told(**EPISODES, compare={"methods": ["melu", {"name": "anil", "rate": 0.1}], "against": ["anil"]}))

"""What README.md and docs/ show works: run files are read, options and names exist, commands are commands, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main

from umbel.balance.losses import DWA, STCH, Geometric, Normalised, RandomWeights, Static, Uncertainty
from umbel.balance.named import BALANCERS
from umbel.cli import app
from umbel.nn.heads import HEADS
from umbel.nn.interact import INTERACTS
from umbel.nn.routing import PARADIGMS
from umbel.nn.sequence import SEQUENCES
from umbel.recipes import RECIPES, taken
from umbel.run import resolve
from umbel.run.settings import Settings, parse
from umbel.schema import FieldKind
from umbel.serve.http.told import tell
from umbel.study.tune.space import dimensions
from umbel.study.variants import changed

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]  # the first block is the whole run file
SHOWN = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
Tree = dict[str, Any]


def blocks(language: str) -> list[str]:
    return [body for name, body in FENCED.findall(SHOWN) if name == language]


def laid(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """One tree over another: sections are joined, all else is replaced."""
    alike = [key for key, value in above.items() if isinstance(value, dict) and isinstance(below.get(key), dict)]
    return {**below, **above, **{key: laid(below[key], above[key]) for key in alike}}


TOML = [tomllib.loads(block) for block in blocks("toml")]
WHOLE = TOML[0]
LIKE = {"tasks": {"like": {"label": "is_like"}}}  # of which pages speak as of a task that a reader has


def settings(*fragments: Mapping[str, Any]) -> Settings:
    tree = WHOLE
    for fragment in fragments:
        tree = laid(tree, fragment)
    return parse(tree, where="docs")


def test_the_torch_that_is_told_is_the_one_that_stays() -> None:
    """Another version would be replaced, on Linux by one with CUDA."""
    told = re.findall(r"pip install torch==(\S+)", SHOWN)
    assert told == re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_first_block_is_a_whole_run_file() -> None:
    found = settings()
    resolve.check(found)
    assert set(found.tasks) == {"click", "buy", "spend"}
    assert set(WHOLE["fields"]) == {field.name for field in resolve.schema(found).fields}
    kinds = {FieldKind(field.kind) for field in found.fields.values()}
    assert kinds >= {FieldKind.ID, FieldKind.CATEGORY, FieldKind.NUMBER, FieldKind.BAG, FieldKind.SEQUENCE}
    assert resolve.schema(found).field("watched").table == "item_id"


@pytest.mark.parametrize("at", range(len(TOML)))
def test_every_block_is_read(at: int) -> None:
    """A fragment stands in the whole file; what it says comes back as it was written."""
    found = settings(LIKE, TOML[at])
    resolve.check(found)
    again = parse(tomllib.loads(found.to_toml()), where="docs")
    assert again == found
    plain = settings(LIKE)
    assert all(getattr(found, section) != getattr(plain, section) for section in TOML[at] if at)


def test_there_is_no_other_kind_of_run_file_block() -> None:
    """Indented fences or other spellings would escape the tests above."""
    assert len(TOML) == len(re.findall(r"```\s*toml", SHOWN, re.IGNORECASE))
    assert len(TOML) >= 3


def test_its_variants_are_variants() -> None:
    found = [(settings(LIKE, block), name) for block in TOML for name in block.get("compare", {}).get("variants", {})]
    assert len(found) == 3
    crossed, surgery, apart = (changed(one, name) for one, name in found)
    assert crossed.model.interact == "dcn"
    assert surgery.model.recipe == "mmoe"
    assert surgery.fit.balancer == "pcgrad"
    assert (apart.model.recipe, apart.model.specific) == ("alone", 5)


def test_its_space_can_be_searched() -> None:
    (asked,) = (block for block in TOML if "tune" in block)
    found = {one.key for one in dimensions(settings(LIKE, asked))}
    assert found == {"model.recipe", "model.expert", "model.dim", "fit.rate", "fit.balancer", "balance.weights.like"}


def test_every_rule_that_keeps_an_epoch_is_a_rule() -> None:
    """The first column of that table, and what its text says besides, in the words of a run file."""
    rows = [line for line in SHOWN.split("| `[fit] keep =`")[1].split("\n\n")[0].splitlines()[2:] if line.startswith("|")]
    shown = [text for row in rows for text in re.findall(r'`("[^`]*"|\{[^`]*\})`', row)]
    rules = [resolve.keep(settings(LIKE, tomllib.loads(f"[fit]\nkeep = {text}"))) for text in shown]
    assert [rule.name for rule in rules] == ["mean", "mean", "primary", "pareto"]
    assert resolve.keep(settings()).name == "mean"


def test_the_inline_statistic_is_a_field() -> None:
    (text,) = re.findall(r"`(past = \{[^`]*\})`", SHOWN)
    found = resolve.schema(settings(tomllib.loads(f'[fields]\nauthor_id = {{ kind = "id" }}\n{text}')))
    statistic = found.field("past").statistic
    assert statistic is not None
    assert statistic.by == ("user_id", "author_id")
    assert statistic.tasks == ("click", "buy", "spend")
    assert f"`prior = {statistic.prior:g}`" in SHOWN


def test_heads_that_are_shown_are_heads() -> None:
    shown = re.findall(r"`head = ([^`]*)`", SHOWN)
    assert len(shown) == 2
    for text in shown:
        resolve.check(settings(tomllib.loads(f"[model]\nhead = {text}")))


def rows_of(header: str) -> Iterator[list[str]]:
    """The cells of a table, by the line that heads it."""
    body = SHOWN.split(header)[1].split("\n\n")[0]
    for line in body.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("| ").split(" | ")]


def named(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_the_tables_of_recipes_have_every_recipe_once() -> None:
    tables = "| recipe | views of each field | after |", "| recipe | what it is | options (`[model.options]`) |"
    shown = [name for header in tables for row in rows_of(header) for name in named(row[0])]
    assert sorted(shown) == sorted(RECIPES)


def test_options_that_are_shown_are_taken() -> None:
    """By the recipe in whose row they stand."""
    shown = {name: re.findall(r"`(\w+)(?: = [^`]*)?`", row[2]) for row in rows_of("| recipe | what it is | options (`[model.options]`) |")
             for name in named(row[0]) if len(row) > 2}  # fmt: skip
    assert shown["home"] == ["groups", "rank"]
    for recipe, options in shown.items():
        for option in options:
            assert option in taken(recipe) or option == "dim", f"{recipe} takes no {option}"


def test_the_table_of_heads_has_every_head_and_its_parameters() -> None:
    rows = list(rows_of("| head | what it is | parameters |"))
    assert sorted(name for row in rows for name in named(row[0])) == sorted(HEADS)
    for row in rows:
        known = {name for head in named(row[0]) for name in inspect.signature(HEADS[head]).parameters}
        shown = set(re.findall(r"`(\w+)(?: = [^`]*)?`", row[2] if len(row) > 2 else "")) - {"given"}
        assert shown == known, f"{row[0]} has {known}"


def test_paradigms_that_are_shown_are_paradigms() -> None:
    (shown,) = re.findall(r"takes any paradigm of views: (.*)\.$", SHOWN, re.MULTILINE)
    assert set(re.findall(r"views=(\w+)|`([a-z+]+)`", shown)) <= {(name, "") for name in PARADIGMS} | {("", name) for name in PARADIGMS}


def test_recipes_that_take_no_paradigm_are_named() -> None:
    (named,) = re.findall(r"^Any recipe but (.*), whose tables are their own, takes any paradigm", SHOWN, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", named)) == {name for name in RECIPES if "paradigm" not in taken(name)}


@pytest.mark.parametrize(("of", "known"), [("interact", INTERACTS), ("sequence", SEQUENCES), ("by losses", None), ("by gradients", None)])
def test_what_stands_in_a_table_of_pieces_exists_and_is_all(of: str, known: Mapping[str, object] | None) -> None:
    """Interactions and sequence encoders each in a table of their own, balancers in two."""
    heading = f"`{of}`" if known else of
    table = (ROOT / "docs" / "architectures.md").read_text().split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    named = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    losses = {name for name in BALANCERS if BALANCERS[name] in (Static, Normalised, Uncertainty, DWA, Geometric, STCH, RandomWeights)}
    assert named == set(known or (losses if of == "by losses" else BALANCERS.keys() - losses))


# commands


def commands() -> list[str]:
    """Every line of a shell block that calls umbel, and every call that stands in the text with something to call it with."""
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    inline = re.findall(r"`(umbel [a-z]+ [^`]+)`", re.sub(FENCED, "", SHOWN))
    return [line for line in [*lines, *inline] if line.startswith("umbel ")]


@pytest.mark.parametrize("line", commands())
def test_every_command_is_one(line: str) -> None:
    """The verb exists and takes those arguments and options."""
    words = shlex.split(line)[1:]
    group = typer.main.get_command(app)
    verb = group.get_command(group.make_context("umbel", ["--help"], resilient_parsing=True), words[0])  # type: ignore[attr-defined]
    assert verb is not None, words[0]
    context = verb.make_context(words[0], words[1:])
    assert context.params


def test_some_commands_are_found() -> None:
    verbs = {line.split()[1] for line in commands()}
    assert verbs >= {"train", "score", "evaluate", "compare", "tune", "transfer", "explain"}


@pytest.mark.parametrize("line", commands())
def test_settings_in_commands_are_settings(line: str) -> None:
    words = shlex.split(line)
    asked = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    if words[1] == "serve":  # the settings of a service, not of a run file
        tell("bundle", asked)
        return
    for change in asked:
        key, _, value = change.partition("=")
        resolve.check(settings(LIKE, tomllib.loads(f"{key} = {value}")))


def test_what_a_reader_may_import_is_there() -> None:
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("umbel"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, name.name) for name in node.names)


LINKS = [(page, target) for page in PAGES for target in sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8"))))]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda one: one.stem if isinstance(one, Path) else one)
def test_links_lead_somewhere(page: Path, target: str) -> None:
    """The file is there, and where a heading of it is named, so is that."""
    name, _, anchor = target.partition("#")
    found = page.parent / name if name else page
    assert found.exists(), target
    if anchor:
        headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_every_page_is_linked_from_the_first() -> None:
    linked = {(page.parent / target.partition("#")[0]).resolve() for page, target in LINKS if page.name == "README.md"}
    assert set(PAGES) - {ROOT / "README.md"} <= linked


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(examples/[\w.-]+)", SHOWN))))
def test_examples_that_are_named_are_there(path: str) -> None:
    assert (ROOT / path).is_file(), path

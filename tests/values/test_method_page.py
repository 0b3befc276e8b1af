"""The page of cold-start methods names every method and every parameter, with the defaults they have."""

from __future__ import annotations

import re
import tomllib
from inspect import signature
from pathlib import Path

import pytest

from umbel.coldstart.ccml import PUBLISHED, Ccml
from umbel.coldstart.methods import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "cold-start-methods.md").read_text(encoding="utf-8")
QUIET = {False, None, ()}  # defaults that a table need not tell as a value


def rows(after: str) -> list[list[str]]:
    """The cells of the first table behind a line."""
    lines = PAGE.split(after, 1)[1].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|---"))
    body = lines[start + 1 :]
    end = next((at for at, line in enumerate(body) if not line.startswith("|")), len(body))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body[:end]]


def defaults(name: str) -> dict[str, object]:
    return {key: one.default for key, one in signature(METHODS[name]).parameters.items()}


def told(text: str) -> object:
    try:
        return tomllib.loads(f"x = {re.sub(r'^[.]', '0.', text)}")["x"]
    except tomllib.TOMLDecodeError:
        return None


def test_every_method_has_its_line() -> None:
    assert [re.findall(r"`(\w+)`", name)[0] for name, *_ in rows("what of each method a bundle keeps.")] == list(METHODS)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "ccml"])
def test_a_line_names_every_parameter_with_its_default(name: str) -> None:
    (cell,) = [cells[2] for cells in rows("what of each method a bundle keeps.") if f"`{name}`" in cells[0]]
    found = {key: told(value.strip()) for key, value in re.findall(r"`(\w+)`([^,`]*)", cell)}
    wanted = defaults(name)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == (None if value in QUIET else value), key


def test_ccml_s_table_has_every_parameter_with_its_default() -> None:
    found: dict[str, object] = {}
    for names, values, *_ in rows("## `ccml`"):
        keys = re.findall(r"`(\w+)`", names)
        each = [value.strip().strip("`") for value in values.split(",")]
        found |= dict(zip(keys, each if len(keys) > 1 else [values.strip("`")], strict=True))
    wanted = defaults("ccml")
    assert found.keys() == wanted.keys()
    words = {"refresh": "once an epoch", "temperature": "none", "graph_items": "all of one value"}
    assert {key: found[key] for key in words} == words
    assert {key: told(str(value)) for key, value in found.items() if key not in words} == {
        key: value for key, value in wanted.items() if key not in words
    }


def test_the_published_form_is_the_published_form() -> None:
    (shown,) = re.findall(r"```toml\n(\[episodes\]\nsupport = 10.*?)```", PAGE, re.DOTALL)
    method = tomllib.loads(shown)["episodes"]["method"]
    assert Ccml(**{key: value for key, value in method.items() if key != "name"}) == PUBLISHED

"""A fusion policy's JSON file, read and checked: what is wrong with it is one line that names the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from umbel.chosen import choose
from umbel.errors import UserError, nearest
from umbel.fusion.policy import FORMAT, Fusion, Term
from umbel.fusion.shapes import SHAPES, Direction

KEYS = ("format", "name", "family", "tasks")


def read(path: Path) -> Fusion:
    """The policy in a file; :raises UserError: if it cannot be read or is none, naming the file and the key."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise UserError(f"{path}: no such fusion policy", mend="give the path of a JSON file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}", mend="a fusion policy is JSON in UTF-8") from None
    return parse(content, where=str(path))


def parse(content: object, *, where: str) -> Fusion:
    """The policy that `Fusion.to_json` wrote, or a hand; `where` begins every message; :raises UserError: for the first thing wrong.

    Example
    -------
    >>> parse({"format": 1, "family": "log", "tasks": {"click": {"scale": 0.1}}}, where="mine.json").terms[0].shape
    Log(weight=1.0, scale=0.1)
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: not an object", mend='write {"format": 1, "family": ..., "tasks": {...}}')
    for key in content:
        if key not in KEYS:
            raise UserError(f"{where}: unknown key {key!r}", mend=nearest(str(key), KEYS))
    if content.get("format") != FORMAT or isinstance(content.get("format"), bool):
        raise UserError(f"{where}: format = {content.get('format')!r}, not {FORMAT}", mend="read it with the umbel that wrote it")
    name, family, tasks = content.get("name", "default"), content.get("family"), content.get("tasks")
    if not isinstance(name, str) or not name or len(name) > 100:
        raise UserError(f"{where}: name = {name!r}", mend="give a short text")
    if not isinstance(family, str) or family not in SHAPES:
        raise UserError(f"{where}: no family {family!r}", mend=nearest(str(family), SHAPES))
    if not isinstance(tasks, Mapping):
        raise UserError(f"{where}: tasks = {tasks!r}", mend='write "tasks": {"NAME": {"direction": 1, ...}}')
    try:
        return Fusion(tuple(_term(task, own, family) for task, own in tasks.items()), name)
    except UserError as error:
        raise UserError(f"{where}: {error.what}", mend=error.mend) from None


def _term(task: str, given: object, family: str) -> Term:
    where = f"tasks.{task}"
    if not isinstance(given, Mapping):
        raise UserError(f"{where} = {given!r}", mend='write {"direction": 1, ...}')
    direction = given.get("direction", 1)
    if direction not in (-1, 1) or not isinstance(direction, int) or isinstance(direction, bool):
        raise UserError(f"{where}.direction = {direction!r}", mend="1 if it is wanted, -1 if it is not")
    parameters = {key: value for key, value in given.items() if key != "direction"}
    if "name" in given:
        raise UserError(f"{where}: unknown key 'name'", mend="the family is named once, for all tasks")
    return Term(task, choose(where, {"name": family, **parameters}, SHAPES), cast(Direction, direction))


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number of JSON")

"""Entrants of one's own: the run file with a few of its settings changed, under a name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from umbel.errors import UserError, nearest
from umbel.recipes import RECIPES
from umbel.run.comparing import CompareSection
from umbel.run.settings import Settings, parse
from umbel.run.unread import OF_MODELS

MAY_DIFFER = ("model", "fit", "balance")  # all else decides the table, which entrants have in common
NAME = re.compile(r"(?! )[\w ,.+()-]{1,80}(?<! )")
CONTROL = re.compile(r"(?:.+, )?(\w+) x\d+")


def changed(settings: Settings, name: str) -> Settings:
    """The run file as the variant of that name has it.

    A recipe of its own brings no options of the run file's along.

    :raises UserError: for a name that another entrant has or that makes no folder, a section or key that may not differ, a value
        that a run file refuses, or a key that its own model has no use for.
    """
    where = f"compare.variants.{name}"
    asked = settings.compare.variants[name]
    _check(settings.compare, asked, where)
    plain = settings.model_copy(update={"compare": settings.compare.model_copy(update={"variants": {}})})
    tree = plain.model_dump(exclude_none=True)
    if asked.get("model", {}).get("recipe", settings.model.recipe) != settings.model.recipe:
        tree["model"].pop("options")
    for section, keys in asked.items():
        _lay(tree.setdefault(section, {}), keys)
    found = parse(tree, where=where)
    if found.model.recipe not in RECIPES:
        raise UserError(f"{where}: no recipe {found.model.recipe!r}", mend=nearest(found.model.recipe, RECIPES))
    for rule in OF_MODELS:
        if rule.idle(found) and _says(asked, rule.key):
            raise rule.refusal(found, f"{where}: ")
    return found.model_copy(update={"compare": settings.compare})


def controlled(name: str) -> str | None:
    """The recipe whose shared view a width control widens; None if that is no name of a control.

    Example
    -------
    >>> controlled("ple x4"), controlled("ple"), controlled("a variant, ple x4")
    ('ple', None, 'ple')
    """
    found = CONTROL.fullmatch(name)
    return found[1] if found and found[1] in RECIPES else None


def check_names(compare: CompareSection, taken: Mapping[str, str]) -> None:
    """Refuse names of variants that are `taken` (by what they belong to) or cannot be a folder's; :raises UserError: for the first."""
    for name in compare.variants:
        where = f"compare.variants: {name!r}"
        if not NAME.fullmatch(name) or set(name) <= {"."}:
            raise UserError(f"{where} is no name for a folder", mend="use letters, digits, spaces and , . + - ( )")
        if name in taken or controlled(name):
            raise UserError(f"{where} is the name of {taken.get(name, 'a width control')}", mend="name it otherwise")


def _check(compare: CompareSection, asked: Mapping[str, Mapping[str, object]], where: str) -> None:
    for section in asked:
        if section not in MAY_DIFFER:
            raise UserError(f"{where}: {section!r} is the same for all entrants", mend=nearest(section, MAY_DIFFER))
    if "seed" in asked.get("fit", {}):
        raise UserError(f"{where}: fit.seed counts the seeds of all entrants", mend="leave it out")
    for section, key, budget in (("fit", "rate", compare.rates), ("model", "dim", compare.dims)):
        if key in asked.get(section, {}) and budget:
            raise UserError(f"{where}: {section}.{key} is chosen from compare.{key}s", mend="leave one of them out")


def _says(asked: object, key: str) -> bool:
    """Whether a variant itself says a key, where the run file may mean it for another."""
    for step in key.split("."):
        asked = asked.get(step) if isinstance(asked, Mapping) else None
    return asked is not None


def _lay(tree: dict[str, object], keys: Mapping[str, object]) -> None:
    """Put values over those of a section; a table goes into the table that is there, unless it says anew by name what it is."""
    for key, value in keys.items():
        below = tree.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and "name" not in value:
            _lay(below, value)
        else:
            tree[key] = value

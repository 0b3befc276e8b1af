"""Objects with parameters that a run file chooses by name: `"name"`, or `{ name = "...", parameter = ... }`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields
from typing import Any, TypeVar, get_args, get_type_hints

from umbel.errors import UserError, nearest

Choice = str | Mapping[str, object]
Kind = TypeVar("Kind")


def choose(where: str, choice: Choice, among: Mapping[str, type[Kind]]) -> Kind:
    """The frozen dataclass of a name, its fields as given; `where` is the key of the run file, for messages.

    :raises UserError: for a name or a parameter that does not exist (with the nearest), one that is missing, of another type
        or no finite number, and for whatever the object itself refuses.

    Example
    -------
    >>> from umbel.kinds import TASK_KINDS
    >>> choose("tasks.spent.kind", {"name": "tweedie", "power": 1.2}, TASK_KINDS)
    Tweedie(power=1.2)
    """
    given: dict[str, object] = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = str(given.pop("name", ""))
    if name not in among:
        raise UserError(f"{where}: no {name!r}" if name else f"{where}: 'name' is missing", mend=nearest(name, among))
    make = among[name]
    known = {one.name: one for one in fields(make)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise UserError(f"{where}: {name!r} has no parameter {key!r}", mend=nearest(key, known))
    types = get_type_hints(make)
    values = {key: _value(f"{where}.{key}", given, one, annotation=types[key]) for key, one in known.items()}
    try:
        return make(**values)
    except UserError as error:
        named = error.what.startswith("--")  # the option itself, which is no key of this one
        raise UserError(error.what if named else f"{where}: {error.what}", mend=error.mend) from None


def told(kind: type[Kind], given: Sequence[str], known: Mapping[str, object]) -> Kind:
    """A frozen dataclass from `KEY=VALUE` texts and what is known of it already; :raises UserError: as `choose` does.

    Example
    -------
    >>> from umbel.kinds import Tweedie
    >>> told(Tweedie, ["power=1.2"], {})
    Tweedie(power=1.2)
    """
    types = get_type_hints(kind)
    found = dict(known)
    for one in given:
        key, equals, text = (part.strip() for part in one.partition("="))
        if not equals or not key:
            raise UserError(f"--set {one}: not KEY=VALUE", mend="e.g. --set seed=1")
        found[key] = text if str in (types.get(key), *get_args(types.get(key))) else read_value(text)
    name = str(getattr(kind, "name", kind.__name__))
    return choose("--set", {"name": name, **found}, {name: kind})


def spell(chosen: object) -> str | dict[str, object]:
    """What `choose` reads back as an equal object: plain JSON, a bare name where there are no parameters."""
    name = str(getattr(chosen, "name", ""))
    parameters = {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(chosen).items()}  # type: ignore[call-overload]
    return {"name": name, **parameters} if parameters else name


def tuples(value: object) -> object:
    """Lists as tuples, and those inside them and under keys."""
    if isinstance(value, dict):
        return {key: tuples(one) for key, one in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value


def read_value(text: str) -> object:
    """What a text says in TOML, such as a number, a truth value or a list; anything that is none stays text."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value


def _value(where: str, given: Mapping[str, object], parameter: Field[object], *, annotation: Any) -> object:  # noqa: ANN401
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    if parameter.name not in given:
        if parameter.default_factory is not MISSING:
            return parameter.default_factory()
        if parameter.default is MISSING:
            raise UserError(f"{where} is missing", mend=f"write {{ name = ..., {parameter.name} = ... }}")
        return parameter.default
    value = given[parameter.name]
    try:
        return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False)).validate_python(tuples(value), strict=True)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise UserError(f"{where} = {value!r}", mend=message[:1].lower() + message[1:]) from None

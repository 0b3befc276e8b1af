"""The run file: one TOML, read into typed settings; an unknown key is an error that names the nearest one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from umbel.chosen import read_value
from umbel.errors import UserError, nearest
from umbel.run.balancing import BalanceSection
from umbel.run.comparing import CompareSection as CompareSection
from umbel.run.episodic import EpisodeSection
from umbel.run.feeding import FeedbackSection, RuleSection
from umbel.run.fields import FieldSection as FieldSection
from umbel.run.retrieving import RetrievalSection
from umbel.run.section import OptionSection as OptionSection
from umbel.run.section import Section as Section
from umbel.run.section import Width
from umbel.run.sharing import TransferSection
from umbel.run.tuning import RangeSection, TuneSection

Tree = dict[str, object]
Moment = int | datetime | date | str
Chosen = str | dict[str, str | int | float | bool | list[int | float | str | list[str]]]  # see `umbel.chosen`
Rule = str | dict[str, str | dict[str, float]]


class JoinSection(Section):
    """`[[data.join]]`: a table joined to the log by key, as of the log's time where it has a time column."""

    table: str
    on: str
    time: str | None = None


class DataSection(Section):
    """`[data]`: where the log is, and which of its columns are user, item, time and request."""

    log: str
    user: str | None = None
    item: str | None = None
    time: str | None = None
    request: str | None = None
    join: tuple[JoinSection, ...] = ()


class TaskSection(Section):
    """`[tasks.NAME]`: see `umbel.schema.Task`; `kind` and `loss` are a name, or `{ name = "...", parameter = ... }`.

    An `unwanted` event, such as hiding an item, is ranked down by the bundle's fusion policy. Fields may read those columns of `sql`
    that are `known` beforehand, no other.
    """

    kind: Chosen = "binary"
    label: str | None = None
    sql: str | None = None
    known: tuple[str, ...] = ()
    given: str | None = None
    weight: float = Field(1.0, gt=0)
    auxiliary: bool = False
    loss: Chosen = "likelihood"
    negatives: float = Field(1.0, gt=0, le=1)
    range: tuple[float, float] | None = None
    unwanted: bool = False
    feedback: RuleSection | None = None


class TimeSplit(Section):
    """`[split] by = "time"`: the first moments of validation and of test; dates are days of `zone`, `column` the time if not the log's."""

    by: Literal["time"]
    valid: Moment
    test: Moment
    zone: str = "UTC"
    column: str | None = None


class UserSplit(Section):
    """`[split] by = "user"`: shares of users, by a stable hash of the raw id."""

    by: Literal["user"]
    valid: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = 0


class ColumnSplit(Section):
    """`[split] by = "column"`: a column says where a row belongs; rows with other values are dropped."""

    by: Literal["column"]
    column: str
    train: str = "train"
    valid: str = "valid"
    test: str = "test"


class InteractSection(Section):
    """`[model.interact_sizes]`: see `umbel.nn.interact.InteractSizes`."""

    layers: int = Field(2, ge=1)
    rank: int | None = Field(None, ge=1)
    hidden: int = Field(64, ge=1)
    heads: int = Field(1, ge=1)


class SequenceSection(Section):
    """`[model.sequence_sizes]`: see `umbel.nn.sequence.SequenceSizes`."""

    hidden: int = Field(16, ge=1)
    layers: int = Field(1, ge=1)
    heads: int = Field(1, ge=1)


class ModelSection(Section):
    """`[model]`: the recipe, its paradigm of views where that is not the recipe's own, the pieces before and after it, its sizes."""

    recipe: str
    views: str | None = None
    interact: str = "concatenate"
    sequence: str = "mean"
    head: Chosen | None = None
    dim: int = Field(8, ge=1)
    expert: tuple[Width, ...] = Field((128, 64), min_length=1)
    gate: tuple[Width, ...] = ()
    tower: tuple[Width, ...] = (32,)
    specific: int = Field(1, ge=1)
    shared: int = Field(2, ge=0)
    layers: int = Field(1, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    id_dropout: float = Field(0.0, ge=0, lt=1)
    interact_sizes: InteractSection = InteractSection()
    sequence_sizes: SequenceSection = SequenceSection()
    options: OptionSection = OptionSection()


class FitSection(Section):
    """`[fit]`: how the model is trained; `start` is a bundle to go on from, `replay` the share of rows it has seen to train on again.

    `tables` says what several processes hold of the embedding rows: all of them each, or each its share.
    """

    epochs: int = Field(15, ge=1)
    patience: int = Field(2, ge=1)
    keep: Rule = "mean"
    batch: int = Field(4096, ge=1)
    accumulate: int = Field(1, ge=1)
    window: int = Field(0, ge=0)
    rate: float = Field(1e-3, gt=0)
    schedule: Chosen | None = None
    l2: float = Field(1e-6, ge=0)
    clip: float = Field(10.0, gt=0)
    decay: float = Field(0.0, ge=0)
    fresh: bool = False
    rows: Literal["adam", "adagrad"] = "adam"
    tables: Literal["replicas", "shards"] = "replicas"
    exact: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False
    denominator: Literal["rows", "seen"] = "seen"
    seed: int = Field(1, ge=0)
    threads: int = Field(0, ge=0)
    device: str = "cpu"
    minutes: float = Field(5.0, gt=0)
    balancer: str | None = None
    start: str | None = None
    replay: float = Field(1.0, ge=0, le=1)


class EvaluateSection(Section):
    """`[evaluate]`: the intervals and the slices of a report."""

    resamples: int = Field(200, ge=0)
    slices: tuple[str, ...] = ()


class Settings(Section):
    """A whole run file."""

    data: DataSection
    fields: dict[str, FieldSection]
    tasks: dict[str, TaskSection]
    split: Annotated[TimeSplit | UserSplit | ColumnSplit, Field(discriminator="by")]
    model: ModelSection
    fit: FitSection = FitSection()
    balance: BalanceSection = BalanceSection()
    evaluate: EvaluateSection = EvaluateSection()
    compare: CompareSection = CompareSection()
    tune: TuneSection = TuneSection()
    feedback: FeedbackSection = FeedbackSection()
    transfer: TransferSection = TransferSection()
    episodes: EpisodeSection | None = None
    retrieval: RetrievalSection | None = None

    def to_toml(self) -> str:
        """The resolved run file: every setting, defaults too; reading it back gives equal settings."""
        return tomli_w.dumps(_jsonable(self.model_dump(mode="python", exclude_none=True)))


def read(path: Path | str, changes: Sequence[str] = ()) -> Settings:
    """Read a run file and apply `section.key=value` changes.

    :raises UserError: for a missing file, broken TOML, an unknown key (with the nearest known one) or a wrong value.
    """
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such run file", mend="give the path of a TOML; examples/ has one") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text", mend="a run file is TOML in UTF-8") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: {error}", mend="a run file is TOML in UTF-8") from None
    for change in changes:
        _apply(tree, change)
    return parse(tree, where=str(path))


def parse(tree: Mapping[str, object], *, where: str) -> Settings:
    """Check a tree of keys and values; :raises UserError: for the first thing wrong with it."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        # An unknown key comes before the missing one that it was meant to be.
        worst = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        raise _in_one_line(worst, where) from None


def _apply(tree: Tree, change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UserError(f"--set {change}: not section.key=value", mend="e.g. --set fit.epochs=3")
    *sections, last = key.strip().split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            raise UserError(f"--set {change}: {section!r} is not a section", mend="name a key inside a section")
        tree = below
    tree[last] = read_value(text.strip())


def _in_one_line(detail: ErrorDetails, where: str) -> UserError:
    # pydantic puts the kind of split between "split" and its key, and the shape of what is searched after its key.
    shape = {"split": 1, "tune": 3}.get(str(detail["loc"][0]) if detail["loc"] else "")
    place = [str(part) for at, part in enumerate(detail["loc"]) if at != shape]
    if detail["type"] == "string_type" and place[-1] == "str":
        place.pop()  # the branch of what is a name, or a table of parameters
    path = ".".join(place)
    if detail["type"] == "extra_forbidden":
        return UserError(f"{where}: unknown key {path!r}", mend=nearest(place[-1], _keys(detail["loc"])))
    if detail["type"] == "missing":
        return UserError(f"{where}: {path!r} is missing", mend=f"add {place[-1]} to [{'.'.join(place[:-1]) or 'the file'}]")
    return UserError(f"{where}: {path} = {detail['input']!r}", mend=detail["msg"][0].lower() + detail["msg"][1:])


def _keys(place: tuple[int | str, ...]) -> Iterator[str]:
    sections: dict[str, type[Section]] = {
        "data": DataSection, "fields": FieldSection, "tasks": TaskSection, "model": ModelSection, "fit": FitSection,
        "balance": BalanceSection, "evaluate": EvaluateSection, "compare": CompareSection, "tune": TuneSection,
        "transfer": TransferSection, "feedback": FeedbackSection, "episodes": EpisodeSection, "retrieval": RetrievalSection,
        "interact_sizes": InteractSection, "sequence_sizes": SequenceSection, "options": OptionSection,
    }  # fmt: skip
    splits: dict[str, type[Section]] = {"time": TimeSplit, "user": UserSplit, "column": ColumnSplit}
    if len(place) == 1:
        yield from Settings.model_fields
    elif place[0] == "split":
        yield from splits[str(place[1])].model_fields
    elif place[:2] == ("data", "join"):
        yield from JoinSection.model_fields
    elif place[:2] == ("tune", "space"):
        yield from RangeSection.model_fields
    elif len(place) > 3 and place[0] == "tasks":
        yield from RuleSection.model_fields
    elif len(place) > 2 and place[0] == "model":
        yield from sections[str(place[1])].model_fields
    else:
        yield from sections[str(place[0])].model_fields


def _jsonable(value: object) -> dict[str, object]:
    """Tuples become lists, as TOML knows no other."""
    assert isinstance(value, dict)
    return {key: _plain(one) for key, one in value.items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return _jsonable(value)
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value

"""Laws of the run file: every setting comes back from its TOML, one change sets one key, and every misspelling is named."""

from __future__ import annotations

import math
import tomllib
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from umbel.errors import UserError
from umbel.run import resolve
from umbel.run.balancing import BalanceSection
from umbel.run.episodic import EpisodeSection
from umbel.run.feeding import FeedbackSection, RuleSection
from umbel.run.retrieving import RetrievalSection
from umbel.run.settings import (
    ColumnSplit,
    CompareSection,
    DataSection,
    EvaluateSection,
    FieldSection,
    FitSection,
    InteractSection,
    JoinSection,
    ModelSection,
    OptionSection,
    SequenceSection,
    Settings,
    TaskSection,
    TimeSplit,
    UserSplit,
    parse,
    read,
)
from umbel.run.sharing import TransferSection
from umbel.run.tuning import RangeSection, TuneSection

BASE: dict[str, Any] = {
    "data": {"log": "log.parquet"},
    "fields": {"user": {"kind": "id"}},
    "tasks": {"click": {}},
    "split": {"by": "user", "valid": 0.1, "test": 0.1},
    "model": {"recipe": "stem"},
}
# Any text that TOML can hold: quotes, dots, brackets, line ends and all scripts, but no half of a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
COUNT = st.integers(1, 10**9)
WIDTHS = st.lists(COUNT, max_size=3)
SHARE = st.floats(min_value=1e-9, max_value=1.0, exclude_max=True)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), None])
MOMENT = st.one_of(st.integers(-(2**63), 2**63 - 1), st.dates(), TEXT, st.datetimes(timezones=ZONES))


def some(required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


JOINS = some({"table": TEXT, "on": TEXT}, {"time": TEXT})
DATA = some({"log": TEXT}, {"user": TEXT, "item": TEXT, "time": TEXT, "request": TEXT, "join": st.lists(JOINS, max_size=2)})
KINDS = st.sampled_from(["id", "category", "number", "bag", "sequence", "vector", "statistic"])
FIELD = some(
    {"kind": KINDS},
    {"column": TEXT, "sql": TEXT, "like": TEXT, "target": TEXT, "length": COUNT, "width": st.integers(0, 10**6), "min_count": COUNT,
     "bins": st.integers(0, 10**3),
     "by": st.lists(TEXT, max_size=2), "tasks": st.lists(TEXT, max_size=2), "prior": st.floats(-1, 1e6), "window": st.floats(-1, 1e9),
     "mode": TEXT, "folds": st.integers(-1, 30), "seed": st.integers(0, 2**40)},
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
LISTS = st.one_of(*(st.lists(one, max_size=3) for one in (st.floats(0, 1), TEXT, st.lists(TEXT, max_size=2))))
PARAMETERS = st.dictionaries(TEXT, st.one_of(TEXT, FINITE, st.integers(-9, 9), LISTS))
CHOSEN = st.one_of(TEXT, PARAMETERS)
LABELLED = some(
    {"window": TEXT, "positive_when": TEXT},
    {"value": st.sampled_from(["any", "sum", "max", "last"]), "attribution": st.sampled_from(["request", "last"])},
)
TASK = some(
    {},
    {
        "kind": CHOSEN, "label": TEXT, "sql": TEXT, "given": TEXT, "weight": POSITIVE, "loss": CHOSEN,
        "negatives": st.floats(1e-9, 1.0), "auxiliary": st.booleans(), "unwanted": st.booleans(), "feedback": LABELLED,
        "known": st.lists(TEXT, max_size=2),
        "range": st.lists(FINITE, min_size=2, max_size=2),
    },
)  # fmt: skip
SPLIT = st.one_of(
    some({"by": st.just("time"), "valid": MOMENT, "test": MOMENT}, {"zone": TEXT, "column": TEXT}),
    some({"by": st.just("user"), "valid": SHARE, "test": SHARE}, {"seed": st.integers(-5, 2**40)}),
    some({"by": st.just("column"), "column": TEXT}, {"train": TEXT, "valid": TEXT, "test": TEXT}),
)
INTERACT = some({}, {"layers": COUNT, "rank": COUNT, "hidden": COUNT, "heads": COUNT})
SEQUENCE = some({}, {"hidden": COUNT, "layers": COUNT, "heads": COUNT})
OPTIONS = some(
    {},
    {
        "legacy": st.booleans(), "taught": st.booleans(), "sparsity": st.floats(0, 1e3), "rank": COUNT, "tables": WIDTHS,
        "own": st.lists(TEXT, max_size=2), "groups": st.lists(st.lists(TEXT, max_size=2), max_size=2), "domain": st.lists(TEXT, max_size=2),
        "prior": st.lists(TEXT, max_size=2), "routes": st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2),
    },
)  # fmt: skip
MODEL = some(
    {"recipe": TEXT},
    {
        "interact": TEXT, "sequence": TEXT, "head": CHOSEN, "interact_sizes": INTERACT, "sequence_sizes": SEQUENCE,
        "options": OPTIONS,
        "views": TEXT, "dim": COUNT, "expert": st.lists(COUNT, min_size=1, max_size=3), "gate": WIDTHS, "tower": WIDTHS,
        "specific": COUNT, "shared": st.integers(0, 99), "layers": COUNT,
        "dropout": st.floats(0, 1, exclude_max=True), "id_dropout": st.floats(0, 1, exclude_max=True),
    },
)  # fmt: skip
RULE = st.one_of(TEXT, st.dictionaries(TEXT, st.one_of(TEXT, st.dictionaries(NAMES, POSITIVE, max_size=3)), max_size=3))
FIT = some(
    {},
    {
        "epochs": COUNT, "patience": COUNT, "keep": RULE, "batch": COUNT, "rate": POSITIVE, "l2": st.floats(0, 1e9), "clip": POSITIVE,
        "decay": st.floats(0, 1e9), "fresh": st.booleans(), "precision": st.sampled_from(["float32", "bfloat16"]),
        "compiled": st.booleans(), "accumulate": COUNT, "window": st.integers(0, 10**9),
        "rows": st.sampled_from(["adam", "adagrad"]), "tables": st.sampled_from(["replicas", "shards"]),
        "exact": st.booleans(), "denominator": st.sampled_from(["rows", "seen"]),
        "seed": st.integers(0, 2**62), "threads": st.integers(0, 64), "device": TEXT, "minutes": POSITIVE, "balancer": TEXT,
        "start": TEXT, "replay": st.floats(0, 1), "schedule": CHOSEN,
    },
)  # fmt: skip
BALANCE = some(
    {},
    {
        "at": st.sampled_from(["experts", "views"]), "scalar": st.booleans(), "weights": st.dictionaries(NAMES, POSITIVE, max_size=3),
        "target": TEXT, "alpha": POSITIVE, "c": st.floats(0, 1e9), "decay": st.floats(0, 1, exclude_max=True), "mu": POSITIVE,
        "rate": POSITIVE, "relax": st.floats(0, 1), "temperature": POSITIVE,
    },
)  # fmt: skip
EVALUATE = some({}, {"resamples": st.integers(0, 10**6), "slices": st.lists(TEXT, max_size=3)})
CHANGED = st.dictionaries(NAMES, TEXT | COUNT | st.lists(TEXT, max_size=2), max_size=2)
VARIANTS = st.dictionaries(NAMES, st.dictionaries(NAMES, CHANGED, max_size=2), max_size=2)
COMPARE = some(
    {},
    {
        "recipes": st.lists(TEXT, max_size=3), "variants": VARIANTS, "seeds": COUNT, "rates": st.lists(POSITIVE, max_size=3),
        "dims": WIDTHS, "methods": st.lists(CHOSEN, max_size=3), "against": st.lists(TEXT, max_size=3),
        "controls": st.booleans(), "trees": st.booleans(), "margin": POSITIVE,
    },
)  # fmt: skip
ITEM = st.one_of(TEXT, FINITE, st.integers(-9, 9), st.booleans())
SPANNED = some({"low": st.floats(1e-300, 1e9), "high": st.floats(1e10, 1e300)}, {"log": st.booleans()})
CHOICES = st.lists(st.one_of(ITEM, st.lists(ITEM, max_size=2), st.dictionaries(TEXT, ITEM, max_size=2)), min_size=1, max_size=3)
TUNE = some(
    {},
    {
        "objectives": st.lists(TEXT, min_size=1, max_size=3), "prune": st.booleans(),
        "space": st.dictionaries(NAMES.filter(lambda name: name not in ("low", "high", "log")), st.one_of(SPANNED, CHOICES), max_size=3),
    },
)  # fmt: skip
TRANSFER = some(
    {},
    {
        "of": st.sampled_from(["user", "item"]), "by": st.sampled_from(["count", "rate"]), "center": st.sampled_from(["global", "none"]),
        "lead": st.floats(1, 1e9, exclude_min=True), "trained": st.integers(0, 99),
    },
)  # fmt: skip
EPISODES = some(
    {},
    {
        "method": CHOSEN, "support": st.integers(0, 99), "query": COUNT, "history": st.tuples(COUNT, COUNT).map(list),
        "by_time": st.booleans(), "longer": st.booleans(),
        "users": COUNT, "forget": st.floats(0, 1, exclude_max=True), "ids": st.floats(0, 1, exclude_max=True),
        "prior": st.sampled_from(["item", "mean"]), "curve": st.lists(st.integers(0, 99), max_size=3),
        "curve_history": st.tuples(COUNT, COUNT).map(list), "relevant": FINITE, "groups": st.lists(TEXT, max_size=2),
    },
)  # fmt: skip
RETRIEVAL = some(
    {"task": st.one_of(TEXT, st.lists(TEXT, max_size=2))},
    {
        "item": st.lists(TEXT, max_size=2), "user": st.lists(TEXT, max_size=2), "dim": COUNT, "hidden": WIDTHS, "width": COUNT,
        "temperature": POSITIVE, "epochs": COUNT, "patience": COUNT, "batch": st.integers(2, 10**9), "rate": POSITIVE,
        "l2": st.floats(0, 1e9), "neighbours": COUNT, "shrink": st.floats(0, 1e9),
    },
)  # fmt: skip
WHOLE = some(
    {
        "data": DATA, "fields": st.dictionaries(NAMES, FIELD, max_size=3), "tasks": st.dictionaries(NAMES, TASK, max_size=3),
        "split": SPLIT, "model": MODEL,
    },
    {"fit": FIT, "balance": BALANCE, "evaluate": EVALUATE, "compare": COMPARE, "tune": TUNE, "transfer": TRANSFER,
     "feedback": some({}, {"lateness": TEXT, "skew": TEXT}), "episodes": EPISODES, "retrieval": RETRIEVAL},
)  # fmt: skip
SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataSection, "fields.user": FieldSection, "tasks.click": TaskSection, "model": ModelSection, "fit": FitSection,
    "balance": BalanceSection, "evaluate": EvaluateSection, "compare": CompareSection, "model.interact_sizes": InteractSection,
    "model.sequence_sizes": SequenceSection, "model.options": OptionSection, "tune": TuneSection, "transfer": TransferSection,
    "feedback": FeedbackSection, "tasks.click.feedback": RuleSection, "episodes": EpisodeSection,
    "retrieval": RetrievalSection,
}  # fmt: skip


@settings(deadline=None, max_examples=20)
@given(WHOLE)
def test_every_setting_comes_back_from_its_toml(tree: dict[str, Any]) -> None:
    before = parse(tree, where="here")
    text = before.to_toml()
    after = parse(tomllib.loads(text), where="there")
    assert after == before
    assert after.to_toml() == text
    assert (list(after.fields), list(after.tasks)) == (list(tree["fields"]), list(tree["tasks"])), "fields and tasks keep their order"


@settings(deadline=None, max_examples=20)
@given(WHOLE)
def test_what_was_given_is_what_is_held(tree: dict[str, Any]) -> None:
    held = parse(tree, where="here").model_dump(mode="python", exclude_unset=True)
    episodes = tree.get("episodes", {})
    if "query" in episodes and "support" not in episodes:  # beside a query the support is the rest
        assert held["episodes"].pop("support") is None
    assert listed(held) == tree


def listed(value: object) -> object:
    """Tuples as lists, as a run file writes them."""
    if isinstance(value, dict):
        return {key: listed(one) for key, one in value.items()}
    return [listed(one) for one in value] if isinstance(value, tuple | list) else value


def test_the_strategies_know_every_key() -> None:
    """Else a new key of a section would go untested."""
    sections: list[tuple[type[BaseModel], st.SearchStrategy[Any]]] = [
        (DataSection, DATA), (JoinSection, JOINS), (FieldSection, FIELD), (TaskSection, TASK), (ModelSection, MODEL), (FitSection, FIT),
        (BalanceSection, BALANCE), (EvaluateSection, EVALUATE), (CompareSection, COMPARE), (InteractSection, INTERACT),
        (SequenceSection, SEQUENCE), (OptionSection, OPTIONS), (TuneSection, TUNE), (RangeSection, SPANNED), (Settings, WHOLE),
        (RuleSection, LABELLED), (EpisodeSection, EPISODES), (RetrievalSection, RETRIEVAL),
    ]  # fmt: skip
    for section, strategy in sections:
        keys = {key for key in section.model_fields if repr(key) in repr(strategy)}
        assert keys == set(section.model_fields), section.__name__
    for split in (TimeSplit, UserSplit, ColumnSplit):
        assert all(repr(key) in repr(SPLIT) for key in split.model_fields)


def run_file(folder: Path) -> Path:
    path = folder / "run.toml"
    path.write_text(parse(BASE, where="here").to_toml(), encoding="utf-8")
    return path


CHANGES: list[tuple[str, tuple[str, ...], object]] = [
    ("fit.epochs=3", ("fit", "epochs"), 3),
    (" fit.epochs = 3 ", ("fit", "epochs"), 3),
    ("fit.rate=1e-2", ("fit", "rate"), 0.01),
    ("fit.exact=true", ("fit", "exact"), True),
    ("fit.device=cuda:1", ("fit", "device"), "cuda:1"),
    ("model.expert=[64, 32]", ("model", "expert"), (64, 32)),
    ("model.gate=[]", ("model", "gate"), ()),
    ("compare.recipes=['stem', \"ple\"]", ("compare", "recipes"), ("stem", "ple")),
    ("compare.rates=[0.001]", ("compare", "rates"), (0.001,)),
    ("data.log=a=b.csv", ("data", "log"), "a=b.csv"),
    ('data.log="3"', ("data", "log"), "3"),
    ("data.log='a\\b.csv'", ("data", "log"), "a\\b.csv"),
    ("data.log=über *.csv", ("data", "log"), "über *.csv"),
    ("data.log=", ("data", "log"), ""),
    ("evaluate.slices=['user']", ("evaluate", "slices"), ("user",)),
]


@pytest.mark.parametrize(("change", "place", "value"), CHANGES, ids=[change for change, _, _ in CHANGES])
def test_a_change_sets_one_key_and_no_other(tmp_path: Path, change: str, place: tuple[str, str], value: object) -> None:
    path = run_file(tmp_path)
    plain, changed = (read(path, asked).model_dump() for asked in ((), [change]))
    section, key = place
    assert changed[section][key] == value
    assert type(changed[section][key]) is type(value)
    changed[section][key] = plain[section][key]
    assert changed == plain


def test_changes_may_make_sections_and_the_last_one_holds(tmp_path: Path) -> None:
    asked = ["fields.hour.kind=category", "fields.hour.sql=h / 100", "tasks.buy.given=click", "fit.seed=1", "fit.seed=2"]
    found = read(run_file(tmp_path), asked)
    assert found.fields["hour"] == FieldSection(kind="category", sql="h / 100")
    assert found.tasks["buy"].given == "click"
    assert found.fit.seed == 2


def test_dates_and_times_by_a_change(tmp_path: Path) -> None:
    asked = ["split.by=time", "split.valid=2024-01-05", "split.test=2024-01-06T12:00:00+02:00"]
    path = tmp_path / "run.toml"
    path.write_text(parse({**BASE, "split": {"by": "time", "valid": 1, "test": 2}}, where="here").to_toml())
    found = read(path, asked).split
    assert isinstance(found, TimeSplit)
    assert (found.valid, type(found.valid)) == (date(2024, 1, 5), date)
    assert found.test == datetime(2024, 1, 6, 10, tzinfo=UTC)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_misspelt_key_is_told_its_spelling(section: str) -> None:
    for key in SECTIONS[section].model_fields:
        tree: dict[str, Any] = {name: dict(one) for name, one in BASE.items()}
        inner = tree
        for step in section.split("."):
            inner[step] = dict(inner.get(step, {}))
            inner = inner[step]
        inner[key + "_"] = 1
        with pytest.raises(UserError) as caught:
            parse(tree, where="run.toml")
        assert str(caught.value) == f"run.toml: unknown key '{section}.{key}_'; did you mean {key!r}?"


@pytest.mark.parametrize("name", ["join", "data", "split", "a.b", "ü"])
def test_a_field_of_any_name_is_told_the_keys_of_fields(name: str) -> None:
    with pytest.raises(UserError, match="did you mean 'kind'"):
        parse({**BASE, "fields": {name: {"kinds": "id"}}}, where="run.toml")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("fit", "epochs", 0), ("fit", "batch", 0), ("fit", "rate", 0.0), ("fit", "rate", math.nan), ("fit", "l2", -1e-9),
        ("fit", "seed", -1),
        ("fit", "clip", 0.0), ("fit", "minutes", 0), ("fit", "threads", -1), ("fit", "rows", "sgd"), ("fit", "denominator", "all"),
        ("model", "dim", 0), ("model", "dropout", 1.0), ("model", "layers", 0), ("model", "shared", -1), ("model", "expert", [0]),
        ("model", "tower", [8, -1]), ("model", "gate", [0]), ("model", "expert", 8), ("evaluate", "resamples", -1),
        ("compare", "seeds", 0), ("compare", "rates", [0.1, -0.1]), ("compare", "dims", [0]), ("compare", "margin", 0),
        ("transfer", "lead", 1.0), ("transfer", "of", "users"), ("transfer", "trained", -1), ("transfer", "center", "mean"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_with_its_place(section: str, key: str, value: Any) -> None:  # noqa: ANN401
    with pytest.raises(UserError) as caught:
        parse({**BASE, section: {**BASE.get(section, {}), key: value}}, where="run.toml")
    assert str(caught.value).startswith(f"run.toml: {section}.{key}")
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=20)
@given(MODEL, st.integers(1, 9))
def test_what_a_model_is_told_reaches_it(model: dict[str, Any], size: int) -> None:
    built = resolve.built(parse({**BASE, "model": model}, where="here"), {"user": size})
    for key, value in model.items():
        if key in ("options", "head"):
            assert listed(getattr(built, key)) == listed(value)
        elif isinstance(value, dict):
            assert all(getattr(getattr(built, key), inner) == one for inner, one in value.items())
        else:
            held = getattr(built, key) if hasattr(built, key) else getattr(built.sizes, key)
            assert held == (tuple(value) if isinstance(value, list) else value)
    assert built.sizes.vocabulary == {"user": size}

"""Training on from a bundle, by hand: which row of the old table each value starts from, what must be alike, what is seen again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
import pytest
import torch
from tests import logs
from tests.logs import BAG, CATEGORY, ID, NUMBER, ROWS, SCHEMA, SEQUENCE, changed

from umbel.built import Option
from umbel.bundle import Built, Bundle
from umbel.data.aside import Aside
from umbel.data.frequency import VALUE
from umbel.data.loader import Loader
from umbel.data.raw import encoded
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.calibrate import Calibrator, Identity, Platt
from umbel.learn.predict import predict
from umbel.nn.interact import InteractSizes
from umbel.nn.offset import Offsets
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.run.settings import FitSection
from umbel.run.warm import UNTIL, calibrators_of, check_plain, encoder_of, replay_of, warm_start
from umbel.schema import BINARY, Field, FieldKind, Schema, Statistic, Task

# Two tables of codes, one of them shared by a sequence, and a bag whose values are text.
FIELDS = (
    Field("user", ID, min_count=1),
    Field("item", ID, min_count=1),
    Field("age", NUMBER),
    Field("watched", SEQUENCE, like="item", target="item", length=3),
    Field("tags", BAG, length=2, min_count=1),
)
RICH = Schema(FIELDS, SCHEMA.tasks)
OLD = changed(tags=[["x"], ["y", "x"], [], None, ["x"], ["y"], ["z"], ["x"], ["y"], ["y"]])
# Other counts, so other codes; user 9 and item "z" are known now, user 3 is gone, item "new" and tag "w" are new.
NEW = changed(
    user=[9, 9, 9, 1, 2, 4, 9, 9, 2, 8], item=["z", "z", "new", "z", "b", "a", "z", "a", "b", "a"], age=[99.0, 20.0] * 5,
    watched=[["z", "z"], ["b"], None, ["c", "z"], [], ["b"], ["z"], ["a"], [], ["b"]],
    tags=[["w"], ["w"], ["w", "y"], ["z"], ["x"], [], None, ["x"], ["y"], ["y"]],
)  # fmt: skip


def calibrators(schema: Schema) -> dict[str, Calibrator]:
    return {task.name: Platt() if task.kind == BINARY else Identity() for task in schema.tasks}


def built(table: Table, recipe: str = "stem", sizes: Mapping[str, object] = MappingProxyType({})) -> Built:
    rows = {name: one.size for name, one in table.encoder.vocabularies.items()}
    plain = Sizes(rows, dim=3, expert=(5, 4), tower=(3,))
    return Built(recipe, replace(plain, **sizes))  # type: ignore[arg-type]


def bare(schema: Schema, *, sizes: Mapping[str, object] = MappingProxyType({})) -> Built:
    """What a run file alone says of a model: its vocabularies are not known, nor its edges."""
    plain = Sizes(dict.fromkeys(schema.tables, 1), dim=3, expert=(5, 4), tower=(3,))
    return Built("stem", replace(plain, **sizes))  # type: ignore[arg-type]


def model(table: Table, how: Built, *, seed: int) -> Recommender:
    """Every number drawn, so that none is right by chance."""
    torch.manual_seed(seed)
    made = how(table.schema).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


def saved(table: Table, folder: Path, how: Built | None = None, *, until: object = None) -> Path:
    how = how or built(table)
    kept = {"recipe": how.recipe, **({} if until is None else {UNTIL: until})}
    made = model(table, how, seed=1)
    Bundle(table.source, table.encoder, how, made, calibrators(table.schema), kept).save(folder, golden=table.golden())
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return logs.table(tmp_path_factory.mktemp("old"), OLD, RICH)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return logs.table(tmp_path_factory.mktemp("new"), NEW, RICH)


@pytest.fixture(scope="module")
def bundle(old: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(old, tmp_path_factory.mktemp("bundle") / "bundle")


def spans(table: Table) -> dict[str, int]:
    """Where each vocabulary's rows begin in the one table of embeddings."""
    begins, at = {}, 0
    for name in table.schema.tables:
        begins[name] = at
        at += table.encoder.vocabularies[name].size
    return begins


def codes(table: Table, name: str) -> dict[object, int]:
    return {value: at + 1 for at, value in enumerate(table.encoder.vocabularies[name].frame[VALUE].to_list())}


def test_every_row_starts_from_its_value(old: Table, new: Table, bundle: Path) -> None:
    """Against a loop over raw values: the known from their own row, the new from the unknown row of their own vocabulary."""
    how = built(new)
    made = model(new, how, seed=2)
    given = warm_start(made, new, how, start=str(bundle))
    here, there = spans(new), spans(old)
    for name in ("user", "item", "tags"):
        known = codes(old, name)
        rows = {None: 0, **codes(new, name)}
        assert any(value not in known for value in rows if value is not None), name
        assert any(known.get(value) not in (None, code) for value, code in rows.items()), f"{name}: codes are the same"
        for value, code in rows.items():
            expected = given.model.table[there[name] + known.get(value, 0)]
            assert torch.equal(made.table[here[name] + code], expected), f"{name} = {value}"


def test_all_else_is_as_it_was(new: Table, bundle: Path) -> None:
    how = built(new)
    made = model(new, how, seed=2)
    given = warm_start(made, new, how, start=str(bundle))
    theirs = given.model.state_dict()
    assert len(theirs) > 5
    for name, tensor in made.state_dict().items():
        assert name == "table" or torch.equal(tensor, theirs[name]), name


def test_the_bundle_itself_is_left_alone(new: Table, bundle: Path) -> None:
    how = built(new)
    made = model(new, how, seed=2)
    given = warm_start(made, new, how, start=str(bundle))
    before = {name: tensor.clone() for name, tensor in given.model.state_dict().items()}
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.model.state_dict().items())


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_of_known_values_score_as_they_did(old: Table, new: Table, recipe: str, tmp_path: Path) -> None:
    """Under every recipe: what else a model keeps is not by code."""
    options: dict[str, Option] = {"groups": (("click", "buy"), ("spent",))} if recipe in ("grouped", "home") else {}
    how = replace(built(old, recipe), options=options | ({"own": ("user",)} if recipe == "stem_fields" else {}))
    start = saved(old, tmp_path / "bundle", how)
    here = replace(how, sizes=built(new, recipe).sizes)
    made = model(new, here, seed=2)
    given = warm_start(made, new, here, start=str(start))
    rows = pl.DataFrame(ROWS, strict=False).with_columns(pl.Series("tags", OLD["tags"]))
    known = rows.filter(pl.col("user").is_in([1, 2]) & pl.col("item").is_in(["a", "b"]) & (pl.col("watched").list.len() == 0))
    assert known.height > 0
    encoder = new.encoder.rescaled(given.encoder.scales)
    assert np.abs(predict(made, [encoded(known, encoder)]) - predict(given.model, [encoded(known, given.encoder)])).max() < 1e-6


def test_values_of_another_type_are_the_same_values(old: Table, bundle: Path, tmp_path: Path) -> None:
    """A log that writes its users as text has the same users."""
    rows = {**NEW, "user": [str(one) for one in NEW["user"]]}
    text = logs.table(tmp_path, rows, RICH)
    how = built(text)
    made = model(text, how, seed=2)
    given = warm_start(made, text, how, start=str(bundle))
    at, known = codes(text, "user")["2"], codes(old, "user")[2]
    assert torch.equal(made.table[at], given.model.table[known])


def test_a_bundle_starts_itself_to_the_same_bytes(old: Table, bundle: Path) -> None:
    how = built(old)
    made = model(old, how, seed=2)
    given = warm_start(made, old, how, start=str(bundle))
    assert all(torch.equal(tensor, given.model.state_dict()[name]) for name, tensor in made.state_dict().items())
    batches = list(Loader(old, "test", 5, shuffle=False)(0))
    assert np.array_equal(predict(made, batches), predict(given.model, batches))


# what must be alike


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"dim": 4}, "model.dim = 3, the run file 4"),
        ({"expert": (5, 5)}, "model.expert = (5, 4), the run file (5, 5)"),
        ({"tower": ()}, "model.tower = (3,), the run file ()"),
        ({"layers": 2}, "model.layers = 1, the run file 2"),
        ({"specific": 2}, "model.specific"),
        ({"shared": 2}, "model.shared = 1, the run file 2"),
        ({"gate": (4,)}, "model.gate = (), the run file (4,)"),
    ],
)
def test_other_sizes_are_named(new: Table, bundle: Path, sizes: dict[str, object], says: str) -> None:
    how = built(new, sizes=sizes)
    with pytest.raises(UserError) as caught:
        warm_start(how(new.schema), new, how, start=str(bundle))
    assert says in str(caught.value)
    assert str(bundle) in str(caught.value)
    with pytest.raises(UserError) as early:
        encoder_of(FitSection(start=str(bundle)), RICH, bare(RICH, sizes=sizes))
    assert str(early.value) == str(caught.value), "told without the log, too"
    assert str(caught.value).endswith("make them alike, or train from nothing")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": "ple"}, "model.recipe = stem, the run file ple"),
        ({"views": "each"}, "model.views = None, the run file each"),
        ({"interact": "dcn"}, "model.interact = concatenate, the run file dcn"),
        ({"sequence": "din"}, "model.sequence = mean, the run file din"),
        ({"head": "aitm"}, "model.head = None, the run file aitm"),
        ({"interact_sizes": InteractSizes(layers=3)}, "model.interact_sizes"),
    ],
)
def test_other_pieces_are_named(new: Table, bundle: Path, change: dict[str, object], says: str) -> None:
    how = replace(built(new), **change)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="train from nothing") as caught:
        warm_start(built(new)(new.schema), new, how, start=str(bundle))
    assert says in str(caught.value)


def test_what_no_weight_has_may_differ(new: Table, bundle: Path) -> None:
    how = built(new, sizes={"dropout": 0.3, "id_dropout": 0.2})
    given = warm_start(how(new.schema), new, how, start=str(bundle))
    assert given.built.sizes.dropout == 0.0


def other(**fields: Field) -> tuple[Field, ...]:
    return tuple(fields.get(field.name, field) for field in FIELDS)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (Schema(FIELDS[:-1], SCHEMA.tasks), "order of fields"),
        (Schema((FIELDS[1], FIELDS[0], *FIELDS[2:]), SCHEMA.tasks), "order of fields"),
        (Schema(other(tags=Field("tags", CATEGORY, sql="age", min_count=1)), SCHEMA.tasks), "fields.tags"),
        (Schema(other(tags=Field("tags", BAG, length=3, min_count=1)), SCHEMA.tasks), "fields.tags"),
        (Schema(other(watched=Field("watched", SEQUENCE, length=3, min_count=1)), SCHEMA.tasks), "fields.watched"),
        (Schema(FIELDS, (SCHEMA.tasks[1], SCHEMA.tasks[0], SCHEMA.tasks[2])), "order of tasks"),
        (Schema(FIELDS, SCHEMA.tasks[:2]), "order of tasks"),
        (Schema(FIELDS, (Task("click"), Task("buy"), SCHEMA.tasks[2])), "tasks.buy"),
        (Schema(FIELDS, (Task("click"), Task("buy", given="click"), Task("spent", label="click"))), "tasks.spent"),
    ],
    ids=["fewer fields", "order", "kind", "length", "vocabulary", "order of tasks", "fewer tasks", "given", "kind of task"],
)
def test_another_schema_is_named(bundle: Path, tmp_path: Path, schema: Schema, says: str) -> None:
    table = logs.table(tmp_path, NEW, schema)
    how = built(table)
    with pytest.raises(UserError, match="train from nothing") as caught:
        warm_start(how(schema), table, how, start=str(bundle))
    assert f"has {says} = " in str(caught.value)
    with pytest.raises(UserError) as early:
        encoder_of(FitSection(start=str(bundle)), schema, bare(schema))
    assert str(early.value) == str(caught.value), "told without the log, too"


def test_weights_losses_and_how_often_a_value_is_seen_may_differ(bundle: Path, tmp_path: Path) -> None:
    fields = tuple(replace(field, min_count=2) for field in FIELDS)
    tasks = (replace(SCHEMA.tasks[0], weight=3.0, negatives=0.5), *SCHEMA.tasks[1:])
    table = logs.table(tmp_path, NEW, Schema(fields, tasks))
    how = built(table)
    warm_start(how(table.schema), table, how, start=str(bundle))


def statistic(*by: str, tasks: tuple[str, ...] = ("click", "buy"), prior: float = 20.0) -> Field:
    return Field("past", FieldKind.STATISTIC, statistic=Statistic(by, tasks, prior=prior))


@pytest.mark.parametrize(
    ("field", "alike"),
    [
        (statistic("user"), True),
        (statistic("user", prior=5.0), True),
        (statistic("item"), False),
        (statistic("user", tasks=("buy", "click")), False),
        (statistic("user", tasks=("click",)), False),
    ],
    ids=["same", "prior", "by", "order of tasks", "fewer tasks"],
)
def test_a_statistic_is_by_the_same_and_of_the_same(tmp_path: Path, field: Field, alike: bool) -> None:
    """As many numbers may mean others: means by item where means by user were."""
    first = logs.table(tmp_path / "old", OLD, Schema((*FIELDS, statistic("user")), SCHEMA.tasks))
    start = saved(first, tmp_path / "bundle")
    table = logs.table(tmp_path / "new", NEW, Schema((*FIELDS, field), SCHEMA.tasks))
    how = built(table)
    made = how(table.schema)
    if alike:
        warm_start(made, table, how, start=str(start))
        return
    with pytest.raises(UserError, match=r"has fields\.past = "):
        warm_start(made, table, how, start=str(start))


# offsets of items


def offset_bundle(table: Table, folder: Path) -> Path:
    """A bundle as episodes leave it: every item's prior is added to the outputs."""
    how = replace(built(table), offset="item")
    made = model(table, how, seed=1)
    assert isinstance(made.offsets, Offsets)
    made.offsets.values.normal_()
    Bundle(table.source, table.encoder, how, made, calibrators(table.schema), {"recipe": "stem"}).save(folder, golden=table.golden())
    return folder


def test_a_bundle_with_offsets_gives_its_weights(old: Table, new: Table, tmp_path: Path) -> None:
    """Offsets are of the items of its own log: those of the new one are made of it, and stand under the model afterwards."""
    start = offset_bundle(old, tmp_path / "bundle")
    how = built(new)
    made = model(new, how, seed=2)
    given = warm_start(made, new, how, start=str(start))
    theirs = given.model.state_dict()
    assert "offsets.values" in theirs
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in made.state_dict().items() if name != "table")
    whole = replace(how, offset="item")
    own = model(new, whole, seed=2)
    assert isinstance(own.offsets, Offsets)
    own.offsets.values.fill_(7.0)
    warm_start(own, new, whole, start=str(start))
    assert own.offsets.values.shape == (new.encoder.vocabularies["item"].size, 3)
    assert bool((own.offsets.values == 7.0).all())


def test_without_episodes_it_is_refused(old: Table, bundle: Path, tmp_path: Path) -> None:
    """Its weights answer what is left beside the offsets, which a plain training would not add."""
    start = offset_bundle(old, tmp_path / "bundle")
    with pytest.raises(UserError, match=r"fit\.start: .* adds offsets of 'item' to its outputs, the run file has no \[episodes\]"):
        check_plain(Bundle.load(start), start=str(start))
    check_plain(Bundle.load(bundle), start=str(bundle))


# scales, and rows that were seen


def test_numbers_are_scaled_as_the_bundle_scales_them(old: Table, bundle: Path, tmp_path: Path) -> None:
    found = encoder_of(FitSection(start=str(bundle)), RICH, bare(RICH))
    assert found is not None
    assert found.scales == old.encoder.scales
    assert found.scales["age"].mean != pytest.approx(59.5)
    assert encoder_of(FitSection(), RICH, bare(RICH)) is None
    with pytest.raises(UserError, match="not a bundle"):
        encoder_of(FitSection(start=str(tmp_path / "nowhere")), RICH, bare(RICH))


def test_a_task_that_has_no_label_any_more_keeps_its_calibrator(old: Table, tmp_path: Path) -> None:
    start = saved(old, tmp_path / "bundle")
    kept = Bundle.load(start).calibrators
    assert calibrators_of(FitSection(start=str(start)), ("buy",)) == {"buy": kept["buy"]}
    assert calibrators_of(FitSection(start=str(tmp_path / "nowhere")), ()) == {}, "nothing is looked for"
    assert calibrators_of(FitSection(), ("buy",)) == {}


def test_rows_up_to_the_latest_that_it_was_trained_on_are_old(new: Table, old: Table, tmp_path: Path) -> None:
    """The moment itself belongs to them."""
    for until, expected in ((-1, 0), (0, 1), (3, 4), (5, 6), (99, 6)):
        given = Bundle.load(saved(old, tmp_path / str(until), until=until))
        found = replay_of(given, new, 0.25)
        assert found is not None
        assert found.old.tolist() == [time <= until for time in new.times("train").tolist()]
        assert int(found.old.sum()) == expected
        assert found.share == 0.25


def test_whole_replay_asks_for_nothing(new: Table, bundle: Path) -> None:
    assert replay_of(Bundle.load(bundle), new, 1.0) is None


@pytest.mark.parametrize("until", [None, "yesterday", 3.5])
def test_a_bundle_that_does_not_say_until_when_is_refused(new: Table, old: Table, tmp_path: Path, until: object) -> None:
    given = Bundle.load(saved(old, tmp_path / "bundle", until=until))
    with pytest.raises(UserError, match=r"fit\.replay: which rows the bundle has seen is told by time"):
        replay_of(given, new, 0.0)


def test_a_log_without_time_cannot_tell_either(new: Table, old: Table, tmp_path: Path) -> None:
    given = Bundle.load(saved(old, tmp_path / "bundle", until=3))
    timeless = Table(new.folder, new.encoder, source=replace(new.source, time=None), parts=new.parts, aside=Aside())
    with pytest.raises(UserError, match=r"name it in \[data\], at both trainings"):
        replay_of(given, timeless, 0.5)

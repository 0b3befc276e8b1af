"""A model with offsets of its items is that model plus those numbers, wherever it is scored: rows, exports, bundles, requests."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import everykind, rated
from tests.everykind import fields
from torch import Tensor

from umbel.bundle import Built, Bundle
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.learn.predict import centre, predict
from umbel.nn.apart import Apart
from umbel.nn.offset import Offsets, raised
from umbel.nn.recommender import Recommender
from umbel.recipes import RECIPES
from umbel.serve.reader import Reader
from umbel.serve.records import Value
from umbel.study.explain.explain import Explainer

ROOT = Path(__file__).parents[2]
SCRIPT = """
import torch
from tests.laws.test_offset_laws import offset
from tests import everykind
for name in ("shared_bottom", "esmm"):
    model = offset(name)
    batch = everykind.fields(6)
    free = {field: {0: torch.export.Dim("rows", min=1, max=100_000)} for field in batch}
    graph = torch.export.export(model, (batch,), dynamic_shapes=(free,)).module()
    for rows in (1, 5, 64):
        other = everykind.fields(rows, seed=rows)
        torch.testing.assert_close(graph(other), model(other), atol=1e-6, rtol=1e-6)
    print(name)
"""


def plain(name: str) -> Recommender:
    torch.manual_seed(0)
    return everykind.awake(RECIPES[name](everykind.schema(3), everykind.sizes(shared=2))).eval()


def offset(name: str) -> Recommender:
    """The same model, with an offset for every item and task."""
    model = plain(name)
    rows = model.places.span("item")
    model.offsets = Offsets("item", (len(rows), 3))
    model.offsets.values.copy_(torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(1)))
    return model


def numbers(model: Recommender, batch: dict[str, Tensor]) -> Tensor:
    assert model.offsets is not None
    return model.offsets.values[batch["item"].long()]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_raised_by_its_items(name: str) -> None:
    batch = fields(7)
    model, base = offset(name), plain(name)
    tasks = len(model.schema.tasks)
    torch.testing.assert_close(model(batch)[:, :tasks], base(batch)[:, :tasks] + numbers(model, batch))
    assert torch.equal(model(batch)[:, tasks:], base(batch)[:, tasks:]), "a head's auxiliary outputs are left alone"


def test_an_unheard_item_has_the_unknown_ones_offset() -> None:
    made = Offsets("item", (3, 1))
    made.values.copy_(torch.tensor([[9.0], [1.0], [2.0]]))
    found = made({"item": torch.tensor([2, 1, 0, 3, 100, -1])})
    assert found[:, 0].tolist() == [2.0, 1.0, 9.0, 9.0, 9.0, 9.0]


def test_offsets_are_kept_and_not_trained() -> None:
    model = offset("shared_bottom")
    assert not any("offsets" in name for name, _ in model.named_parameters())
    assert "offsets.values" in model.state_dict()
    assert set(model.groups()) == set(plain("shared_bottom").groups())


def test_raising_leaves_further_outputs_alone() -> None:
    found = raised(torch.zeros(2, 4), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert found.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0]]
    assert raised(torch.ones(2, 3), torch.zeros(2, 0)).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert raised(torch.zeros(2, 5, 3), torch.ones(2, 5, 1)).sum() == 10


def test_an_exported_graph_is_raised_too() -> None:
    """In a process of its own, since the checks of shapes while tests run cannot be exported."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], check=False, capture_output=True, text=True,
                         cwd=ROOT, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == ["shared_bottom", "esmm"]


@pytest.mark.parametrize(("once", "own"), [
    (("user", "age"), ("item", "price", "tags", "picture")),
    (("user", "item"), ("price",)),
    (("user",), ("price",)),
    (tuple(one.name for one in everykind.FIELDS), ()),
    (tuple(one.name for one in everykind.FIELDS if one.name != "item"), ("item",)),
    ((), ()),
])
def test_rows_apart_are_raised_wherever_the_item_stands(once: tuple[str, ...], own: tuple[str, ...]) -> None:
    """Among what is shared, what is kept, or the rest; kept in two goes."""
    model, rows = offset("stem"), 6
    rest = [one.name for one in everykind.FIELDS if one.name not in (*once, *own)]
    shared, things, others = ({name: column for name, column in fields(count, seed=seed).items() if name in names}
                              for names, count, seed in ((once, 1, 1), (own, 4, 2), (rest, rows, 3)))
    apart = Apart(model, once=once, own=own)
    asked = torch.tensor([3, 0, 0, 2, 1, 3])
    if own:
        apart.keep({name: column[:2] for name, column in things.items()})
        apart.keep({name: column[2:] for name, column in things.items()})
    whole = {name: column.expand(rows, *column.shape[1:]) for name, column in shared.items()}
    whole |= {name: column[asked] for name, column in things.items()} | others
    with torch.inference_mode():
        expected = model(whole)
    torch.testing.assert_close(apart.logits(asked, shared, others), expected, atol=1e-6, rtol=1e-6)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return rated.table(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def bundle(table: Table) -> Bundle:
    """A bundle whose model has the item means of its table."""
    return rated.bundle(table)


def test_a_bundle_keeps_its_offsets(table: Table, bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "bundle", golden=table.golden())
    back = Bundle.load(tmp_path / "bundle")
    assert back.built.offset == "item"
    assert back.model.offsets is not None
    assert bundle.model.offsets is not None
    assert torch.equal(back.model.offsets.values, bundle.model.offsets.values)
    batch = table.batch(np.arange(20))
    assert np.array_equal(back.predict(batch), bundle.predict(batch))


def test_offsets_that_are_forgotten_are_refused(table: Table, bundle: Bundle, tmp_path: Path) -> None:
    """Weights without them do not fit a recipe with them, and the other way round."""
    lost = replace(bundle, built=replace(bundle.built, offset=None))
    lost.save(tmp_path / "bundle", golden=table.golden())
    with pytest.raises(UserError, match="does not fit the recipe"):
        Bundle.load(tmp_path / "bundle")


def test_a_field_that_is_not_there_is_no_offset(table: Table) -> None:
    built = Built("shared_bottom", rated.sizes(table), offset="nothing")
    with pytest.raises((UserError, KeyError, StopIteration)):
        built(table.schema)


def test_scoring_raw_rows_equals_evaluation(table: Table, bundle: Bundle) -> None:
    """The table's rows, by their codes, and the log's, by their values, to 1e-6."""
    by_value = np.concatenate([scores for _, scores in bundle.score(table.source)])
    rows = np.concatenate([np.arange(len(table.parts[part])) + table.parts[part].start for part in table.parts])
    by_code = bundle.predict(table.batch(rows))
    assert sorted(by_value[:, 0].round(5).tolist()) == pytest.approx(sorted(by_code[:, 0].round(5).tolist()), abs=2e-5)
    assert by_value.mean(0) == pytest.approx(by_code.mean(0), abs=1e-6)


def test_a_request_is_answered_as_offline(bundle: Bundle) -> None:
    """What serving embeds once is raised as well: predictions of a request are those of the same rows."""
    log = rated.log().head(6)
    shared: dict[str, Value] = {"user": int(log["user"][0]), "age": str(log["age"][0])}
    items: list[dict[str, Value]] = log.select("item", "genres", "year").to_dicts()
    frame = log.with_columns(user=pl.lit(log["user"][0]), age=pl.lit(log["age"][0]))
    from umbel.data.raw import encoded

    expected = bundle.predict(encoded(frame, bundle.encoder))
    reader = Reader(bundle)
    assert reader.predict(shared, items) == pytest.approx(expected, abs=1e-5)
    assert reader.predict(shared, items[::-1]) == pytest.approx(expected[::-1], abs=1e-5)


def test_predicting_and_the_log_odds(table: Table, bundle: Bundle) -> None:
    """Of an untrained model with an empty table the prediction is the offset itself."""
    model = Built("shared_bottom", rated.sizes(table), offset="item")(table.schema)
    with torch.no_grad():
        for one in model.parameters():
            one.zero_()
    assert model.offsets is not None
    assert bundle.model.offsets is not None
    model.offsets.values.copy_(bundle.model.offsets.values)
    batch = table.batch(np.arange(10))
    assert predict(model.eval(), [batch]) == pytest.approx(model.offsets.values[batch.fields["item"].long()].numpy(), abs=1e-7)


@pytest.mark.parametrize("tasks", [(), ("click",)])
def test_an_explanation_adds_up_to_the_raised_prediction(table: Table, bundle: Bundle, tasks: tuple[str, ...]) -> None:
    """What an item is offset by counts among what its field adds; the base is a mean row of an unknown item."""
    explained = replace(bundle, centre=centre(bundle.model, [table.batch(np.arange(30))]))
    batch = table.batch(np.arange(10))
    found = Explainer(explained, tasks).explain(batch)
    logits = predict(bundle.model, [batch])
    columns = [0, 1] if not tasks else [1]
    assert found.value == pytest.approx(logits[:, columns], abs=1e-5)
    assert found.base + found.contributions.sum(2) == pytest.approx(found.value, rel=2e-3, abs=1e-3)
    bare = replace(explained, model=without_offsets(bundle))
    other = Explainer(bare, tasks).explain(batch)
    assert bundle.model.offsets is not None
    moved = (bundle.model.offsets(batch.fields) - bundle.model.offsets.values[0]).numpy()[:, columns]
    item = found.fields.index("item")
    assert found.contributions[:, :, item] - other.contributions[:, :, item] == pytest.approx(moved, abs=1e-6)
    rest = [at for at in range(len(found.fields)) if at != item]
    assert found.contributions[:, :, rest] == pytest.approx(other.contributions[:, :, rest], abs=1e-9)


def without_offsets(bundle: Bundle) -> Recommender:
    """The bundle's model without its offsets."""
    model = copy.deepcopy(bundle.model)
    model.offsets = None
    return model

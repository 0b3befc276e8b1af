"""A retrieval trained on planted tastes: it brings what users like, a bundle carries it whole, and a stopped training goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file, save_file
from tests.retrieving import ITEMS, TASTES, planted

from umbel.bundle import Bundle
from umbel.data.table import Table
from umbel.errors import UserError
from umbel.evaluate.metrics import Undefined
from umbel.manifest import seal
from umbel.nn.towers import Sides
from umbel.retrieve.queries import Queries, placed, positives
from umbel.retrieve.retrieval import TENSORS, Retrieval
from umbel.run.candidates import fit_retrieval
from umbel.run.page import page
from umbel.run.recalls import section, to_json
from umbel.run.report import Report, read_report
from umbel.run.run import train
from umbel.run.settings import Settings, read
from umbel.run.watch import Silence


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests read it and leave it alone."""
    folder = tmp_path_factory.mktemp("retrieval")
    train(read(planted(folder)), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def retrieval(run: Path) -> Retrieval:
    found = Bundle.load(run / "bundle").retrieval
    assert found is not None
    return found


def told(run: Path) -> Mapping[str, Any]:
    return read_report(run / "report.json").retrieval


def value(run: Path, k: int, source: str) -> float:
    return float(told(run)["recall"][f"recall@{k}"][source]["value"])


def test_towers_bring_what_popularity_does_not(run: Path) -> None:
    gain = told(run)["gained"]["recall@20"]["popular"]
    assert gain["low"] > 0.15
    assert value(run, 20, "two_tower") > 0.5
    assert value(run, 20, "popular") < 0.3
    assert value(run, 20, "union") >= max(value(run, 20, source) for source in ("two_tower", "popular", "similar"))
    assert told(run)["user_fields"] == ["user", "taste"]
    assert told(run)["item_fields"] == ["item", "kind", "price"]


def test_the_nearest_items_of_a_user_are_of_its_taste(run: Path, retrieval: Retrieval) -> None:
    table = Table.open(run / "table")
    rows = np.arange(200)
    nearest = np.argsort(-retrieval.users(table.batch(rows).fields) @ retrieval.vectors.T, axis=1)[:, :10]
    item = table.encoder.decode("item", retrieval.codes).to_numpy()
    taste = table.encoder.decode("taste", table.column("taste", "train")[rows]).to_numpy()
    assert (item[nearest] % TASTES == taste[:, None]).mean() > 0.9


def test_a_new_item_is_near_those_of_its_kind(run: Path, retrieval: Retrieval) -> None:
    table = Table.open(run / "table")
    rows = np.arange(100)
    fields = table.batch(rows).fields
    new = retrieval.items({**fields, "item": torch.zeros(len(rows), dtype=torch.int32)})
    kinds = table.encoder.decode("item", retrieval.codes).to_numpy() % TASTES
    nearest = np.argsort(-new @ retrieval.vectors.T, axis=1)[:, :5]
    own = table.encoder.decode("item", table.column("item", "train")[rows]).to_numpy() % TASTES
    assert (kinds[nearest] == own[:, None]).mean() > 0.9


def test_vectors_are_those_of_the_tower_for_every_item_of_training(run: Path, retrieval: Retrieval) -> None:
    table = Table.open(run / "table")
    code = table.column("item", "train")
    assert retrieval.codes.tolist() == sorted(set(code.tolist()) - {0})
    last = [int(np.flatnonzero(code == one)[-1]) for one in retrieval.codes]
    assert_allclose(retrieval.items(table.batch(np.array(last)).fields), retrieval.vectors, atol=1e-6)
    liked = positives(table, "train", ["click"])
    assert retrieval.positives.tolist() == [int((liked & (code == one)).sum()) for one in retrieval.codes]


def test_a_bundle_has_it_again_after_loading(run: Path, retrieval: Retrieval) -> None:
    again = Bundle.load(run / "bundle").retrieval
    assert again is not None
    assert (again.sides, again.sizes) == (retrieval.sides, retrieval.sizes)
    assert retrieval.sides == Sides("item", ("user", "taste"), ("item", "kind", "price"))
    for name in ("codes", "positives", "vectors"):
        assert_array_equal(getattr(again, name), getattr(retrieval, name))
    assert_array_equal(again.neighbours.places, retrieval.neighbours.places)


def test_a_bundle_whose_towers_were_changed_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "bundle", tmp_path / "bundle")
    path = tmp_path / "bundle" / TENSORS
    tensors = load_file(path)
    save_file({**tensors, "towers.user.biases.0": tensors["towers.user.biases.0"] + 1}, path)
    with pytest.raises(UserError, match=f"{TENSORS}: is truncated or changed"):
        Bundle.load(tmp_path / "bundle")
    seal(tmp_path / "bundle")
    with pytest.raises(UserError, match="golden rows have other vectors"):
        Bundle.load(tmp_path / "bundle")


def test_a_training_that_was_stopped_goes_on_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    settings, table = read(planted(tmp_path)), Table.open(run / "table")

    def fitted(one: Settings, folder: Path) -> Retrieval:
        found = fit_retrieval(one, table, folder, watch=Silence())
        assert found is not None
        return found.retrieval

    whole = fitted(settings, tmp_path / "whole")
    assert settings.retrieval is not None
    short = settings.model_copy(update={"retrieval": settings.retrieval.model_copy(update={"epochs": 2})})
    fitted(short, tmp_path / "parts")
    parts = fitted(settings, tmp_path / "parts")
    assert_array_equal(parts.vectors, whole.vectors)
    lines = (tmp_path / "parts" / "retrieval" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert 2 < len(lines) <= 6


def test_queries_ask_for_items_of_training_that_a_user_had_not_met(run: Path, retrieval: Retrieval) -> None:
    table = Table.open(run / "table")
    queries = Queries.of(table, "test", item="item", tasks=["click"], codes=retrieval.codes)
    users, then = table.groups("train"), table.column("item", "train")
    met = {(int(one), int(code)) for one, code in zip(users, then, strict=True)}
    wanted = retrieval.codes[queries.wanted]
    assert not met & set(zip(queries.user.tolist(), wanted.tolist(), strict=True))
    asked = [
        (int(one), int(code))
        for one, code, holds in zip(table.groups("test"), table.column("item", "test"), positives(table, "test", ["click"]), strict=True)
        if holds and code and (int(one), int(code)) not in met
    ]
    assert list(zip(queries.user.tolist(), wanted.tolist(), strict=True)) == asked
    assert sum(queries.lost.values()) + len(queries.rows) == int(positives(table, "test", ["click"]).sum())
    scores = queries.unmet(np.zeros((len(asked), len(retrieval.codes))), slice(0, len(asked)))
    assert np.isfinite(scores[np.arange(len(asked)), queries.wanted]).all()
    assert int(np.isneginf(scores[0]).sum()) == len({code for one, code in met if one == asked[0][0] and code})


def test_places_are_found_among_sorted_codes() -> None:
    assert placed(np.array([3, 9, 0, 5]), np.array([3, 5], np.int32)).tolist() == [0, -1, -1, 1]
    assert placed(np.array([3]), np.array([], np.int32)).tolist() == [-1]


def test_the_page_tells_of_it(run: Path) -> None:
    report = read_report(run / "report.json")
    text = (run / "report.html").read_text()
    assert text == page(report)
    assert "Retrieval" in text
    assert "nearest by two towers" in text
    assert Report.from_json(report.to_json()).retrieval == report.retrieval
    assert section({}) == ""


def test_what_cannot_be_had_is_null_with_a_reason() -> None:
    why = Undefined("nobody asks")
    saved = to_json({"lost": {}, "items": 1, "positives": 1, "rows": 0, "users": 0}, {20: dict.fromkeys(
        ("two_tower", "popular", "similar", "union"), why)})
    recalls: Any = saved["recall"]
    assert recalls["recall@20"]["union"] == {"value": None, "low": None, "high": None, "reason": "nobody asks"}
    assert "nobody asks" in section(saved)


@pytest.mark.parametrize(("changes", "said"), [
    (["retrieval.task=\"clik\""], "retrieval.task: no binary task 'clik'; did you mean 'click'?"),
    (["retrieval.task=[]"], "retrieval.task: none"),
    (["retrieval.temperature=0"], "retrieval.temperature = 0"),
    (["retrieval.user=[\"kind\"]"], "retrieval.user: 'kind' tells the item"),
    (["retrieval.size=3"], "unknown key 'retrieval.size'"),
])
def test_what_is_wrong_with_the_section_is_said_in_one_line(tmp_path: Path, changes: list[str], said: str) -> None:
    path = planted(tmp_path)
    with pytest.raises(UserError) as caught:
        train(read(path, [*changes, "fit.epochs=1"]), tmp_path / "run")
    assert said in str(caught.value)


def test_several_tasks_are_positives_together(run: Path) -> None:
    table = Table.open(run / "table")
    both = table.under((*table.schema.tasks, replace(table.schema.tasks[0], name="other")))
    assert_array_equal(positives(table, "train", ["click"]), positives(both, "train", ["click"]))
    assert not positives(table, "train", []).any()
    assert ITEMS == 120
